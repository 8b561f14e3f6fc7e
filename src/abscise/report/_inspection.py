"""The printed form of an inspection: what can go, and the evidence, layer by layer."""

from collections.abc import Iterable

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from abscise._inspect import ACTIVATIONS, SCALES, Inspection, LayerInspection
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


def removable_table(inspection: Inspection) -> Table:
    """Units, what can go now, what that saves, stray zeros and subnormal weights per layer."""
    table = _table("units", "removable", "saves", "stray zeros", "subnormal")
    rows = [
        (
            layer.layer,
            (layer.units, layer.removable, layer.saves, layer.stray_zeros, layer.subnormal),
        )
        for layer in inspection.layers
    ]
    return _fill(table, rows)


def evidence_table(inspection: Inspection) -> Table:
    """Units that are zero, small, or silent on the data, per layer."""
    thresholds = [f"<{threshold:.0e}".replace("e-0", "e-") for threshold in SCALES]
    silent = [f"silent {threshold:.0e}".replace("e-0", "e-") for threshold in ACTIVATIONS]
    shown = silent if inspection.samples is not None else []
    rows = [(_mark(layer), _evidence(layer, with_data=bool(shown))) for layer in inspection.layers]
    return _fill(_table("zero", *thresholds, *shown), rows)


def _mark(layer: LayerInspection) -> str:
    return layer.layer if layer.scaled else layer.layer + BY_ROWS


def _evidence(layer: LayerInspection, *, with_data: bool) -> tuple[int | None, ...]:
    small = tuple(layer.small[threshold] for threshold in SCALES)
    if not with_data:
        return (layer.zero_rows, *small)
    known = layer.silent or {}
    return (layer.zero_rows, *small, *(known.get(threshold) for threshold in ACTIVATIONS))


def _table(*numbers: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1), show_edge=False)
    table.add_column("layer", overflow="fold", min_width=10)
    for name in numbers:
        table.add_column(name, justify="right", overflow="fold")
    return table


def _fill(table: Table, rows: Iterable[tuple[str, tuple[int | None, ...]]]) -> Table:
    sums = [0] * (len(table.columns) - 1)
    for layer, counts in rows:
        table.add_row(Text(layer), *map(_count, counts))
        sums = [total + (count or 0) for total, count in zip(sums, counts, strict=True)]
    table.add_section()
    table.add_row("total", *map(_count, sums))
    return table


def _count(count: int | None) -> str:
    return UNKNOWN if count is None else f"{count:,}"
