"""Bars of several methods, one below the other, with their values and the range over the seeds."""

from dataclasses import dataclass

from matplotlib.axes import Axes

from abscise.report._bars import Bar, BarRow
from abscise.report.figures._svg import Drawing, column, line, plain_style, shortened

_HEAD, _STEP, _THICK, _FOOT = 44.0, 26.0, 14.0, 10.0
_VALUES, _ABOVE, _SIZE = 52.0, 18.0, 12
_MOST = 0.45
"""Share of the width that names may take; longer ones stand above their bars."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where bars begin, how long one of 100 % is, and how far they are apart."""

    left: float
    full: float
    step: float

    @property
    def above(self) -> bool:
        """Do names stand above their bars?"""
        return self.left == 0


def draw_bars(rows: tuple[BarRow, ...], width: int) -> str:
    """All rows, one below the other; every bar's full length is 100 %."""
    names = column((bar.name for row in rows for bar in row.bars), _SIZE, width)
    left = names if names <= _MOST * width else 0.0
    frame = _Frame(left, width - left - _VALUES, _STEP if left else _STEP + _ABOVE)
    with plain_style():
        heights = [_HEAD + frame.step * len(row.bars) + _FOOT for row in rows]
        drawing = Drawing(width, sum(heights))
        over = drawing.canvas()
        top = 0.0
        for row, height in zip(rows, heights, strict=True):
            drawing.text(over, (0, top + 16), row.title, "row-title", size=14)
            drawing.text(over, (0, top + 34), f"{row.axis}, %", "axis", size=11)
            for place, bar in enumerate(row.bars):
                end = top + _HEAD + (place + 1) * frame.step
                _bar(drawing, over, bar, frame, end - _STEP / 2)
            top += height
        return drawing.svg("; ".join(f"{row.title}: {row.axis}" for row in rows))


def _bar(drawing: Drawing, over: Axes, bar: Bar, frame: _Frame, middle: float) -> None:
    """One bar; below it a rule as long as 100 %, and on the rule the range."""
    left, full = frame.left, frame.full
    right = left + full * bar.value / 100
    role = f"method-{bar.colour}"
    words = "legend main" if bar.main else "legend"
    base = middle - (_ABOVE - 4 if frame.above else -4)
    name = shortened(bar.name, drawing.width, _SIZE) if frame.above else bar.name
    drawing.text(over, (0, base), name, words, size=_SIZE)
    half = _THICK / 2
    below = middle + half + 3
    line(over, [left, left + full], [below, below], "grid")
    # A bar of 0 is seen as a thin stroke: there is a value, and it is none.
    corners = [(left, middle - half), (max(right, left + 1), middle - half)]
    corners += [(x, middle + half) for x, _ in reversed(corners)]
    drawing.polygon(over, corners, f"{role} mark")
    low, high = (left + full * end / 100 for end in bar.ends)
    if high > low:
        line(over, [low, high], [below, below], f"{role} main curve")
    place = (right + 7, middle + 4)
    drawing.text(over, place, f"{bar.value:.1f}", words, size=_SIZE)
