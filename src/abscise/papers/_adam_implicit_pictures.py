"""The pictures of adam-implicit: error against what is left, and dead units by activation."""

from collections.abc import Callable, Sequence

from abscise.papers._adam_implicit_variants import MAIN, PLAIN, VARIANTS
from abscise.papers._dead import THRESHOLDS
from abscise.papers._finished import Finished
from abscise.papers._implicit import dead_share
from abscise.papers._points import Point, Scene
from abscise.report import Bar, BarRow, ParetoCurve, ParetoPanel, ParetoRow, ParetoSpot

HIGHEST = 2.5
"""Times the error of Adam without L2: what is above is not drawn."""

DRAWN = (MAIN, "l1", "group-lasso", "sgl", "random-units")
COLOURS = (7, 1, 2, 3, 9)


def pictures_of(scene: Scene, points: Sequence[Point]) -> list[ParetoRow]:
    """The paper's method over its L2, and those that remove by themselves over their strengths."""
    plain = next((it for it in points if it.method == PLAIN), None)
    reference, highest = None, 100.0
    if plain is not None:
        reference = (plain.error, plain.range_of(_error))
        highest = HIGHEST * plain.error
    figures: dict[str, Callable[[Finished], float]] = {
        "units": lambda run: run.units_kept / max(run.units, 1),
        "weights": lambda run: run.nonzero / run.parameters,
    }
    if all(run.macs is not None and run.dense_macs for it in points for run in it.runs):
        figures["MACs"] = lambda run: (run.macs or 0) / (run.dense_macs or 1)
    panels = tuple(
        ParetoPanel(name, _curves(points, figure), reference, highest)
        for name, figure in figures.items()
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
        bars = tuple(_bar(point, colour) for colour, point in enumerate(own, start=1))
        title = f"{scene.title}, L2 {strength:g}"
        found.append(BarRow(title, f"units below {THRESHOLDS[0]:g}", bars))
    return found


def _bar(point: Point, colour: int) -> Bar:
    main = point.method == MAIN
    return Bar(
        VARIANTS[point.method].title,
        COLOURS[0] if main else colour,
        point.of(_gone),
        point.range_of(_gone),
        main=main,
    )


def _gone(run: Finished) -> float:
    return dead_share(run, THRESHOLDS[0])


def _error(run: Finished) -> float:
    return run.error_percent


def _curves(
    points: Sequence[Point], figure: Callable[[Finished], float]
) -> tuple[ParetoCurve, ...]:
    found = []
    for name, colour in zip(DRAWN, COLOURS, strict=True):
        own = sorted((it for it in points if it.method == name), key=lambda it: it.strength or 0.0)
        spots = tuple(
            ParetoSpot(it.of(figure), it.error, it.range_of(figure), it.range_of(_error))
            for it in own
        )
        if spots:
            title = VARIANTS[name].title
            found.append(ParetoCurve(title, colour, spots, main=name == MAIN))
    return tuple(found)
