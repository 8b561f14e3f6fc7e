"""Spots of pictures: error against what is left, of points over their seeds."""

from collections.abc import Callable, Iterable, Sequence

from abscise.papers._finished import Finished
from abscise.papers._points import Point, Range
from abscise.report import ParetoSpot

Figure = Callable[[Finished], float]


def error_of(run: Finished) -> float:
    """On the test set, in percent."""
    return run.error_percent


def shares_left(points: Iterable[Point]) -> dict[str, Figure]:
    """Name -> what is left of the dense network, in [0, 1]; MACs only where all runs have them."""
    figures: dict[str, Figure] = {
        "weights": lambda run: run.nonzero / run.parameters,
        "units": lambda run: run.units_kept / max(run.units, 1),
    }
    if all(run.macs is not None and run.dense_macs for it in points for run in it.runs):
        figures["MACs"] = lambda run: (run.macs or 0) / (run.dense_macs or 1)
    return figures


def reference_of(dense: Point | None, times: float) -> tuple[tuple[float, Range] | None, float]:
    """The dense network's error and range; and `times` as much, above which nothing is drawn."""
    if dense is None:
        return None, 100.0
    return (dense.error, dense.range_of(error_of)), times * dense.error


def spots_of(points: Sequence[Point], figure: Figure) -> tuple[ParetoSpot, ...]:
    """One for each point, in their order."""
    return tuple(
        ParetoSpot(it.of(figure), it.error, it.range_of(figure), it.range_of(error_of))
        for it in points
    )
