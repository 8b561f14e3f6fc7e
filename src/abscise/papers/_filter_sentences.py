"""What came out, in sentences that follow from the runs, also where it is not what was expected."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise, takewhile
from statistics import mean

from abscise.papers._dead import GONE
from abscise.papers._filter_cuts import Ranking
from abscise.papers._filter_facts import facts_of_run, filter_share, filters_below, silent_filters
from abscise.papers._filter_methods import is_control, methods
from abscise.papers._filter_pictures import MAIN
from abscise.papers._implicit import control_sentence, recipes_sentence, unchanged
from abscise.papers._points import Point, Scene

STRENGTH = 1e-4
WITHOUT = "adam-without-l2"
HARMLESS = 0.5
"""Points of test error that a cut may cost in the comparison at equal size."""

_BATCHES = ("adam-l2-batch20", MAIN, "adam-l2-batch80", "adam-l2-batch160")


def sentences_of(scene: Scene, points: Sequence[Point]) -> list[str]:
    """All that can be said of these points, each of a method at a strength."""
    titles = {name: method.title for name, method in methods().items()}
    titles |= {WITHOUT: "Adam without L2"}
    controls = [
        replace(it, method=WITHOUT) if it.method == MAIN else it
        for it in points
        if is_control(it.method, it.strength)
    ]
    found = [
        _main(scene, points),
        _against(scene, points, "sgd-l2", "more filters go than under SGD with the same L2"),
        _against(scene, points, "adam-wd", "more filters go than under WD of the same strength"),
        control_sentence(scene.title, controls, titles, _at(points, MAIN)),
        _removal(scene, points),
        _evidence(scene, points),
        _depth(scene, points),
        _batches(scene, points),
        _cuts(scene, points),
        recipes_sentence(scene.title, points),
    ]
    return [sentence for sentence in found if sentence]


def _at(points: Sequence[Point], method: str, strength: float = STRENGTH) -> Point | None:
    return next((it for it in points if (it.method, it.strength) == (method, strength)), None)


def _gone(point: Point) -> float:
    return point.of(lambda run: filter_share(run, GONE))


def _told(point: Point) -> str:
    title = methods()[point.method].title
    seeds = "one seed" if len(point.runs) == 1 else f"{len(point.runs)} seeds"
    return (
        f"{title} {point.strength or 0.0:g} loses {_gone(point):.1f} % of the filters at "
        f"{point.error:.2f} % test error ({seeds})"
    )


def _main(scene: Scene, points: Sequence[Point]) -> str:
    own = _at(points, MAIN)
    if own is None:
        return ""
    dense = _at(points, MAIN, 0.0)
    beside = "" if dense is None else f"; without L2 the error is {dense.error:.2f} %"
    return f"{scene.title}: {_told(own)}{beside}."


def _against(scene: Scene, points: Sequence[Point], other: str, claim: str) -> str:
    """Whether more is gone than under the other, in every run of both."""
    own, theirs = _at(points, MAIN), _at(points, other)
    if own is None or theirs is None:
        return ""
    low, _ = own.range_of(lambda run: filter_share(run, GONE))
    _, high = theirs.range_of(lambda run: filter_share(run, GONE))
    if low > high:
        verdict = "as expected"
    elif _gone(own) > _gone(theirs):
        verdict = "as expected in the mean, but the ranges overlap"
    else:
        verdict = "NOT as expected"
    return f"{scene.title}: expected is that {claim}: {verdict}; {_told(own)}, {_told(theirs)}."


def _removal(scene: Scene, points: Sequence[Point]) -> str:
    runs = [run for point in points for run in point.runs]
    if not runs:
        return ""
    same, sure = sum(map(unchanged, runs)), sum(run.certified for run in runs)
    return (
        f"{scene.title}: removal left the test error as it was, to the last digit, in {same} of "
        f"{len(runs)} runs; {sure} have a certificate that passed."
    )


def _evidence(scene: Scene, points: Sequence[Point]) -> str:
    own = _at(points, MAIN)
    if own is None:
        return ""
    return (
        f"{scene.title}: by gamma {_gone(own):.1f} % of the filters are gone under Adam L2 "
        f"{STRENGTH:g}, by activation on every training image {own.of(silent_filters):.1f} %."
    )


def _depth(scene: Scene, points: Sequence[Point]) -> str:
    """Are late layers emptier than early ones?"""
    own = _at(points, MAIN)
    if own is None or not _gone(own):
        return ""
    layers = facts_of_run(own.runs[0]).layers
    half = len(layers) // 2

    def share(some: slice) -> float:
        names = [it.layer for it in layers[some]]
        of = sum(it.filters for it in layers[some])
        return (
            100 * mean(sum(filters_below(run, GONE)[it] for it in names) for run in own.runs) / of
        )

    early, late = share(slice(half)), share(slice(half, None))
    word = "as expected" if late > early else "NOT as expected"
    return (
        f"{scene.title}: expected is that later layers lose more: {word}; the first {half} lose "
        f"{early:.1f} % of their filters, the others {late:.1f} %."
    )


def _batches(scene: Scene, points: Sequence[Point]) -> str:
    """Does a larger batch leave more filters alive?"""
    found = [point for name in _BATCHES if (point := _at(points, name)) is not None]
    if len(found) < 2:
        return ""
    shares = [_gone(point) for point in found]
    falls = all(one >= other for one, other in pairwise(shares))
    sizes = [methods()[point.method].batch for point in found]
    told = ", ".join(f"{size}: {one:.1f} %" for size, one in zip(sizes, shares, strict=True))
    word = "as expected" if falls and shares[0] > shares[-1] else "NOT as expected"
    return f"{scene.title}: expected is that larger batches lose fewer filters: {word}; {told}."


def _cuts(scene: Scene, points: Sequence[Point]) -> str:
    """The most that can be cut off without harm, and what others pay for the same number."""
    own = _at(points, MAIN)
    if own is None:
        return ""
    errors = _errors(own, Ranking.GAMMA)
    if not errors:
        return ""
    highest = own.error + HARMLESS
    fine = list(takewhile(lambda share: errors[share] <= highest, sorted(errors)))
    if not fine:
        return (
            f"{scene.title}: no cut of the lowest gammas of Adam L2 {STRENGTH:g} keeps the test "
            f"error within {HARMLESS:g} points."
        )
    most = fine[-1]
    others = [
        (f"network slimming {STRENGTH:g}", _at(points, "slimming"), Ranking.GAMMA),
        ("filter norms without L2", _at(points, MAIN, 0.0), Ranking.NORM),
        (f"filter norms under SGD L2 {STRENGTH:g}", _at(points, "sgd-l2"), Ranking.NORM),
    ]
    told = [
        f"{name} {found[most]:.2f} % (whole: {point.error:.2f} %)"
        for name, point, ranking in others
        if point is not None and most in (found := _errors(point, ranking))
    ]
    beside = f"; at the same number {', '.join(told)}" if told else ""
    return (
        f"{scene.title}: {100 * most:g} % of the filters can be cut off by gamma after Adam L2 "
        f"{STRENGTH:g} within {HARMLESS:g} points of the test error, by which that number is "
        f"chosen, at {errors[most]:.2f} % (whole: {own.error:.2f} %) without fine-tuning{beside}."
    )


def _errors(point: Point, ranking: Ranking) -> dict[float, float]:
    """Share -> mean test error, of the levels that all runs have."""
    found: dict[float, list[float]] = {}
    for run in point.runs:
        for cut in facts_of_run(run).cuts.get(ranking, ()):
            found.setdefault(cut.share, []).append(cut.error)
    return {share: mean(own) for share, own in found.items() if len(own) == len(point.runs)}
