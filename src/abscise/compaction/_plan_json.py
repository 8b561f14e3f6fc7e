"""Plan to JSON and back: plain data out, every field checked on the way in. No torch."""

from collections.abc import Mapping
from itertools import pairwise

from abscise._errors import PlanError
from abscise._json import Fields, check_format, read_fields
from abscise.compaction._plan import (
    FORMAT,
    Attribute,
    AxisEdit,
    Fold,
    GroupedEdit,
    LayerSummary,
    Plan,
    Removal,
    Selection,
)

_PLAN = (
    "format",
    "fingerprint",
    "inputs",
    "removals",
    "edits",
    "grouped",
    "folds",
    "attributes",
    "layers",
    "pinned",
    "units",
    "pinned_units",
    "near_dead",
    "selections",
    "conditions",
)
_MAX_AXIS = 7
_MAX_SIZE = 2**31
_MAX_INPUT_DEPTH = 20


def plan_to_json(plan: Plan) -> dict[str, object]:
    """`plan` as dicts, lists and numbers that `json.dumps` writes."""
    return {
        "format": plan.format,
        "fingerprint": plan.fingerprint,
        "inputs": dict(plan.inputs),
        "removals": [
            {"unit": item.unit, "layer": item.layer, "index": item.index, "why": item.why}
            for item in plan.removals
        ],
        "edits": [
            {"name": item.name, "axis": item.axis, "size": item.size, "removed": list(item.removed)}
            for item in plan.edits
        ],
        "grouped": [_grouped_to_json(item) for item in plan.grouped],
        "folds": [
            {"reader": item.reader, "into": item.into, "target": item.target} for item in plan.folds
        ],
        "attributes": [
            {"module": item.module, "name": item.name, "value": item.value}
            for item in plan.attributes
        ],
        "layers": [
            {
                "layer": item.layer,
                "units": item.units,
                "removed": item.removed,
                "pinned": item.pinned,
                "reasons": list(item.reasons),
            }
            for item in plan.layers
        ],
        "pinned": dict(plan.pinned),
        "units": plan.units,
        "pinned_units": plan.pinned_units,
        "near_dead": plan.near_dead,
        "selections": [
            {"module": item.module, "size": item.size, "dropped": list(item.dropped)}
            for item in plan.selections
        ],
        "conditions": list(plan.conditions),
    }


def plan_from_json(value: object) -> Plan:
    """The plan that `value` describes.

    Raises:
        PlanError: A field is missing, unknown, of the wrong type, out of range, or contradicts
            another; the text names the field.
    """
    way_out = "update abscise or propose the plan again"
    check_format(value, FORMAT, "plan", way_out, PlanError)
    fields = read_fields(value, _PLAN, "plan", PlanError)
    plan = Plan(
        fingerprint=fields.name("fingerprint"),
        inputs=_inputs(fields),
        removals=tuple(
            map(_removal, fields.objects("removals", ("unit", "layer", "index", "why")))
        ),
        edits=tuple(map(_edit, fields.objects("edits", ("name", "axis", "size", "removed")))),
        grouped=tuple(
            map(_grouped, fields.objects("grouped", ("name", "groups", "size", "removed")))
        ),
        folds=tuple(map(_fold, fields.objects("folds", ("reader", "into", "target")))),
        attributes=tuple(
            map(_attribute, fields.objects("attributes", ("module", "name", "value")))
        ),
        layers=tuple(
            map(
                layer_from_fields,
                fields.objects("layers", ("layer", "units", "removed", "pinned", "reasons")),
            )
        ),
        pinned=_pinned(fields),
        units=fields.integer("units"),
        pinned_units=fields.integer("pinned_units"),
        near_dead=fields.integer("near_dead"),
        selections=tuple(
            map(_selection, fields.objects("selections", ("module", "size", "dropped")))
        ),
        conditions=fields.texts("conditions"),
        format=fields.integer("format", FORMAT, FORMAT),
    )
    _check_whole(plan, fields)
    return plan


def _grouped_to_json(item: GroupedEdit) -> dict[str, object]:
    removed = [None if offsets is None else list(offsets) for offsets in item.removed]
    return {"name": item.name, "groups": item.groups, "size": item.size, "removed": removed}


def _removal(fields: Fields) -> Removal:
    return Removal(
        unit=fields.integer("unit"),
        layer=fields.text("layer"),
        index=fields.integer("index", 0, _MAX_SIZE),
        why=fields.text("why", ("unread", "constant")),
    )


def _edit(fields: Fields) -> AxisEdit:
    size = fields.integer("size", 1, _MAX_SIZE)
    removed = _ascending(fields, "removed", size)
    if len(removed) == size:
        fields.refuse("removed", f"fewer than all {size} indices")
    return AxisEdit(
        name=fields.name("name"),
        axis=fields.integer("axis", 0, _MAX_AXIS),
        size=size,
        removed=removed,
    )


def _grouped(fields: Fields) -> GroupedEdit:
    groups = fields.integer("groups", 1, _MAX_SIZE)
    size = fields.integer("size", 1, _MAX_SIZE)
    removed = tuple(
        None
        if item is None
        else _ascending(Fields({"removed": item}, fields.where, fields.error), "removed", size)
        for item in fields.items("removed", groups)
    )
    if all(offsets is None for offsets in removed):
        fields.refuse("removed", f"fewer than all {groups} groups")
    if any(offsets is not None and len(offsets) == size for offsets in removed):
        fields.refuse("removed", f"null, or fewer than all {size} offsets, for each group")
    return GroupedEdit(fields.name("name"), groups, size, removed)


def _selection(fields: Fields) -> Selection:
    size = fields.integer("size", 1, _MAX_SIZE)
    dropped = _ascending(fields, "dropped", size)
    if not 0 < len(dropped) < size:
        fields.refuse("dropped", f"at least one and fewer than all {size} indices")
    return Selection(module=fields.text("module"), size=size, dropped=dropped)


def _fold(fields: Fields) -> Fold:
    return Fold(
        reader=fields.text("reader"),
        into=fields.text("into", ("bias", "running_mean", "new_bias", "carrier")),
        target=fields.name("target"),
    )


def _attribute(fields: Fields) -> Attribute:
    name = fields.name("name")
    if not name.isidentifier() or name.startswith("_"):
        fields.refuse("name", "the public name of a size, e.g. out_channels")
    return Attribute(
        module=fields.text("module"), name=name, value=fields.integer("value", 0, _MAX_SIZE)
    )


def layer_from_fields(fields: Fields) -> LayerSummary:
    """One row of the printed table; a report holds the same."""
    units = fields.integer("units")
    return LayerSummary(
        layer=fields.text("layer"),
        units=units,
        removed=fields.integer("removed", 0, units),
        pinned=fields.integer("pinned", 0, units),
        reasons=fields.texts("reasons"),
    )


def _ascending(fields: Fields, name: str, size: int) -> tuple[int, ...]:
    indices = fields.integers(name, 0, size - 1)
    if any(first >= second for first, second in pairwise(indices)):
        fields.refuse(name, "ascending, each index once")
    return indices


def _pinned(fields: Fields) -> Mapping[str, int]:
    found = fields.mapping("pinned")
    inner = Fields(found, f"{fields.where}: pinned", fields.error)
    return {reason: inner.integer(reason) for reason in found}


def _inputs(fields: Fields) -> Mapping[str, object]:
    found = fields.mapping("inputs")
    if _depth(found, _MAX_INPUT_DEPTH) > _MAX_INPUT_DEPTH:
        fields.refuse("inputs", f"nested at most {_MAX_INPUT_DEPTH} deep")
    return found


def _depth(value: object, limit: int) -> int:
    if limit < 0 or not isinstance(value, dict | list):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max((_depth(item, limit - 1) for item in inner), default=0)


def _check_whole(plan: Plan, fields: Fields) -> None:
    """What single fields cannot show: nothing twice, and no more than there is."""
    if len({item.unit for item in plan.removals}) != len(plan.removals):
        fields.refuse("removals", "one entry per unit")
    axes = [(item.name, item.axis) for item in plan.edits] + [
        (item.name, 1) for item in plan.grouped
    ]
    if len(set(axes)) != len(axes):
        fields.refuse("edits", "at most one per axis")
    if len({item.module for item in plan.selections}) != len(plan.selections):
        fields.refuse("selections", "at most one per module")
    for item in plan.selections:
        columns = plan.columns(item.weight)
        if len(set(columns)) != len(columns) or len(columns) >= item.size:
            fields.refuse("selections", "of inputs that no edit removes, and never of all")
    if plan.pinned_units + len(plan.removals) > plan.units:
        fields.refuse("units", "at least the pinned and the removed ones together")
