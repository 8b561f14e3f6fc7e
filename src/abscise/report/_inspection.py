"""The printed form of an inspection: what can go, and the evidence, layer by layer."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from abscise._inspect import ACTIVATIONS, SCALES, Inspection, LayerInspection
from abscise.report._blocks import Blocks
from abscise.report._words import UNKNOWN

BY_ROWS = " *"


def inspection_view(inspection: Inspection) -> RenderableType:
    """Two tables that fit 60 columns, each with its total, and what they mean."""
    saved = f"{inspection.saves:,} of {inspection.parameters:,} parameters"
    lines = [f"{inspection.removable:,} units can go now, each counted once, and {saved} with them"]
    if inspection.samples is not None:
        lines.append(f"silent: |activation| at or below this on all {inspection.samples:,} samples")
    if not all(layer.scaled for layer in inspection.layers):
        lines.append("* by its incoming rows, where the others go by the scale of their BatchNorm")
    if inspection.stray_zeros:
        lines.append("stray zeros: in units that stay; compact --sparse saves them in few bytes")
    if inspection.subnormal:
        lines.append(_slow(inspection))
    tables = [removable_table(inspection), evidence_table(inspection)]
    return Group(*tables, *map(Text, lines))


def _slow(inspection: Inspection) -> str:
    """What the subnormal weights cost, as far as it was measured."""
    if inspection.slowdown is None:
        return "subnormal weights make many CPUs several times slower: see snap_"
    told = f"{inspection.subnormal:,} subnormal weights: a forward pass here takes "
    return f"{told}{inspection.slowdown:.2f} times as long as with them taken as 0: see snap_"


def removable_table(inspection: Inspection) -> Blocks:
    """Units, what can go now, what that saves, stray zeros and subnormal weights per layer."""
    numbers = ("units", "removable", "saves", "stray zeros", "subnormal")
    rows = [
        (
            layer.layer,
            (layer.units, layer.removable, layer.saves, layer.stray_zeros, layer.subnormal),
        )
        for layer in inspection.layers
    ]
    return _table(numbers, rows)


def evidence_table(inspection: Inspection) -> Blocks:
    """Units that are zero, small, or silent on the data, per layer."""
    thresholds = [f"<{threshold:.0e}".replace("e-0", "e-") for threshold in SCALES]
    silent = [f"silent {threshold:.0e}".replace("e-0", "e-") for threshold in ACTIVATIONS]
    shown = silent if inspection.samples is not None else []
    rows = [(_mark(layer), _evidence(layer, with_data=bool(shown))) for layer in inspection.layers]
    return _table(("zero", *thresholds, *shown), rows)


def _mark(layer: LayerInspection) -> str:
    return layer.layer if layer.scaled else layer.layer + BY_ROWS


def _evidence(layer: LayerInspection, *, with_data: bool) -> tuple[int | None, ...]:
    small = tuple(layer.small[threshold] for threshold in SCALES)
    if not with_data:
        return (layer.zero_rows, *small)
    known = layer.silent or {}
    return (layer.zero_rows, *small, *(known.get(threshold) for threshold in ACTIVATIONS))


def _table(numbers: Sequence[str], rows: Sequence[tuple[str, tuple[int | None, ...]]]) -> Blocks:
    """One row per layer, and the sums."""
    sums = [sum(counts[at] or 0 for _, counts in rows) for at in range(len(numbers))]
    total = ("total", *map(_count, sums))
    cells = [(layer, *map(_count, counts)) for layer, counts in rows]
    return Blocks(("layer", *numbers), cells, total=total, ruled=True, least=10)


def _count(count: int | None) -> str:
    return UNKNOWN if count is None else f"{count:,}"
