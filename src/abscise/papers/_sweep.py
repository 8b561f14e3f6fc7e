"""The outcome of a sweep: per method the sparsest result at an allowed error, and all points."""

from collections.abc import Callable, Mapping, Sequence

from abscise.papers._cells import ends, kilobytes, macs_left, percent
from abscise.papers._finished import Finished
from abscise.papers._outcome import Outcome, Table
from abscise.papers._points import Point, Scene, least, points_of
from abscise.papers._spots import Figure, error_of, reference_of, shares_left, spots_of
from abscise.report import ParetoCurve, ParetoPanel, ParetoRow

ALLOWED, OR_POINTS = 1.25, 0.5
"""What the error on the validation part may be at most: so many times the dense network's, or so
many points above it, which is more where a handful of examples is the difference."""

HIGHEST = 3.0
"""Times the dense network's test error: what is above is not drawn."""

DENSE = "dense"
_CHOSEN = (
    "method",
    "strength",
    "seeds",
    "test error, %",
    "range",
    "non-zero",
    "fewer",
    "units left",
    "MACs left",
    "kB",
)


def _nonzero(run: Finished) -> float:
    return run.nonzero


def _macs(run: Finished) -> float:
    assert run.macs is not None
    return run.macs


def sweep_outcome(
    title: str, source: str, titles: Mapping[str, str], main: str, finished: Sequence[Finished]
) -> Outcome:
    """Tables and pictures of a sweep; `titles` gives the methods' names and their order.

    Args:
        title: Of the experiment.
        source: The paper.
        titles: Method -> its name in tables.
        main: The method that the paper is about.
        finished: In any order.
    """
    scenes = points_of(finished)
    ordered = {
        scene: tuple(point for name in titles for point in points if point.method == name)
        for scene, points in scenes.items()
    }
    return Outcome(
        title=title,
        source=source,
        sentences=tuple(
            sentence
            for scene, points in ordered.items()
            for sentence in _sentences(scene, points, titles, main)
        ),
        tables=tuple(_chosen(scene, points, titles) for scene, points in ordered.items()),
        details=tuple(_everything(scene, points, titles) for scene, points in ordered.items()),
        pictures=tuple(_pictured(scene, points, titles, main) for scene, points in ordered.items()),
    )


def chosen(
    points: Sequence[Point], figure: Callable[[Finished], float] = _nonzero
) -> dict[str, Point]:
    """Method -> its point of the least `figure` that is allowed; dense itself, too."""
    dense = next((point for point in points if point.method == DENSE), None)
    if dense is None:
        return {}
    highest = max(ALLOWED * dense.validation, dense.validation + OR_POINTS)
    names = dict.fromkeys(point.method for point in points)
    found = {
        name: least([it for it in points if it.method == name], highest, figure) for name in names
    }
    return {name: point for name, point in found.items() if point is not None}


def _sentences(
    scene: Scene, points: Sequence[Point], titles: Mapping[str, str], main: str
) -> list[str]:
    """Who has the fewest weights, who the fewest MACs, and where the paper's method stands."""
    best = {name: point for name, point in chosen(points).items() if name != DENSE}
    if not best:
        return []
    ranked = sorted(best, key=lambda name: best[name].nonzero)
    first = best[ranked[0]]
    said = [
        f"{scene.title}: the fewest weights at an allowed error: {_told(first, titles)}.",
    ]
    if main in best and first.method != main:
        place = _ordinal(ranked.index(main) + 1)
        own = _told(best[main], titles)
        said.append(f"{scene.title}: {place} of {len(ranked)} by that measure: {own}.")
    if all(run.macs is not None and run.dense_macs for point in points for run in point.runs):
        quick = {name: it for name, it in chosen(points, _macs).items() if name != DENSE}
        least_work = min(quick.values(), key=lambda it: it.of(_macs))
        told = _told(least_work, titles, f"{percent(macs_left(least_work.runs))} of the MACs")
        said.append(f"{scene.title}: the least work at an allowed error: {told}.")
    return said


def _told(point: Point, titles: Mapping[str, str], size: str = "") -> str:
    size = size or f"{_compression(point)} fewer weights"
    return f"{titles[point.method]} ({size}, {point.error:.2f} % test error)"


def _chosen(scene: Scene, points: Sequence[Point], titles: Mapping[str, str]) -> Table:
    found = chosen(points)
    return Table(
        scene.title,
        f"The fewest non-zero weights whose error on the validation part is at most {ALLOWED:g} "
        f"times the dense network's, or {OR_POINTS:g} points above it. Means over the seeds, and "
        "the range of the test error; fewer: dense parameters / non-zero ones, biases included; "
        "kB of the saved weights.",
        _CHOSEN,
        tuple(_row(found[name], titles) for name in titles if name in found),
    )


def _everything(scene: Scene, points: Sequence[Point], titles: Mapping[str, str]) -> Table:
    rows = tuple(
        (*_row(point, titles), f"{point.validation:.2f}", _certificates(point)) for point in points
    )
    header = (*_CHOSEN, "validation error, %", "certificates")
    return Table(f"{scene.title}: all points", "Means over the seeds.", header, rows)


def _row(point: Point, titles: Mapping[str, str]) -> tuple[str, ...]:
    return (
        titles[point.method],
        "-" if point.strength is None else f"{point.strength:g}",
        f"{len(point.runs)}",
        f"{point.error:.2f}",
        ends(point.range_of(error_of)),
        f"{point.nonzero:,.0f}",
        _compression(point),
        f"{point.of(lambda run: run.units_kept):,.0f} of {point.runs[0].units:,}",
        percent(macs_left(point.runs)),
        kilobytes(point.runs),
    )


def _compression(point: Point) -> str:
    return f"{point.runs[0].parameters / max(point.nonzero, 1):.1f}x"


def _certificates(point: Point) -> str:
    passed = sum(run.certified for run in point.runs)
    whole = f"{passed} passed"
    return whole if passed == len(point.runs) else f"{whole}, {len(point.runs) - passed} constant"


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(0 if number in {11, 12, 13} else number % 10, "th")
    return f"{number}{ending}"


def _pictured(
    scene: Scene, points: Sequence[Point], titles: Mapping[str, str], main: str
) -> ParetoRow:
    dense = next((point for point in points if point.method == DENSE), None)
    reference, highest = reference_of(dense, HIGHEST)
    return ParetoRow(
        scene.title,
        tuple(
            ParetoPanel(
                name,
                tuple(
                    _curve(titles, method, main, points, figure)
                    for method in titles
                    if any(it.method == method and it.strength is not None for it in points)
                ),
                reference,
                highest,
            )
            for name, figure in shares_left(points).items()
        ),
    )


def _curve(
    titles: Mapping[str, str],
    method: str,
    main: str,
    points: Sequence[Point],
    figure: Figure,
) -> ParetoCurve:
    own = [point for point in points if point.method == method and point.strength is not None]
    colour = list(titles).index(method)
    return ParetoCurve(titles[method], colour, spots_of(own, figure), main=method == main)
