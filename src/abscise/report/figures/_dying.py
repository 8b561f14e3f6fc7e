"""The heat map of dying units: a row per layer, a column per look at the training."""

from matplotlib.axes import Axes

from abscise.report._training import Training, TrainingPoint
from abscise.report.figures._heat import cells, legend
from abscise.report.figures._svg import Drawing, column, plain_style, shortened, time_axis

_MOST_COLUMNS = 200
_MOST_CELLS = 8000
_NARROW = 480


def draw_dying(training: Training, width: int) -> str:
    """Darker is a larger share of the layer's units; each share is rounded up to a tenth."""
    layers = [layer for layer, (_, units) in training.points[-1].layers.items() if units]
    points = _thinned(training.points, min(_MOST_COLUMNS, max(_MOST_CELLS // len(layers), 4)))
    narrow = width < _NARROW
    row = _row_height(len(layers), narrow=narrow)
    size, counts = min(12.0, row - 2), points[-1].layers
    names = 0.0 if narrow else column(layers, size, 0.36 * width)
    right = 0.0 if narrow else column(map(_count, counts.values()), size, 0.2 * width)
    top, bottom = 30.0, 28.0
    with plain_style():
        drawing = Drawing(width, top + row * len(layers) + bottom)
        axes = drawing.panel(names, top, width - names - right, row * len(layers))
        steps = points[-1].step
        axes.set(xlim=(0, steps), ylim=(len(layers), 0), yticks=[])
        over = drawing.canvas()
        legend(drawing, over, names, "all dying")
        time_axis(axes, steps, narrow=narrow)
        strip = 0.5 if narrow else 0.06
        for index, layer in enumerate(layers):
            course = [(point.step, *point.layers[layer]) for point in points]
            for level, start, end in cells(course):
                box = (start, index + strip, end, index + 0.94)
                drawing.box(axes, box, f"heat heat-{level}")
            _name(drawing, over, layer, counts[layer], (top + row * index, row), names)
        return drawing.svg(
            f"Share of dying units in {len(layers):,} layers over {steps:,} steps of training"
        )


def _thinned(points: tuple[TrainingPoint, ...], most: int) -> tuple[TrainingPoint, ...]:
    """At most `most` points, evenly chosen, the last one among them."""
    return points[::-1][:: -(-len(points) // most)][::-1]


def _row_height(rows: int, *, narrow: bool) -> float:
    if narrow:
        return 38.0 if rows <= 40 else 30.0
    if rows <= 12:
        return 30.0
    return 20.0 if rows <= 40 else 14.0


def _name(
    drawing: Drawing,
    over: Axes,
    layer: str,
    counts: tuple[int, int],
    place: tuple[float, float],
    names: float,
) -> None:
    """What the row is, beside it or above it; `place` is its top and its height."""
    top, row = place
    count = _count(counts)
    size = min(12.0, row - 2)
    baseline, room = top + row / 2 + 0.35 * size, names - 10
    if not names:
        size = min(11.0, 0.42 * row)
        baseline, room = top + 0.4 * row, drawing.width - 130
        count += " dying"
    drawing.text(over, (0, baseline), shortened(layer, room, size), "name", size=size)
    drawing.text(over, (drawing.width, baseline), count, "count", size=size, ha="right")


def _count(counts: tuple[int, int]) -> str:
    dying, units = counts
    return f"{dying:,} of {units:,}"
