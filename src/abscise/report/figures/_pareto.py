"""Error against what is left: a row of panels for each data set, one curve per method."""

import math

from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath
from matplotlib.ticker import MaxNLocator, NullLocator

from abscise.report._pareto import ParetoCurve, ParetoPanel, ParetoRow, ParetoSpot
from abscise.report.figures._svg import Drawing, line, plain_style

_NARROW = 480
_SIDES = (4, 3, 24, 5, 6, 8, 3, 4, 24, 5)
"""Corners of each colour's mark."""
_LEFT, _GAP, _TOP, _BOTTOM, _HEAD = 34.0, 40.0, 24.0, 44.0, 34.0
_SHARES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def draw_paretos(rows: tuple[ParetoRow, ...], width: int) -> str:
    """All rows, one below the other, under a legend; narrow drawings have one panel per line."""
    names = {curve.colour: curve for row in rows for it in row.panels for curve in it.curves}
    narrow = width < _NARROW
    with plain_style():
        across = 1 if narrow else max((len(row.panels) for row in rows), default=1)
        side = (width - _LEFT - (across - 1) * _GAP - 4) / across
        tall = min(side, 250.0)
        lines = [math.ceil(len(row.panels) / across) for row in rows]
        legend = _legend_height(list(names.values()), width)
        step = tall + _TOP + _BOTTOM
        drawing = Drawing(width, legend + sum(_HEAD + count * step for count in lines))
        over = drawing.canvas()
        _legend(drawing, over, [names[key] for key in sorted(names)])
        top = legend
        for row, count in zip(rows, lines, strict=True):
            drawing.text(over, (0, top + 20), row.title, "row-title", size=14)
            top += _HEAD
            for index, panel in enumerate(row.panels):
                at = (_LEFT + (index % across) * (side + _GAP), top + (index // across) * step)
                _panel(drawing, over, panel, (*at, side, tall))
            top += count * step
        many = "one data set" if len(rows) == 1 else f"{len(rows)} data sets"
        return drawing.svg(f"Test error against what is left of the network, on {many}")


def _panel(
    drawing: Drawing, over: Axes, panel: ParetoPanel, box: tuple[float, float, float, float]
) -> None:
    left, top, width, height = box
    axes = drawing.panel(left, top + _TOP, width, height)
    spots = [spot for curve in panel.drawn for spot in curve.spots]
    _limits(axes, panel, spots)
    drawing.text(over, (left, top + 10), "test error, %", "axis", size=11)
    place = (left + width, top + _TOP + height + 36)
    drawing.text(over, place, f"{panel.title} left, %", "axis", size=11, ha="right")
    if panel.dense is not None:
        mean, _ = panel.dense
        line(axes, list(axes.get_xlim()), [mean, mean], "dense-line")
    for curve in sorted(panel.drawn, key=lambda it: it.main):
        _curve(drawing, over, axes, curve)


def _limits(axes: Axes, panel: ParetoPanel, spots: list[ParetoSpot]) -> None:
    """Both axes hold every spot with its range, as far as that is drawn."""
    smallest = min((spot.x for spot in spots), default=0.1)
    low = max((share for share in _SHARES if share <= smallest), default=_SHARES[0])
    low = min(low, smallest, 0.5)
    ends = [spot.y for spot in spots] + [panel.dense[0] if panel.dense else panel.highest]
    bottom, top = min(ends), max(ends)
    room = 0.06 * ((top - bottom) or 1.0)
    axes.set_xscale("log")
    axes.set(xlim=(low / 1.08, 1.08), ylim=(max(bottom - room, 0.0), top + room))
    ticks = [share for share in _SHARES if low <= share]
    axes.set_xticks(ticks, [f"{100 * tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    inside = MaxNLocator(nbins=5).tick_values(*axes.get_ylim())
    shown = [tick for tick in inside if axes.get_ylim()[0] <= tick <= axes.get_ylim()[1]]
    axes.set_yticks(shown, [f"{tick:g}" for tick in shown])
    axes.grid(axis="both")
    axes.tick_params(labelsize=11, pad=5)


def _curve(drawing: Drawing, over: Axes, axes: Axes, curve: ParetoCurve) -> None:
    role = f"method-{curve.colour}" + (" main" if curve.main else "")
    (x_low, x_high), (y_low, y_high) = axes.get_xlim(), axes.get_ylim()
    line(axes, [it.x for it in curve.spots], [it.y for it in curve.spots], f"{role} curve")
    for spot in curve.spots:
        across = [min(max(end, x_low), x_high) for end in spot.x_range]
        along = [min(max(end, y_low), y_high) for end in spot.y_range]
        line(axes, across, [spot.y, spot.y], f"{role} range")
        line(axes, [spot.x, spot.x], along, f"{role} range")
    for spot in curve.spots:
        x, y = axes.transData.transform((spot.x, spot.y))
        _mark(drawing, over, (float(x), drawing.height - float(y)), curve)


def _mark(drawing: Drawing, over: Axes, at: tuple[float, float], curve: ParetoCurve) -> None:
    """A polygon whose number of corners, and whose colour, is the method's."""
    sides, size = _SIDES[curve.colour], 5.2 if curve.main else 4.0
    turn = math.pi * (0.25 if curve.colour in {0, 7} and sides == 4 else 0.0)
    sign = -1 if curve.colour >= 5 else 1
    corners = [
        (
            at[0] + size * math.sin(2 * math.pi * k / sides + turn),
            at[1] - sign * size * math.cos(2 * math.pi * k / sides + turn),
        )
        for k in range(sides)
    ]
    drawing.polygon(over, corners, f"method-{curve.colour} mark")


def _legend(drawing: Drawing, over: Axes, curves: list[ParetoCurve]) -> None:
    for curve, (left, top) in zip(curves, _places(curves, drawing.width), strict=True):
        _mark(drawing, over, (left + 6, top), curve)
        role = "legend main" if curve.main else "legend"
        drawing.text(over, (left + 16, top + 4), curve.name, role, size=12)


def _places(curves: list[ParetoCurve], width: float) -> list[tuple[float, float]]:
    """Where each entry of the legend begins, in as many lines as it takes."""
    found: list[tuple[float, float]] = []
    left, top = 0.0, 10.0
    for curve in curves:
        wide = 34 + _length(curve)
        if left and left + wide > width:
            left, top = 0.0, top + 20
        found.append((left, top))
        left += wide
    return found


def _length(curve: ParetoCurve) -> float:
    """Of its name in the legend, in the widest font that a page may fall back to."""
    font = FontProperties(family="DejaVu Sans", weight="bold" if curve.main else "normal", size=12)
    length, _, _ = TextToPath().get_text_width_height_descent(curve.name, font, ismath=False)
    return float(length)


def _legend_height(curves: list[ParetoCurve], width: float) -> float:
    return max((top for _, top in _places(curves, width)), default=0.0) + 16
