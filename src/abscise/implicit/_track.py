"""Track: what a tracker has noted, as data; and the strict reader of its file of JSON lines."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from abscise._errors import StoreError
from abscise._json import MAX_NUMBER, Fields, check_format, describe, parse_json, read_fields
from abscise.implicit._activity import Activity
from abscise.implicit._diagnose import DEAD
from abscise.implicit._firing import CURVE, Firing, LayerFiring
from abscise.implicit._records import HISTOGRAM, LayerRecord, Record

FORMAT = 1
_RECORD = ("format", "kind", "step", "layers")
_FIRING = (*_RECORD, "samples", "wall_s")
_WEIGHTS = ("layer", "units", "by", "dead", "revived", "histogram", "gradient_to_decay")
_ACTIVE = ("layer", "units", "silent", "selectivity", "curve", "of_one_class")


@dataclass(frozen=True, slots=True)
class Track:
    """What a `Tracker` has noted over one training, in order of time.

    Args:
        weights: What the weights said.
        activity: What passes over data said.
    """

    weights: tuple[Record, ...] = ()
    activity: tuple[Firing, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is out of order: two runs in one file, for example."""
        steps = ([it.step for it in self.weights], [it.step for it in self.activity])
        for before, after in (pair for of_kind in steps for pair in pairwise(of_kind)):
            if after <= before:
                message = f"step must be more than {before}, got {after}"
                raise ValueError(message)


def track_of(records: Sequence[Record | Activity]) -> Track:
    """What a tracker gave a sink of yours, such as the `append` of a list."""
    return Track(
        tuple(it for it in records if isinstance(it, Record)),
        tuple(it.summary() for it in records if isinstance(it, Activity)),
    )


def read_track(path: Path) -> Track:
    """The track in a file that `JsonLines` wrote.

    Raises:
        StoreError: The file cannot be read, or a line is not one of ours, or is out of order; the
            text says which.
    """
    try:
        content = path.read_bytes()
    except OSError as problem:
        message = f"cannot read {path}: {problem.strerror or problem}"
        raise StoreError(message) from problem
    weights: list[Record] = []
    activity: list[Firing] = []
    for number, line in enumerate(content.splitlines(), start=1):
        where = f"{path}, line {number}"
        found = line_from_json(parse_json(line, where, StoreError), where)
        before: Sequence[Record | Firing] = weights if isinstance(found, Record) else activity
        if before and found.step <= before[-1].step:
            message = (
                f"{where}: step must be more than {before[-1].step}, got {found.step}: a file "
                "holds one run"
            )
            raise StoreError(message)
        if isinstance(found, Record):
            weights.append(found)
        else:
            activity.append(found)
    if not weights and not activity:
        message = f"{path}: holds no record of a tracker"
        raise StoreError(message)
    return Track(tuple(weights), tuple(activity))


def line_from_json(value: object, where: str, wanted: str = "") -> Record | Firing:
    """One record as its `to_json` gave it; of the kind `wanted`, where one is.

    Raises:
        StoreError: A field is missing, unknown, of the wrong type or out of range.
    """
    check_format(value, FORMAT, where, "track the training again", StoreError)
    kind = value.get("kind") if isinstance(value, dict) else None
    if kind == "activity" and wanted in {"", kind}:
        return _firing(read_fields(value, _FIRING, where, StoreError))
    if kind == "weights" and wanted in {"", kind}:
        return _record(read_fields(value, _RECORD, where, StoreError))
    message = f"{where}: kind must be {wanted or 'weights or activity'}, got {describe(kind)}"
    raise StoreError(message)


def _record(fields: Fields) -> Record:
    layers = tuple(map(_layer_record, fields.objects("layers", _WEIGHTS)))
    _check_names(fields, [it.layer for it in layers])
    return Record(fields.integer("step"), layers, DEAD)


def _layer_record(fields: Fields) -> LayerRecord:
    units = fields.integer("units")
    bins = fields.integers("histogram", 0, units)
    if len(bins) != len(HISTOGRAM) + 1 or sum(bins) != units:
        fields.refuse("histogram", f"{len(HISTOGRAM) + 1} counts of {units} units together")
    return LayerRecord(
        layer=_layer(fields),
        units=units,
        scaled=fields.text("by", ("gamma", "weights")) == "gamma",
        dead=_dead(fields, units),
        revived=fields.integer("revived", 0, units),
        histogram=bins,
        gradient_to_decay=fields.optional("gradient_to_decay", fields.number),
    )


def _dead(fields: Fields, units: int) -> dict[float, int]:
    counts = fields.mapping("dead")
    inner = Fields(counts, f"{fields.where}: dead", fields.error)
    found: dict[float, int] = {}
    for key in counts:
        try:
            threshold = float(key)
        except ValueError:
            threshold = 0.0
        if not 0 < threshold < MAX_NUMBER:
            fields.refuse("dead", f"counts below thresholds > 0 (not {describe(key)})")
        found[threshold] = inner.integer(key, 0, units)
    if DEAD not in found:
        fields.refuse("dead", f"counts of which one is below {DEAD:g}")
    return found


def _check_names(fields: Fields, names: Sequence[str]) -> None:
    if not names or len(set(names)) < len(names):
        fields.refuse("layers", "at least one layer, and each once")


def _firing(fields: Fields) -> Firing:
    layers = tuple(map(_layer_firing, fields.objects("layers", _ACTIVE)))
    _check_names(fields, [it.layer for it in layers])
    return Firing(
        step=fields.integer("step"),
        samples=fields.integer("samples", 1),
        wall_s=fields.number("wall_s"),
        layers=layers,
    )


def _layer_firing(fields: Fields) -> LayerFiring:
    units = fields.integer("units", 1)
    silent = fields.integer("silent", 0, units)
    mean = fields.optional("selectivity", lambda name: fields.number(name, 0, 1))
    if (mean is None) != (silent == units):
        fields.refuse("selectivity", "null where all units are silent, and only there")
    curve = tuple(
        Fields({"curve": it}, fields.where, fields.error).number("curve", 0, 1)
        for it in fields.items("curve", min(units, CURVE))
    )
    if any(after < before for before, after in pairwise(curve)):
        fields.refuse("curve", "rising")
    return LayerFiring(
        layer=_layer(fields),
        units=units,
        silent=silent,
        selectivity=mean,
        curve=curve,
        of_one_class=fields.optional("of_one_class", lambda name: fields.integers(name, 0, units)),
    )


def _layer(fields: Fields) -> str:
    """The name of a layer; that of a network which is one layer is empty."""
    return fields.text("layer")
