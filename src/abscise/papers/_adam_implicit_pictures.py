"""The pictures of adam-implicit: error against what is left, and dead units by activation."""

from collections.abc import Sequence

from abscise.papers._adam_implicit_variants import MAIN, PLAIN, VARIANTS
from abscise.papers._dead import GONE
from abscise.papers._finished import Finished
from abscise.papers._implicit import dead_share
from abscise.papers._points import Point, Scene
from abscise.papers._spots import Figure, reference_of, shares_left, spots_of
from abscise.report import Bar, BarRow, ParetoCurve, ParetoPanel, ParetoRow

HIGHEST = 2.5
"""Times the error of Adam without L2: what is above is not drawn."""

DRAWN = (MAIN, "l1", "group-lasso", "sgl", "random-units")
COLOURS = (7, 1, 2, 3, 9)
_OTHERS = (2, 3, 4, 5, 6, 8, 9, 0, 1)


def pictures_of(scene: Scene, points: Sequence[Point]) -> list[ParetoRow]:
    """The paper's method over its L2, and those that remove by themselves over their strengths."""
    plain = next((it for it in points if it.method == PLAIN), None)
    reference, highest = reference_of(plain, HIGHEST)
    left = shares_left(points)
    panels = tuple(
        ParetoPanel(name, _curves(points, left[name]), reference, highest)
        for name in ("units", "weights", "MACs")
        if name in left
    )
    return [ParetoRow(scene.title, panels)] if any(it.curves for it in panels) else []


def bars_of(scene: Scene, points: Sequence[Point]) -> list[BarRow]:
    """The share of units below 1e-3, by activation; one row for each L2.

    Args:
        scene: Of the runs.
        points: The paper's method, and its variants with other activations.
    """
    found = []
    for strength in sorted({it.strength or 0.0 for it in points}):
        own = [it for it in points if it.strength == strength]
        others = [it for it in own if it.method != MAIN]
        colours = {it.method: _OTHERS[at % len(_OTHERS)] for at, it in enumerate(others)}
        bars = tuple(_bar(it, colours.get(it.method, COLOURS[0])) for it in own)
        title = f"{scene.title}, L2 {strength:g}"
        found.append(BarRow(title, f"units below {GONE:g}", bars))
    return found


def _bar(point: Point, colour: int) -> Bar:
    main = point.method == MAIN
    return Bar(
        VARIANTS[point.method].title,
        colour,
        point.of(_gone),
        point.range_of(_gone),
        main=main,
    )


def _gone(run: Finished) -> float:
    return dead_share(run, GONE)


def _curves(points: Sequence[Point], figure: Figure) -> tuple[ParetoCurve, ...]:
    found = []
    for name, colour in zip(DRAWN, COLOURS, strict=True):
        own = sorted((it for it in points if it.method == name), key=lambda it: it.strength or 0.0)
        if own:
            title = VARIANTS[name].title
            found.append(ParetoCurve(title, colour, spots_of(own, figure), main=name == MAIN))
    return tuple(found)
