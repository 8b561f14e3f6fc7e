"""Small pictures in rows, one per layer, all with the same axes: sizes, selectivity, gradients."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from abscise.implicit import DEAD, HISTOGRAM, LayerFiring, LayerRecord, Track
from abscise.report._words import powers, small
from abscise.report.figures._svg import Drawing, line, plain_style, shortened

_NARROW = 480
_GAP, _PLOT, _HEAD, _FOOT = 22.0, 62.0, 36.0, 26.0
_BINS = len(HISTOGRAM) + 1
_DEAD_BINS = HISTOGRAM.index(DEAD) + 1

Corner = tuple[float, float]
"""Across and up, both in 0..1."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One small picture.

    Args:
        name: Of the layer.
        note: One line below the name.
        shapes: Role and corners of what is filled.
        lines: Role and corners of what is stroked.
        ends: What the left and the right end of the axis mean.
    """

    name: str
    note: str
    shapes: tuple[tuple[str, tuple[Corner, ...]], ...]
    lines: tuple[tuple[str, tuple[Corner, ...]], ...]
    ends: tuple[str, str]


def draw_sizes(layers: Sequence[LayerRecord], width: int) -> str:
    """How many units are of which size, on a logarithmic axis; those below 1e-3 stand out."""
    panels = []
    for it in layers:
        most = max(it.histogram, default=1) or 1
        bars = [
            ("die" if index < _DEAD_BINS else "live", _bar(index, count / most))
            for index, count in enumerate(it.histogram)
            if count
        ]
        by = "gamma" if it.scaled else "weights"
        note = f"by {by}, {it.dead[DEAD]:,} of {it.units:,} dead"
        panels.append(Panel(it.layer, note, tuple(bars), (), ("< 10⁻¹²", "10")))
    return _draw(panels, width, f"Sizes of the units of {len(panels):,} layers")


def _bar(index: int, height: float) -> tuple[Corner, ...]:
    left, right = (index + 0.08) / _BINS, (index + 0.92) / _BINS
    high = max(height, 0.02)  # one unit of thousands is seen, too
    return (left, 0.0), (left, high), (right, high), (right, 0.0)


def draw_selectivity(layers: Sequence[LayerFiring], width: int) -> str:
    """The selectivities of a layer's units, rising from left to right; silent units stand out."""
    panels = []
    for it in layers:
        split = (it.units - it.silent) / it.units
        points = _curve(it)
        shapes = []
        alive = [(x, y) for x, y in points if x < split]
        if alive:
            edge = (split, alive[-1][1])
            shapes.append(("live", ((0.0, 0.0), *alive, edge, (split, 0.0))))
        if it.silent:
            shapes.append(("die", ((split, 0.0), (split, 1.0), (1.0, 1.0), (1.0, 0.0))))
        mean = "none fires" if it.selectivity is None else f"mean {it.selectivity:.2f}"
        note = f"{mean}, {it.silent:,} of {it.units:,} silent"
        ends = ("least", "most")
        panels.append(Panel(it.layer, note, tuple(shapes), (), ends))
    return _draw(panels, width, f"Selectivity of the units of {len(panels):,} layers, sorted")


def _curve(it: LayerFiring) -> list[Corner]:
    count = len(it.curve)
    return [((index + 0.5) / count, value) for index, value in enumerate(it.curve)]


def draw_ratios(track: Track, names: Sequence[str], width: int) -> str:
    """Gradient over decay in time, on one logarithmic axis; below the dashed line decay is larger.

    Args:
        track: At least two of its records know the ratio.
        names: Of the layers that are drawn; each has a ratio.
        width: In CSS pixels.
    """
    courses = {name: _ratios(track, name) for name in names}
    values = [value for course in courses.values() for _, value in course]
    low, high = min(*values, 0.0), max(*values, 0.0)
    low, span = low - 0.1, high - low + 0.2
    steps = track.weights[-1].step
    panels = []
    for name, course in courses.items():
        points = tuple((step / steps, (value - low) / span) for step, value in course)
        one = ("drop", ((0.0, -low / span), (1.0, -low / span)))
        note = f"{small(10 ** course[-1][1])} at the end"
        lines = (one, ("course", points))
        panels.append(Panel(name, note, (), lines, ("step 0", f"{steps:,}")))
    return _draw(panels, width, f"Gradient over decay of {len(panels):,} layers, over the training")


def _ratios(track: Track, name: str) -> list[tuple[int, float]]:
    return [
        (record.step, math.log10(layer.gradient_to_decay))
        for record in track.weights
        for layer in record.layers
        if layer.layer == name and layer.gradient_to_decay
    ]


def _draw(panels: Sequence[Panel], width: int, label: str) -> str:
    columns = 2 if width < _NARROW else 4
    each = (width - _GAP * (columns - 1)) / columns
    cell = _HEAD + _PLOT + _FOOT
    with plain_style():
        drawing = Drawing(width, cell * -(-len(panels) // columns))
        over = drawing.canvas()
        for index, panel in enumerate(panels):
            place = ((each + _GAP) * (index % columns), cell * (index // columns))
            _one(drawing, over, panel, (*place, each))
        return drawing.svg(label)


def _one(drawing: Drawing, over: Axes, panel: Panel, place: tuple[float, float, float]) -> None:
    """`place`: left edge, upper edge and width, in pixels."""
    left, top, width = place
    floor = top + _HEAD + _PLOT

    def at(corner: Corner) -> Corner:
        return left + width * corner[0], floor - _PLOT * corner[1]

    drawing.text(over, (left, top + 12), shortened(panel.name, width, 11), "name", size=11)
    drawing.text(over, (left, top + 27), powers(panel.note), "axis", size=11)
    whole = ((0.0, 0.0), (0.0, 1.0), (1.0, 1.0), (1.0, 0.0))
    drawing.polygon(over, [at(it) for it in whole], "ground")  # boxes would cover the shapes
    for role, corners in panel.shapes:
        drawing.polygon(over, [at(it) for it in corners], role)
    for role, corners in panel.lines:
        xs, ys = zip(*map(at, corners), strict=True)
        line(over, list(xs), list(ys), role)
    low, high = panel.ends
    drawing.text(over, (left, floor + 14), low, "axis", size=10)
    drawing.text(over, (left + width, floor + 14), high, "axis", size=10, ha="right")
