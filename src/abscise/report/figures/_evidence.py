"""The heat maps of a tracker: a row per layer, a column per look, one map for each evidence."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from abscise.report._tracking import Course, TrackedLayer
from abscise.report.figures._heat import cells, legend
from abscise.report.figures._svg import Drawing, column, plain_style, shortened, time_axis

_NARROW = 480
_MOST_CELLS = 6000
_GAP = 18.0
_NUMBER = 44.0


def draw_evidence(rows: Sequence[TrackedLayer], width: int) -> str:
    """Side by side where there is room; on a phone a layer's maps lie below each other."""
    maps = _maps(rows)
    # A pass over data before the first step is at 0: an axis has a length all the same.
    steps = max([1, *(course[-1][0] for _, courses in maps for course in courses if course)])
    label = f"Share of dead units in {len(rows):,} layers over {steps:,} steps, by "
    label += " and by ".join(title for title, _ in maps)
    with plain_style():
        draw = _stacked if width < _NARROW else _beside
        return draw(rows, maps, steps, width).svg(label)


Map = tuple[str, list[Course]]


def _maps(rows: Sequence[TrackedLayer]) -> list[Map]:
    """Title and one course per row; an evidence that nobody has is left out."""
    most = max(_MOST_CELLS // (3 * len(rows)), 4)
    found = [
        ("gamma", [_thinned(row.gamma, most) for row in rows]),
        ("weights", [_thinned(row.weights, most) for row in rows]),
        ("silence", [_thinned(row.silent, most) for row in rows]),
    ]
    return [(title, courses) for title, courses in found if any(courses)]


def _thinned(course: Course, most: int) -> Course:
    """At most `most` looks, evenly chosen, the last one among them."""
    return course[::-1][:: max(-(-len(course) // most), 1)][::-1]


def _beside(rows: Sequence[TrackedLayer], maps: list[Map], steps: int, width: int) -> Drawing:
    row = 26.0 if len(rows) <= 12 else 18.0 if len(rows) <= 40 else 14.0
    size, top = min(12.0, row - 2), 52.0
    names = column([it.layer for it in rows], size, 0.3 * width)
    each = (width - names - _GAP * (len(maps) - 1)) / len(maps)
    drawing = Drawing(width, top + row * len(rows) + 28)
    over = drawing.canvas()
    legend(drawing, over, names, "all dead")
    for index, it in enumerate(rows):
        at = (0.0, top + row * (index + 0.5) + 0.35 * size)
        drawing.text(over, at, shortened(it.layer, names - 10, size), "name", size=size)
    for place, (title, courses) in enumerate(maps):
        left = names + place * (each + _GAP)
        drawing.text(over, (left, top - 10), _TITLES[title], "axis map-title", size=12)
        axes = drawing.panel(left, top, each - _NUMBER, row * len(rows))
        axes.set(xlim=(0, steps), ylim=(len(rows), 0), yticks=[])
        time_axis(axes, steps, narrow=True)
        for index, course in enumerate(courses):
            _strip(drawing, axes, course, (index + 0.06, index + 0.94))
            if course:
                at = (left + each - 4, top + row * (index + 0.5) + 0.35 * size)
                drawing.text(over, at, f"{course[-1][1]:,}", "count", size=size, ha="right")
    return drawing


def _stacked(rows: Sequence[TrackedLayer], maps: list[Map], steps: int, width: int) -> Drawing:
    strip, head, top, left = 13.0, 18.0, 30.0, 52.0
    row = head + strip * len(maps) + 8
    drawing = Drawing(width, top + row * len(rows) + 28)
    over = drawing.canvas()
    legend(drawing, over, 0.0, "all dead")
    axes = drawing.panel(left, top, width - left - _NUMBER, row * len(rows))
    axes.set(xlim=(0, steps), ylim=(row * len(rows), 0), yticks=[])
    time_axis(axes, steps, narrow=True)
    for index, it in enumerate(rows):
        start = row * index
        at = (0.0, top + start + 12)
        drawing.text(over, at, shortened(it.layer, width - 8, 11), "name", size=11)
        for place, (title, courses) in enumerate(maps):
            upper = start + head + strip * place
            _strip(drawing, axes, courses[index], (upper + 0.5, upper + strip - 1.5))
            if courses[index]:
                base, count = top + upper + strip - 3, f"{courses[index][-1][1]:,}"
                drawing.text(over, (0.0, base), title, "axis", size=10)
                drawing.text(over, (width, base), count, "count", size=10, ha="right")
    return drawing


def _strip(drawing: Drawing, axes: Axes, course: Course, edges: tuple[float, float]) -> None:
    for level, start, end in cells(course):
        drawing.box(axes, (start, edges[0], end, edges[1]), f"heat heat-{level}")


_TITLES = {
    "gamma": "gamma below 0.001",
    "weights": "weights below 0.001",
    "silence": "silent on the data",
}
