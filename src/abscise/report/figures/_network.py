"""The picture of the network: its layers from input to output, each as wide as it has units."""

from matplotlib.axes import Axes

from abscise.compaction import LayerSummary
from abscise.report.figures._svg import Drawing, column, plain_style, shortened

_NAME_SIZE, _COUNT_SIZE = 12.0, 12.0
_NARROW = 480
_LABELLED_ROWS = 200


def draw_network(layers: tuple[LayerSummary, ...], width: int) -> str:
    """Bars around one axis: the outline is the dense layer, filled is what is kept.

    Args:
        layers: In the order in which they run.
        width: Of the drawing in CSS pixels; narrow ones have the names above the bars.
    """
    rows = [layer for layer in layers if layer.units]
    with plain_style():
        draw = _narrow if width < _NARROW else _wide
        return draw(rows, width, _spoken(rows))


def _spoken(rows: list[LayerSummary]) -> str:
    kept, units = sum(row.units - row.removed for row in rows), sum(row.units for row in rows)
    return f"Kept units of {len(rows):,} layers, {kept:,} of {units:,} in all"


def _wide(rows: list[LayerSummary], width: int, label: str) -> str:
    pitch = _pitch(len(rows))
    size = min(_NAME_SIZE, pitch - 1) if len(rows) <= _LABELLED_ROWS else 9.0
    names = column((row.layer for row in rows), size, 0.36 * width)
    counts = column(map(_counts, rows), min(size, _COUNT_SIZE), 0.2 * width)
    drawing = Drawing(width, pitch * len(rows) + 4)
    axes = drawing.canvas()
    room, middle = width - names - counts, names + (width - names - counts) / 2
    scale = room / max(row.units for row in rows)
    for index, row in enumerate(rows):
        top = 2 + pitch * index
        _bar(drawing, axes, row, (middle, top + 0.1 * pitch), scale, 0.8 * pitch)
        if index % _every(len(rows)):
            continue
        baseline = top + pitch / 2 + 0.35 * size
        name = shortened(row.layer, names - 6, size)
        drawing.text(axes, (0, baseline), name, "name", size=size)
        drawing.text(
            axes, (width, baseline), _counts(row), "count", size=min(size, _COUNT_SIZE), ha="right"
        )
    return drawing.svg(label)


def _narrow(rows: list[LayerSummary], width: int, label: str) -> str:
    labelled = len(rows) <= _LABELLED_ROWS
    bar = 18.0 if len(rows) <= 40 else 8.0
    pitch = bar + 25 if labelled else _pitch(len(rows))
    bar = bar if labelled else pitch * 0.8
    drawing = Drawing(width, pitch * len(rows) + 4)
    axes = drawing.canvas()
    scale = (width - 4) / max(row.units for row in rows)
    for index, row in enumerate(rows):
        top = 2 + pitch * index
        _bar(drawing, axes, row, (width / 2, top + pitch - bar - 4), scale, bar)
        if labelled:
            name = shortened(row.layer, width - 130, 11)
            drawing.text(axes, (0, top + 12), name, "name", size=11)
            drawing.text(axes, (width, top + 12), _counts(row), "count", size=11, ha="right")
    return drawing.svg(label)


def _bar(
    drawing: Drawing,
    axes: Axes,
    row: LayerSummary,
    at: tuple[float, float],
    scale: float,
    height: float,
) -> None:
    """`at` is the middle of the upper edge."""
    middle, top = at
    kept = row.units - row.removed
    half = max(row.units * scale, 2) / 2
    drawing.box(axes, (middle - half, top, middle + half, top + height), "dense")
    if kept:
        half = kept * scale / 2
        role = "pinned" if row.pinned == kept else "kept"
        drawing.box(axes, (middle - half, top, middle + half, top + height), role)


def _counts(row: LayerSummary) -> str:
    kept = row.units - row.removed
    return f"{kept:,} of {row.units:,} kept" if row.removed else f"all {row.units:,} kept"


def _pitch(rows: int) -> float:
    if rows <= 12:
        return 34.0
    if rows <= 40:
        return 22.0
    return 14.0 if rows <= _LABELLED_ROWS else max(2800 / rows, 1.5)


def _every(rows: int) -> int:
    """With too many rows for a name each, every how many-th has one."""
    return 1 if rows <= _LABELLED_ROWS else -(-rows * 12 // 2800)
