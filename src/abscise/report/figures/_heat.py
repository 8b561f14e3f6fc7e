"""What every heat map of dead units shares: its levels, its stretches of time, its legend."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from matplotlib.axes import Axes

from abscise.report.figures._svg import Drawing

LEVELS = 10
Seen = tuple[int, int, int]
"""Step, dead units, all units."""


def cells(course: Iterable[Seen]) -> Iterator[tuple[int, int, int]]:
    """(level, first step, last step) of each stretch; a look stands for the time before it.

    Example:
        >>> list(cells([(10, 0, 4), (20, 0, 4), (30, 1, 4)]))
        [(0, 0, 20), (3, 20, 30)]
    """
    start = 0
    for level, run in groupby(course, key=lambda seen: -(-LEVELS * seen[1] // max(seen[2], 1))):
        end = list(run)[-1][0]
        yield level, start, end
        start = end


def legend(drawing: Drawing, over: Axes, left: float, all_of_them: str) -> None:
    """From none to all of the units, above the rows."""
    drawing.text(over, (left, 14), "none", "axis", size=11)
    cell = 12.0
    for level in range(LEVELS + 1):
        start = left + 34 + cell * level
        drawing.box(over, (start, 5, start + cell, 16), f"heat heat-{level}")
    drawing.text(over, (left + 40 + cell * (LEVELS + 1), 14), all_of_them, "axis", size=11)
