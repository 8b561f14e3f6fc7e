"""What becomes of the runs of adam-implicit: who loses units, who does not, and at which price."""

from collections.abc import Sequence

from abscise.papers._adam_implicit_pictures import bars_of, pictures_of
from abscise.papers._adam_implicit_variants import MAIN, PLAIN, VARIANTS, Group, Setup
from abscise.papers._adam_implicit_words import (
    ALLOWED,
    OR_POINTS,
    TITLES,
    Shown,
    batches_of,
    gone,
    mean_gone,
    sentences_of,
    smallest,
    told,
)
from abscise.papers._cells import certificates, ends, kilobytes, macs_left, percent, weights_left
from abscise.papers._dead import GONE, THRESHOLDS
from abscise.papers._finished import Finished
from abscise.papers._implicit import NONE_BELOW, implicit_of, silent_share, unchanged
from abscise.papers._outcome import Outcome, Table
from abscise.papers._points import Point, Scene, points_of
from abscise.papers._spots import error_of

_HEADER = (
    "method",
    "strength",
    "seeds",
    "test error, %",
    "range",
    "same",
    "< 1e-3",
    "< 1e-6",
    "silent",
    "removed",
    "weights left",
    "MACs left",
    "kB",
)
_MORE = (
    *(f"< {threshold:g}, %" for threshold in THRESHOLDS),
    "silent, %",
    "before, %",
    "validation, %",
    "snapped at",
    "certificates",
)
_NOTE = (
    "Units whose incoming weights (or scale of BatchNorm) are below a threshold, and units that "
    "no training example makes fire, in percent of all, before anything is removed; then without "
    "the units that are snapped. Same: runs whose test error does not change in any digit. Means "
    "over the seeds, and the range of the test error."
)


def adam_implicit_outcome(
    title: str, source: str, setups: Sequence[Setup], finished: Sequence[Finished]
) -> Outcome:
    """Sentences, tables and pictures, scene by scene; a pure function of the runs in any order.

    Args:
        title: Of the experiment.
        source: The paper.
        setups: With the figures of others.
        finished: Of these setups and of known variants.
    """
    shown = [_shown(scene, points, setups) for scene, points in points_of(finished).items()]
    return Outcome(
        title=title,
        source=source,
        sentences=tuple(line for it in shown for line in sentences_of(it)),
        tables=tuple(table for it in shown for table in _tables(it)),
        details=tuple(_everything(it) for it in shown),
        pictures=tuple(row for it in shown for row in pictures_of(it.scene, it.points)),
        bars=tuple(row for it in shown for row in bars_of(it.scene, it.of(Group.ACTIVATION))),
    )


def _shown(scene: Scene, points: Sequence[Point], setups: Sequence[Setup]) -> Shown:
    setup = next(it for it in setups if (it.dataset, it.network) == (scene.dataset, scene.network))
    ordered = tuple(point for name in VARIANTS for point in points if point.method == name)
    return Shown(scene, setup, ordered)


def _tables(shown: Shown) -> list[Table]:
    batches = batches_of(shown)
    groups = {
        "optimizers": shown.of(Group.OPTIMIZER),
        "activations": shown.of(Group.ACTIVATION),
        "L2": shown.grid if len(shown.grid) > 1 else (),
        "batch sizes, for the same number of steps": batches if len(batches) > 1 else (),
    }
    made = [_group(shown, name, points) for name, points in groups.items() if points]
    return [*made, *_layers(shown), *_smallest(shown), *_known(shown)]


def _group(shown: Shown, name: str, points: Sequence[Point]) -> Table:
    rows = tuple(_row(point) for point in points)
    return Table(f"{shown.scene.title}: {name}", _NOTE, _HEADER, rows)


def _everything(shown: Shown) -> Table:
    rows = tuple((*_row(point)[:5], *_more(point)) for point in shown.points)
    note = "Before anything is removed. Means over the seeds, and ranges."
    return Table(f"{shown.scene.title}: all points", note, (*_HEADER[:5], *_MORE), rows)


def _more(point: Point) -> tuple[str, ...]:
    snaps = {implicit_of(run).threshold for run in point.runs}
    return (
        *(gone(point, threshold) for threshold in THRESHOLDS),
        told(point, silent_share, ".1f"),
        told(point, lambda it: implicit_of(it).error_before, ".2f"),
        f"{point.validation:.2f}",
        ", ".join(f"{it:g}" for it in sorted(snaps)),
        certificates(point.runs),
    )


def _row(point: Point) -> tuple[str, ...]:
    runs = point.runs
    return (
        TITLES[point.method],
        "-" if point.strength is None else f"{point.strength:g}",
        f"{len(runs)}",
        f"{point.error:.2f}",
        ends(point.range_of(error_of)),
        f"{sum(map(unchanged, runs))} of {len(runs)}",
        *(f"{mean_gone(point, threshold):.1f} %" for threshold in (GONE, NONE_BELOW)),
        f"{point.of(silent_share):.1f} %",
        f"{point.of(lambda it: it.units_removed):,.0f} of {runs[0].units:,}",
        percent(weights_left(runs)),
        percent(macs_left(runs)),
        kilobytes(runs),
    )


def _layers(shown: Shown) -> list[Table]:
    """Where the paper's method loses units."""
    point = shown.at_main(MAIN)
    if point is None:
        return []
    found = [(run, implicit_of(run).dead.layers) for run in point.runs]
    rows = []
    for place, layer in enumerate(found[0][1]):
        own = [layers[place] for _, layers in found]
        below = [_numbers([it.below[threshold] for it in own]) for threshold in THRESHOLDS]
        silent = _numbers([it.silent for it in own])
        rows.append((layer.layer, f"{layer.units:,}", *below, silent))
    note = (
        f"{TITLES[MAIN]}, L2 {shown.setup.main:g}: counts of units. Means over the seeds, ranges."
    )
    header = ("layer", "units", *(f"below {it:g}" for it in THRESHOLDS), "silent")
    return [Table(f"{shown.scene.title}: layers", note, header, tuple(rows))]


def _smallest(shown: Shown) -> list[Table]:
    found = smallest(shown.points)
    if len(found) < 2:
        return []
    dense = [it for it in shown.points if it.method in {PLAIN, "sgd"}]
    rows = tuple(_row(it) for it in (*dense, *found.values()))
    note = (
        "The fewest units whose error on the validation part is at most "
        f"{ALLOWED:g} times that of Adam without L2, or {OR_POINTS:g} points above it. The "
        "penalties have SGD; group lasso empties what reads a unit, not what writes it. "
    )
    return [Table(f"{shown.scene.title}: removal at equal error", note + _NOTE, _HEADER, rows)]


def _known(shown: Shown) -> list[Table]:
    """The recalled figures beside ours."""
    rows = []
    for figure in shown.setup.figures:
        own = next(
            (
                it
                for it in shown.points
                if (it.method, it.strength) == (figure.method, figure.strength)
            ),
            None,
        )
        ours = ("-", "-") if own is None else (f"{gone(own, GONE)} %", f"{own.error:.2f}")
        theirs = (f"{figure.gone:g} %", f"{figure.error:g}")
        rows.append((TITLES[figure.method], figure.of, f"{figure.strength:g}", *theirs, *ours))
    header = ("method", "whose", "L2", "gone", "test error, %", "here: < 1e-3", "test error, %")
    note = "Theirs are recalled, not measured here, and of another budget."
    name = f"{shown.scene.title}: beside the figures of others"
    return [Table(name, note, header, tuple(rows), words=2)] if rows else []


def _numbers(values: Sequence[int]) -> str:
    whole = f"{sum(values) / len(values):.1f}"
    return whole if len(values) == 1 else f"{whole} ({min(values)}-{max(values)})"
