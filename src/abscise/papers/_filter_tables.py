"""What becomes of the runs on filter sparsity: tables beside the paper's figures, and sentences."""

from collections.abc import Callable, Sequence
from statistics import mean

from abscise.papers._cells import UNKNOWN, certificates, macs_left, weights_left
from abscise.papers._dead import GONE
from abscise.papers._filter_cuts import Cut, Ranking
from abscise.papers._filter_facts import (
    facts_of_run,
    filter_share,
    filters_below,
    rows_share,
    silent_filters,
)
from abscise.papers._filter_methods import is_control, methods
from abscise.papers._filter_pictures import bars_of, pictures_of, short
from abscise.papers._filter_sentences import sentences_of
from abscise.papers._filter_stages import FIGURES, Stage
from abscise.papers._finished import Finished
from abscise.papers._implicit import NONE_BELOW, implicit_of, unchanged
from abscise.papers._outcome import Outcome, Table
from abscise.papers._points import Point, Scene, points_of

PER_LAYER = ("adam-l2", "adam-wd", "sgd-l2", "slimming")
Figures = Callable[[Finished], float]


def filter_outcome(
    title: str, source: str, stages: Sequence[Stage], finished: Sequence[Finished]
) -> Outcome:
    """Sentences, tables and pictures, scene by scene; a pure function of the runs.

    Args:
        title: Of the experiment.
        source: The paper.
        stages: Their order is that of the scenes.
        finished: In any order.
    """
    places = [stage.place for stage in stages]
    found = points_of(finished)
    scenes = sorted(found, key=lambda it: (places.index((it.dataset, it.network)), it))
    ordered = {scene: _ordered(found[scene]) for scene in scenes}
    return Outcome(
        title=title,
        source=source,
        sentences=tuple(
            said for scene, points in ordered.items() for said in sentences_of(scene, points)
        ),
        tables=tuple(
            table
            for scene, points in ordered.items()
            for table in (_main(scene, points), _layers(scene, points), _cuts(scene, points))
            if table.rows
        ),
        details=tuple(
            table
            for scene, points in ordered.items()
            for table in (_evidence(scene, points), _runs(scene, points))
        ),
        pictures=tuple(
            row for scene, points in ordered.items() for row in pictures_of(scene, points)
        ),
        bars=tuple(row for scene, points in ordered.items() for row in bars_of(scene, points)),
    )


def _ordered(points: Sequence[Point]) -> tuple[Point, ...]:
    names = list(methods())
    return tuple(sorted(points, key=lambda it: (names.index(it.method), it.strength or 0.0)))


def name_of(point: Point) -> str:
    """Method and strength in words."""
    title = methods()[point.method].title
    return f"{title} {point.strength or 0.0:g}"


def _main(scene: Scene, points: Sequence[Point]) -> Table:
    """One row per method and strength, beside the recalled figures."""
    known = FIGURES.get(scene.dataset, {})
    rows = []
    for point in points:
        figure = known.get((point.method, point.strength or 0.0))
        recalled = ("-", "-")
        if figure is not None:
            recalled = (f"{figure.gone:g}", "-" if figure.error is None else f"{figure.error:.1f}")
        rows.append(
            (
                f"{name_of(point)}{' (control)' * is_control(point.method, point.strength)}",
                f"{len(point.runs)}",
                ranged(point, lambda run: filter_share(run, GONE), ".1f"),
                ranged(point, lambda run: implicit_of(run).error_before),
                ranged(point, lambda run: run.error_percent),
                *_left(point),
                certificates(point.runs),
                *recalled,
            )
        )
    return Table(
        f"{scene.title}: filters that are gone",
        f"Gone: |gamma| < {GONE:g}. Error on the test set of the trained network, and of the one "
        "without its dead units. Left: of all parameters, and of the MACs. Means over the seeds, "
        "and ranges. The last two columns are the paper's, recalled, for the full width and "
        "325 epochs of all images.",
        (
            "method",
            "seeds",
            "filters gone, %",
            "error before, %",
            "error after, %",
            "weights left, %",
            "MACs left, %",
            "certificates",
            "paper: gone, %",
            "paper: error, %",
        ),
        tuple(rows),
    )


def _left(point: Point) -> tuple[str, str]:
    shares = weights_left(point.runs), macs_left(point.runs)
    weights, macs = (UNKNOWN if it is None else f"{it:.1f}" for it in shares)
    return weights, macs


def _layers(scene: Scene, points: Sequence[Point]) -> Table:
    """One row per method and strength, one column per convolution."""
    if not points:
        return Table(scene.title, "", ("method",), ())
    names = [layer.layer for layer in facts_of_run(points[0].runs[0]).layers]
    sizes = [layer.filters for layer in facts_of_run(points[0].runs[0]).layers]
    rows = []
    for point in points:
        if point.method in PER_LAYER:
            shares = [
                mean(filters_below(run, GONE)[name] for run in point.runs) / size
                for name, size in zip(names, sizes, strict=True)
            ]
            fires = [_universality(point, place) for place in range(len(names))]
            cells = [f"{100 * one:.0f}, {two}" for one, two in zip(shares, fires, strict=True)]
            rows.append((name_of(point), f"{len(point.runs)}", *cells))
    return Table(
        f"{scene.title}: layer by layer",
        f"Percent of the layer's filters with |gamma| < {GONE:g}; and universality: the mean share "
        "of the training images that a filter fires for, in percent, of the filters that fire at "
        "all. Means over the seeds.",
        (
            "method",
            "seeds",
            *(f"{short(name)} ({size})" for name, size in zip(names, sizes, strict=True)),
        ),
        tuple(rows),
    )


def _universality(point: Point, place: int) -> str:
    found = [facts_of_run(run).layers[place].universality for run in point.runs]
    known = [one for one in found if one is not None]
    return f"{100 * mean(known):.0f}" if known else "-"


def _cuts(scene: Scene, points: Sequence[Point]) -> Table:
    """One row per method and ranking, one column per level: all with the same number of filters."""
    cut = [(point, it) for point in points for it in Ranking if _has(point, it)]
    levels = sorted({one.share for point, it in cut for one in _of(point.runs[0], it)})
    rows = tuple(
        (
            name_of(point),
            ranking.value,
            f"{len(point.runs)}",
            f"{point.of(lambda run: implicit_of(run).error_before):.2f}",
            *(_cell(point, ranking, level) for level in levels),
        )
        for point, ranking in cut
    )
    return Table(
        f"{scene.title}: cut to equal size, without fine-tuning",
        "Test error in percent once so many percent of all filters are cut off, the lowest first: "
        "the same number in every row of a column; in brackets the parameters that are left, in "
        "percent. By gamma: over all layers; by norm: the same share of every layer. Means over "
        "the seeds.",
        ("trained with", "ranked by", "seeds", "0 %", *(f"{100 * one:g} %" for one in levels)),
        rows,
        words=2,
    )


def _has(point: Point, ranking: Ranking) -> bool:
    return all(ranking in facts_of_run(run).cuts for run in point.runs)


def _of(run: Finished, ranking: Ranking) -> tuple[Cut, ...]:
    return facts_of_run(run).cuts[ranking]


def _cell(point: Point, ranking: Ranking, level: float) -> str:
    found = [
        (it.error, it.parameters / run.parameters)
        for run in point.runs
        for it in facts_of_run(run).cuts[ranking]
        if it.share == level
    ]
    if len(found) < len(point.runs):
        return "-"
    return f"{mean(one for one, _ in found):.2f} ({100 * mean(two for _, two in found):.0f})"


def _evidence(scene: Scene, points: Sequence[Point]) -> Table:
    """All kinds of evidence side by side."""
    rows = tuple(
        (
            name_of(point),
            f"{len(point.runs)}",
            *(
                ranged(point, figure, ".1f")
                for figure in (
                    lambda run: filter_share(run, GONE),
                    lambda run: filter_share(run, NONE_BELOW),
                    lambda run: rows_share(run, GONE),
                    lambda run: rows_share(run, NONE_BELOW),
                    silent_filters,
                )
            ),
        )
        for point in points
    )
    header = (
        "method",
        "seeds",
        f"|gamma| < {GONE:g}",
        f"|gamma| < {NONE_BELOW:g}",
        f"weights < {GONE:g}",
        f"weights < {NONE_BELOW:g}",
        "never fires",
    )
    return Table(
        f"{scene.title}: by which evidence",
        "Percent of the filters: by the scale of the BatchNorm, by the largest incoming |weight|, "
        "and by activation: at most 1e-12 on every training image, in eval mode, as it is. Means "
        "over the seeds, and ranges.",
        header,
        rows,
    )


def _runs(scene: Scene, points: Sequence[Point]) -> Table:
    """Every run."""
    rows = tuple(
        (
            name_of(point),
            f"{run.task.seed}",
            f"{run.units_removed:,} of {run.units:,}",
            f"{implicit_of(run).threshold:g}",
            f"{implicit_of(run).error_before:.2f}",
            f"{run.error_percent:.2f}",
            "yes" if unchanged(run) else "no",
            "yes" if run.certified else "no",
        )
        for point in points
        for run in point.runs
    )
    return Table(
        f"{scene.title}: every run",
        "Units of all layers that were removed, and the threshold below which they were set to 0: "
        "the largest that changes no prediction on the training and validation parts.",
        (
            "method",
            "seed",
            "units removed",
            "snapped below",
            "error before, %",
            "error after, %",
            "the same",
            "certified",
        ),
        rows,
    )


def ranged(point: Point, figure: Figures, form: str = ".2f") -> str:
    """The mean, and the range where there are several seeds."""
    low, high = point.range_of(figure)
    shown = f"{point.of(figure):{form}}"
    return shown if len(point.runs) == 1 else f"{shown} ({low:{form}}-{high:{form}})"
