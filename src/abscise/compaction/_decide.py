"""Pass 4, decide: the largest set of units that can go, as the fixed point of what must stay.

Pinned units stay. Liveness says which others are needed; then carriers, balanced groups and the
rule
that no layer becomes empty keep some more; and again, until nothing changes. What stays only grows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from abscise.compaction._folding import CARRIER_RATIO, Site
from abscise.graph import Analysis, Balance, LivenessPass, unit_ids
from abscise.graph.rules import channel_units, read_channels

Units = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Decision:
    """Which units go.

    Args:
        removed: Unit id -> does it go?
        needed: The final liveness, for `explain` and for evidence.
        carriers: Step position -> boolean vector of the channels that carry constants of others.
        why_kept: Unit id -> reason, for units that are dead but stay (balance, carrier, last one).
        dropped: Step position -> boolean vector of the inputs that this reader alone gives up.
    """

    removed: Units
    needed: LivenessPass
    carriers: Mapping[int, Tensor]
    why_kept: Mapping[int, str]
    dropped: Mapping[int, Tensor] = field(default_factory=dict)


def decide(analysis: Analysis, sites: Mapping[int, Site], keep: Units | None = None) -> Decision:
    """The largest removable set; `keep` marks units that must stay besides the pinned ones."""
    candidates = analysis.labels.candidates
    kept = ~candidates if keep is None else ~candidates | keep
    excused = {position: site.excused for position, site in sites.items()}
    carriers: dict[int, Tensor] = {}
    why: dict[int, str] = {}
    while True:
        live = analysis.liveness(kept, excused, carriers)
        grown = live.touched_units() & ~kept
        if grown.any():
            kept = kept | grown
            continue
        extra = _carriers(analysis, sites, kept, live, carriers, why)
        if extra is None:
            extra = _balanced(analysis, kept, why)
        if extra is None:
            extra = _not_empty(analysis, kept, why)
        if extra is None:
            return Decision(~kept, live, carriers, why)
        kept = kept | extra


def folded_channels(analysis: Analysis, site: Site, removed: Units, live: LivenessPass) -> Tensor:
    """Input channels that go, hold a non-zero constant, and are read by a needed output."""
    units = channel_units(analysis.labels, analysis.program, site.contraction)
    gone = torch.from_numpy(removed)[units.clamp(min=0)] & (units >= 0)
    return gone & site.foldable & _read(analysis, site, live)


def all_folded(analysis: Analysis, site: Site, decision: Decision) -> Tensor:
    """The same of a whole decision: with the channels that this reader alone drops."""
    folded = folded_channels(analysis, site, decision.removed, decision.needed)
    dropped = decision.dropped.get(site.position)
    if dropped is not None:
        folded = folded | (dropped & site.foldable & _read(analysis, site, decision.needed))
    return folded


def _read(analysis: Analysis, site: Site, live: LivenessPass) -> Tensor:
    """Input channels that some needed output of the site reads."""
    c = site.contraction
    mask = live.needed(analysis.program.steps[site.position].outputs[0])
    read = None if mask is None else read_channels(analysis.constants, c, mask)
    return torch.zeros(site.zero.shape, dtype=torch.bool) if read is None else read


def _carriers(
    analysis: Analysis,
    sites: Mapping[int, Site],
    kept: Units,
    live: LivenessPass,
    carriers: dict[int, Tensor],
    why: dict[int, str],
) -> Units | None:
    """For every padded reader that loses constants: one kept constant channel that takes them."""
    extra = np.zeros_like(kept)
    changed = False
    for position, site in sites.items():
        if site.into != "carrier":
            continue
        folded = folded_channels(analysis, site, ~(kept | extra), live)
        units = channel_units(analysis.labels, analysis.program, site.contraction)
        chosen = carriers.get(position, torch.zeros_like(folded))
        missing = _missing_carriers(site, folded, chosen, units, kept | extra)
        if missing is None:
            continue
        changed = True
        carriers[position] = chosen | missing
        found = units[missing].numpy()
        extra[found[found >= 0]] = True
        for unit in found[found >= 0].tolist():
            where = analysis.program.steps[position].where
            _ = why.setdefault(unit, f"carries the constants of removed units into {where}")
    return extra if changed else None


def _missing_carriers(
    site: Site, folded: Tensor, chosen: Tensor, units: Tensor, kept: Units
) -> Tensor | None:
    """One channel for each group that folds without a strong enough carrier, or None."""
    size = len(folded) // site.groups
    size_of = site.value.abs()
    stays = (units < 0) | torch.from_numpy(kept)[units.clamp(min=0)]
    missing = torch.zeros_like(folded)
    for group in range(site.groups):
        own = torch.zeros_like(folded)
        own[group * size : (group + 1) * size] = True
        going = own & folded
        if not bool(going.any()):
            continue
        largest = size_of[going].max()
        if bool((size_of[own & chosen] >= CARRIER_RATIO * largest).any()):
            continue
        options = own & site.foldable & stays & (size_of >= CARRIER_RATIO * largest)
        pool = options if bool(options.any()) else going
        best = torch.where(pool, size_of, torch.tensor(-1.0, dtype=size_of.dtype)).argmax()
        missing[best] = True
    return missing if bool(missing.any()) else None


def _balanced(analysis: Analysis, kept: Units, why: dict[int, str]) -> Units | None:
    """Keep more units until every part keeps equally many."""
    for balance in analysis.labels.balances:
        rows = _stay(analysis, balance.rows, kept)
        inputs = _stay(analysis, balance.inputs, kept) if balance.inputs is not None else None
        whole = _whole_groups(balance, rows, inputs)
        extra = np.zeros_like(kept)
        for labels, stay in ((balance.rows, rows), (balance.inputs, inputs)):
            if labels is None or stay is None:
                continue
            goal = max(
                [int(row.sum()) for row, gone in zip(stay, whole, strict=True) if not gone] + [1]
            )
            for ids, row, gone in zip(labels, stay, whole, strict=True):
                lacking = 0 if gone else goal - int(row.sum())
                if lacking > 0:
                    dead = np.flatnonzero(~row)[:lacking]
                    extra[analysis.labels.roots[ids[dead]]] = True
        if extra.any():
            where = analysis.program.steps[balance.step].where
            for unit in np.flatnonzero(extra).tolist():
                _ = why.setdefault(unit, f"parts of equal size in {where}")
            return extra
    return None


def _whole_groups(balance: Balance, rows: list[Units], inputs: list[Units] | None) -> list[bool]:
    """Groups of a convolution that are dead on both sides; one group always stays."""
    if not balance.grouped or inputs is None:
        return [False] * len(rows)
    gone = [not row.any() and not own.any() for row, own in zip(rows, inputs, strict=True)]
    if all(gone):
        gone[0] = False
    return gone


def _stay(
    analysis: Analysis, rows: tuple[NDArray[np.int64], ...] | None, kept: Units
) -> list[Units]:
    units = [unit_ids(analysis.labels.roots, row) for row in rows or ()]
    return [kept[np.maximum(row, 0)] | (row < 0) for row in units]


def _not_empty(analysis: Analysis, kept: Units, why: dict[int, str]) -> Units | None:
    """No tensor may become empty: where all is dead, the first unit stays.

    From the output backwards, one at a time: what stays behind may make a carrier stay before it.
    """
    for layers in reversed(list(analysis.labels.layers.values())):
        for layer in layers:
            units = analysis.labels.units(layer)
            if units.size and not (kept[np.maximum(units, 0)] | (units < 0)).any():
                unit = int(units.min())
                extra = np.zeros_like(kept)
                extra[unit] = True
                _ = why.setdefault(unit, "the last unit of its layer: no tensor may become empty")
                return extra
    return None
