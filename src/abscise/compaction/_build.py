"""From a decision to a `Plan`: edits, attributes, folds and the printed table."""

import fnmatch
from collections import Counter
from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray
from torch import nn

from abscise._inputs import Inputs
from abscise._units import Axis, UnitMap
from abscise.compaction._decide import Decision, all_folded, folded_channels
from abscise.compaction._fingerprint import fingerprint
from abscise.compaction._folding import Site
from abscise.compaction._inputs_json import describe_inputs
from abscise.compaction._plan import (
    AxisEdit,
    Fold,
    GroupedEdit,
    LayerSummary,
    Plan,
    Removal,
)
from abscise.compaction._selecting import plan_selections
from abscise.compaction._sizes import attributes_after
from abscise.compaction._slices import layer_names, small_units, writing_slices
from abscise.graph import Analysis, unit_ids
from abscise.graph.rules import channel_units

Units = NDArray[np.bool_]
NEAR_DEAD = 1e-3


def unit_map(analysis: Analysis, extra: Mapping[int, str] | None = None) -> UnitMap:
    """Units as users see them: layers that write them, axes, and why some are pinned."""
    labels, program = analysis.labels, analysis.program
    names = layer_names(analysis)
    written = np.zeros(len(labels.roots), dtype=bool)
    layers: dict[str, NDArray[np.int64]] = {}
    for position, rows in labels.writers:
        units = unit_ids(labels.roots, rows)
        written[units[units >= 0]] = True
        _ = layers.setdefault(names[position], units)
    axes: dict[Axis, NDArray[np.int64]] = {}
    for (value, dim), ids in labels.axes.items():
        name = program.values[value].name
        units = labels.roots[ids]
        if name is not None and written[units].any():
            axes[name, dim] = np.where(written[units], units, -1)
    pins = {**{u: r for u, r in labels.pins.items() if written[u]}, **(extra or {})}
    return UnitMap(axes, pins, layers)


def matching_units(analysis: Analysis, keep: tuple[str, ...]) -> dict[int, str]:
    """Units of parameters or layers whose name matches a pattern -> the reason.

    A pattern names a layer ("features.3"), a parameter, or is a shell-style pattern over either.
    """
    found: dict[int, str] = {}
    if not keep:
        return found
    units = unit_map(analysis)
    for pattern in keep:
        names = {name for name, _ in units.axes} | set(units.layers)
        hit = {
            name
            for name in names
            if fnmatch.fnmatchcase(name, pattern) or name.startswith(f"{pattern}.")
        }
        if not hit:
            message = f"keep pattern {pattern!r} matches no layer and no parameter of the model"
            raise ValueError(message)
        for unit in _units_named(units, hit):
            _ = found.setdefault(unit, f"kept as asked ({pattern})")
    return found


def _units_named(units: UnitMap, names: Collection[str]) -> list[int]:
    """Units that these layers write; of a parameter of no layer (a norm's) those along its axes."""
    found: list[int] = []
    for name in sorted(names):
        owner = name.partition(".parametrizations.")[0] if ".parametrizations." in name else name
        layer = next(
            (path for path in (name, owner, owner.rpartition(".")[0]) if path in units.layers), None
        )
        if layer is not None:
            found += units.layers[layer].tolist()
        else:
            found += [unit for axis, ids in units.axes.items() if axis[0] == name for unit in ids]
    return sorted({int(unit) for unit in found if unit >= 0})


def build_plan(
    analysis: Analysis,
    model: nn.Module,
    inputs: Inputs,
    decision: Decision,
    sites: Mapping[int, Site],
    extra: Mapping[int, str],
) -> Plan:
    """Everything `apply` needs, and the table that people read."""
    removed = decision.removed
    units = unit_map(analysis, extra)
    homes = units.homes()
    edits = _edits(analysis, removed)
    grouped = _grouped(analysis, removed)
    constant = _constant_units(analysis, decision, sites)
    selections = plan_selections(analysis, decision)
    removals = tuple(
        Removal(unit, *homes[unit], why="constant" if unit in constant else "unread")
        for unit in np.flatnonzero(removed).tolist()
    )
    return Plan(
        fingerprint=fingerprint(model),
        inputs=describe_inputs(inputs),
        removals=removals,
        edits=edits,
        grouped=grouped,
        folds=_folds(analysis, decision, sites),
        attributes=attributes_after(analysis, model, edits, removed, selections),
        layers=_layers(units, removed, decision.why_kept),
        pinned=dict(
            Counter(_short(units.pinned[unit]) for unit in units.units & set(units.pinned))
        ),
        units=len(units.units),
        pinned_units=len(units.units & set(units.pinned)),
        near_dead=_near_dead(analysis, removed),
        selections=selections,
        conditions=analysis.batches.conditions,
    )


def _near_dead(analysis: Analysis, removed: Units) -> int:
    """Units that stay although every layer that writes them is below `NEAR_DEAD` there."""
    small = small_units(writing_slices(analysis), NEAR_DEAD, len(removed))
    return int((small & analysis.labels.candidates & ~removed).sum())


def _edits(analysis: Analysis, removed: Units) -> tuple[AxisEdit, ...]:
    edits = []
    for (value, dim), ids in analysis.labels.axes.items():
        name = analysis.program.values[value].name
        gone = np.flatnonzero(removed[analysis.labels.roots[ids]])
        if name is not None and len(gone):
            edits.append(AxisEdit(name, dim, len(ids), tuple(gone.tolist())))
    return tuple(sorted(edits, key=lambda edit: (edit.name, edit.axis)))


def _grouped(analysis: Analysis, removed: Units) -> tuple[GroupedEdit, ...]:
    edits = []
    for balance in analysis.labels.balances:
        if not balance.grouped or balance.inputs is None:
            continue
        roots = analysis.labels.roots
        gone = [removed[np.maximum(unit_ids(roots, row), 0)] & (row >= 0) for row in balance.inputs]
        rows = [removed[roots[row]] for row in balance.rows]
        if not any(mask.any() for mask in gone):
            continue
        name = analysis.program.values[analysis.contractions[balance.step].weight].name
        offsets = tuple(
            None if own.all() and row.all() else tuple(np.flatnonzero(own).tolist())
            for own, row in zip(gone, rows, strict=True)
        )
        assert name is not None
        edits.append(GroupedEdit(name, len(rows), len(gone[0]), offsets))
    return tuple(sorted(edits, key=lambda edit: edit.name))


def _folds(analysis: Analysis, decision: Decision, sites: Mapping[int, Site]) -> tuple[Fold, ...]:
    folds = {}
    names = layer_names(analysis)
    for site in sites.values():
        if bool(all_folded(analysis, site, decision).any()):
            reader = names[site.position]
            folds[site.target, site.into] = Fold(reader, site.into, site.target)
    return tuple(folds[key] for key in sorted(folds))


def _constant_units(
    analysis: Analysis, decision: Decision, sites: Mapping[int, Site]
) -> frozenset[int]:
    """Units that some reader takes a constant of; the other removed ones are unread."""
    found: set[int] = set()
    for site in sites.values():
        folded = folded_channels(analysis, site, decision.removed, decision.needed)
        units = channel_units(analysis.labels, analysis.program, site.contraction)
        found.update(units[folded].tolist())
    return frozenset(found)


def _layers(
    units: UnitMap, removed: Units, why_kept: Mapping[int, str]
) -> tuple[LayerSummary, ...]:
    rows = []
    for layer, ids in units.layers.items():
        own = ids[ids >= 0]
        reasons = Counter(_short(units.pinned[u]) for u in own.tolist() if u in units.pinned)
        held = Counter(
            _short(why_kept[u]) for u in own.tolist() if u in why_kept and not removed[u]
        )
        rows.append(
            LayerSummary(
                layer=layer,
                units=len(ids),
                removed=int(removed[own].sum()),
                pinned=sum(reasons.values()) + len(ids) - len(own),
                reasons=tuple(reason for reason, _ in (reasons + held).most_common()),
            )
        )
    return tuple(rows)


def _short(reason: str) -> str:
    return " ".join(reason.split())
