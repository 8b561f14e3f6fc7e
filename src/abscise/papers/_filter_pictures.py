"""The pictures of filter sparsity: error against the filters left, and what cuts cost."""

from collections.abc import Sequence
from statistics import mean

from abscise.papers._dead import GONE
from abscise.papers._filter_cuts import Ranking
from abscise.papers._filter_facts import facts_of_run, filter_share, filters_below
from abscise.papers._filter_methods import methods
from abscise.papers._filter_stages import FIGURES
from abscise.papers._points import Point, Scene
from abscise.report import Bar, BarRow, ParetoCurve, ParetoPanel, ParetoRow, ParetoSpot

HIGHEST = 3.0
"""Times the dense network's error: what is above is not drawn."""

MAIN = "adam-l2"
DRAWN = (MAIN, "adam-wd", "sgd-l2", "adadelta-l2", "adagrad-l2")
RECALLED = "Adam L2, full width, as recalled"
CUT = (
    (MAIN, 1e-4, Ranking.GAMMA, "Adam L2 1e-4, by gamma"),
    ("slimming", 1e-4, Ranking.GAMMA, "network slimming 1e-4, by gamma"),
    (MAIN, 0.0, Ranking.NORM, "Adam without L2, by norm"),
    ("sgd-l2", 1e-4, Ranking.NORM, "SGD L2 1e-4, by norm"),
)
"""The cuts that are drawn: method, strength, ranking, name."""


def pictures_of(scene: Scene, points: Sequence[Point]) -> list[ParetoRow]:
    """One row for what goes by itself, one for what is cut off."""
    dense = next((it for it in points if it.method == MAIN and not it.strength), None)
    reference = None
    if dense is not None:
        reference = (dense.error, dense.range_of(lambda run: run.error_percent))
    least = min((point.error for point in points), default=100.0)
    highest = min(100.0, HIGHEST * (least if dense is None else dense.error))
    own = _own(points)
    rows = []
    if own:
        curves = (*own, *_recalled(scene))
        # Without a dense network to compare with, all that died by itself is drawn, and no more.
        top = max(spot.y for it in curves for spot in it.spots) if dense is None else highest
        panel = ParetoPanel("filters", curves, reference, top)
        rows.append(ParetoRow(f"{scene.title}: filters that die by themselves", (panel,)))
    cuts = _cuts(points)
    if cuts:
        panel = ParetoPanel("filters", cuts, reference, highest)
        rows.append(ParetoRow(f"{scene.title}: cut off without fine-tuning", (panel,)))
    return rows


def bars_of(scene: Scene, points: Sequence[Point]) -> list[BarRow]:
    """The share of each layer's filters that is gone under Adam, at every strength but 0."""
    rows = []
    for point in points:
        if point.method == MAIN and point.strength:
            title = f"{scene.title}: {methods()[MAIN].title} {point.strength:g}, layer by layer"
            rows.append(BarRow(title, f"filters with |gamma| < {GONE:g}", _bars(point)))
    return rows


def _bars(point: Point) -> tuple[Bar, ...]:
    bars = []
    for layer in facts_of_run(point.runs[0]).layers:
        found = [100 * filters_below(run, GONE)[layer.layer] / layer.filters for run in point.runs]
        ends = (min(found), max(found))
        name = f"{short(layer.layer)} ({layer.filters})"
        bars.append(Bar(name, 0, _within(mean(found), ends), ends, main=True))
    return tuple(bars)


def short(layer: str) -> str:
    """`features.block3.conv` is block3."""
    parts = [part for part in layer.split(".") if part not in {"features", "conv"}]
    return ".".join(parts) or layer


def _own(points: Sequence[Point]) -> tuple[ParetoCurve, ...]:
    found = []
    for colour, name in enumerate(DRAWN):
        spots = tuple(_spot(it) for it in points if it.method == name)
        if spots:
            found.append(ParetoCurve(methods()[name].title, colour, spots, main=name == MAIN))
    return tuple(found)


def _spot(point: Point) -> ParetoSpot:
    low, high = point.range_of(lambda run: filter_share(run, GONE))
    left = 1 - point.of(lambda run: filter_share(run, GONE)) / 100
    ends = (1 - high / 100, 1 - low / 100)
    return ParetoSpot(
        _within(left, ends), point.error, ends, point.range_of(lambda run: run.error_percent)
    )


def _recalled(scene: Scene) -> tuple[ParetoCurve, ...]:
    known = FIGURES.get(scene.dataset, {})
    spots = tuple(
        ParetoSpot(left, figure.error, (left, left), (figure.error, figure.error))
        for (name, _), figure in sorted(known.items())
        if name == MAIN and figure.error is not None
        for left in [1 - figure.gone / 100]
    )
    return (ParetoCurve(RECALLED, len(DRAWN), spots),) if spots else ()


def _cuts(points: Sequence[Point]) -> tuple[ParetoCurve, ...]:
    found = []
    for place, (method, strength, ranking, name) in enumerate(CUT):
        point = next((it for it in points if (it.method, it.strength) == (method, strength)), None)
        if point is not None and all(ranking in facts_of_run(run).cuts for run in point.runs):
            colour = len(DRAWN) + 1 + place
            found.append(ParetoCurve(name, colour, _levels(point, ranking), main=place == 0))
    return tuple(found)


def _levels(point: Point, ranking: Ranking) -> tuple[ParetoSpot, ...]:
    """A spot for each level that all runs have."""
    runs = [(facts_of_run(run), facts_of_run(run).cuts[ranking]) for run in point.runs]
    shares = sorted({cut.share for _, cuts in runs for cut in cuts})
    spots = []
    for share in shares:
        found = [
            (1 - it.gone / of.filters, it.error)
            for of, own in runs
            for it in own
            if it.share == share
        ]
        if len(found) == len(runs):
            lefts, errors = [one for one, _ in found], [two for _, two in found]
            spots.append(
                ParetoSpot(
                    _within(mean(lefts), (min(lefts), max(lefts))),
                    _within(mean(errors), (min(errors), max(errors))),
                    (min(lefts), max(lefts)),
                    (min(errors), max(errors)),
                )
            )
    return tuple(spots)


def _within(value: float, ends: tuple[float, float]) -> float:
    """A mean that rounding has moved out of its range is moved back."""
    return min(max(value, ends[0]), ends[1])
