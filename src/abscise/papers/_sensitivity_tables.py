"""What becomes of the runs: tables at the figures' errors, curves over all rungs, sentences."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from statistics import mean

from abscise.papers._cells import certificates, ends, kilobytes, macs_left, mean_of, percent
from abscise.papers._finished import Finished
from abscise.papers._outcome import Outcome, Table
from abscise.papers._points import Scene, scene_of
from abscise.papers._rungs import Step, Steps, Trail, highest_compression, steps_of, trail_of
from abscise.papers._sensitivity_names import (
    CONTROL,
    DENSE,
    MAIN,
    STARTS,
    TEACHER,
    is_taught,
    name_of,
    titles_of,
)
from abscise.papers._sensitivity_pictures import pictures_of
from abscise.papers._sensitivity_stages import Stage
from abscise.papers._sensitivity_words import added, reached, start_sentences
from abscise.report import ParetoRow

COLUMNS = 7
"""Rungs in the table of frontiers: of those that a method reaches, evenly chosen."""


def sensitivity_outcome(
    title: str,
    source: str,
    titles: Mapping[str, str],
    stages: Sequence[Stage],
    finished: Sequence[Finished],
) -> Outcome:
    """Sentences, tables and pictures, scene by scene; a pure function of the runs.

    Args:
        title: Of the experiment.
        source: The paper.
        titles: Method -> what it is called in tables, in their order.
        stages: With the figures to reach.
        finished: In any order.
    """
    titles = titles_of(titles, [run.task for run in finished])
    sentences: list[str] = []
    tables: list[Table] = []
    details: list[Table] = []
    pictures: list[ParetoRow] = []
    for scene, runs in _scenes(finished).items():
        stage = next(
            it for it in stages if it.dataset == scene.dataset and it.network == scene.network
        )
        trails = [
            trail_of(run)
            for run in sorted(runs, key=lambda it: it.task.key)
            if run.task.method not in STARTS
        ]
        starts = {name: _starts(finished, runs, name) for name in STARTS}
        steps = _steps(stage, titles, trails)
        sentences += [*start_sentences(scene, starts), *added(scene, steps, titles)]
        sentences += [reached(scene, figure, steps, titles) for figure in stage.targets]
        tables += [
            _cycles(scene, stage, trails, titles),
            _frontiers(scene, steps, titles),
            _figures(scene, stage, steps, titles),
            _shipped(scene, [*chain(*starts.values()), *trails], titles),
        ]
        details.append(_everything(scene, steps, titles))
        pictures += pictures_of(scene, stage, steps, titles, starts[DENSE] or starts[TEACHER])
    return Outcome(title, source, tuple(sentences), tuple(tables), tuple(details), tuple(pictures))


def _scenes(finished: Iterable[Finished]) -> dict[Scene, list[Finished]]:
    """Scene -> its runs."""
    found: dict[Scene, list[Finished]] = {}
    for run in finished:
        found.setdefault(scene_of(run), []).append(run)
    return dict(sorted(found.items()))


def _starts(finished: Iterable[Finished], runs: Sequence[Finished], name: str) -> list[Trail]:
    """Of each seed in `runs` the network that they began with, whatever came afterwards."""
    starts = {run.notes.get("start") for run in runs}
    found = {
        run.task.seed: trail_of(run)
        for run in sorted(finished, key=lambda it: it.task.key)
        if run.task.method == name and run.notes.get("start") in starts
    }
    return [found[seed] for seed in sorted(found)]


def _steps(stage: Stage, titles: Mapping[str, str], trails: Sequence[Trail]) -> Steps:
    """Method -> its steps, in the order of tables; only methods that have runs."""
    found = {name: [it for it in trails if name_of(it.run.task) == name] for name in titles}
    return {
        name: steps_of(own, stage.rungs)
        for name, own in found.items()
        if own and name not in STARTS
    }


def _frontiers(scene: Scene, steps: Steps, titles: Mapping[str, str]) -> Table:
    """Methods by allowed errors."""
    allowed = sorted({it.allowed for own in steps.values() for it in own if it.complete})
    last = max(len(allowed) - 1, 1)
    wanted = {round(place * last / (COLUMNS - 1)) for place in range(COLUMNS)}
    shown = [one for place, one in enumerate(allowed) if place in wanted or last < COLUMNS]
    rows = []
    for name, own in steps.items():
        cells = [_cell(next(it for it in own if it.allowed == one)) for one in shown]
        rows.append((titles[name], f"{len(own[0].trails)}", *cells))
    return Table(
        f"{scene.title}: compression, and test error in percent",
        "Of the sparsest state whose error on the validation part is at most the column's. "
        "Compression: dense parameters / non-zero ones, biases included, dead units not yet "
        "removed. Means over the seeds; -: not all runs get there.",
        ("method", "seeds", *(f"<= {one:g} %" for one in shown)),
        tuple(rows),
    )


def _cycles(
    scene: Scene, stage: Stage, trails: Sequence[Trail], titles: Mapping[str, str]
) -> Table:
    """Methods by cycles: each ends with a settled network."""
    lasts = [(number + 1) * scene.epochs // stage.cycles for number in range(stage.cycles)]
    rows = []
    for name, title in titles.items():
        own = [it for it in trails if name_of(it.run.task) == name and it.looks]
        if own:
            cells = [_after(own, end) for end in lasts]
            rows.append((title, f"{len(own)}", *(text for pair in cells for text in pair)))
    heads = [text for end in lasts for text in (f"after epoch {end}", "validation error, %")]
    return Table(
        f"{scene.title}: the end of each cycle",
        "Compression as below, and the error on the validation part. Means over the seeds, and "
        "the range of the error.",
        ("method", "seeds", *heads),
        tuple(rows),
    )


def _after(own: Sequence[Trail], epoch: int) -> tuple[str, str]:
    """Compression and error after an epoch; nothing where a run ended before."""
    looks = [it.looks[epoch - 1] for it in own if len(it.looks) >= epoch]
    if len(looks) < len(own):
        return "-", "-"
    left = mean(nonzero for _, nonzero in looks)
    return f"{own[0].run.parameters / max(left, 1):.1f}x", mean_of([error for error, _ in looks])


def _cell(step: Step) -> str:
    return f"{step.compression:.1f}x, {mean(step.tests):.2f}" if step.complete else "-"


def _figures(scene: Scene, stage: Stage, steps: Steps, titles: Mapping[str, str]) -> Table:
    """The recalled figures, and what the methods leave at the same test error."""
    taught = [name for name in steps if is_taught(name)]
    shown = [*(name for name in (MAIN, CONTROL, "magnitude", "ours") if name in steps), *taught]
    rows = []
    for figure in sorted(stage.figures, key=lambda it: (it.error, it.compression)):
        found = [highest_compression(steps[name], figure.error) for name in shown]
        cells = ["-" if step is None else f"{step.compression:.1f}x" for step in found]
        rows.append((figure.of, f"{figure.error:.2f}", f"{figure.compression:g}x", *cells))
    return Table(
        f"{scene.title}: beside the figures of others",
        "Theirs are recalled, not measured here. Ours: the greatest compression at a rung whose "
        "mean test error is not higher, so read off the curve of the test error.",
        ("whose", "test error, %", "compression", *(f"here: {titles[name]}" for name in shown)),
        tuple(rows),
    )


def _shipped(scene: Scene, trails: Sequence[Trail], titles: Mapping[str, str]) -> Table:
    """The states that were made smaller."""
    rows = []
    for name, title in titles.items():
        own = [it for it in trails if name_of(it.run.task) == name]
        if own:
            rows.append((title, *_smaller(own)))
    return Table(
        f"{scene.title}: without dead units",
        "One state of each run: the sparsest that reaches the last target on the validation part, "
        "else the one with the least error there. Each has a certificate that the smaller network "
        "gives the same outputs. Means over the seeds.",
        (
            "method",
            "test error, %",
            "compression",
            "units left",
            "MACs left",
            "kB on disk",
            "certificates",
        ),
        tuple(rows),
    )


def _smaller(own: Sequence[Trail]) -> tuple[str, ...]:
    runs = [it.run for it in own]
    left = mean(run.nonzero for run in runs)
    return (
        mean_of([run.error_percent for run in runs]),
        f"{runs[0].parameters / max(left, 1):.1f}x",
        f"{mean(run.units_kept for run in runs):,.0f} of {runs[0].units:,}",
        percent(macs_left(runs)),
        kilobytes(runs),
        certificates(runs),
    )


def _everything(scene: Scene, steps: Steps, titles: Mapping[str, str]) -> Table:
    rows = tuple(
        (
            titles[name],
            f"{step.allowed:g}",
            f"{len(step.reached)} of {len(step.trails)}",
            f"{step.compression:.1f}x ({ends(step.reach, '.1f')})",
            mean_of(step.tests),
        )
        for name, own in steps.items()
        for step in own
        if step.reached
    )
    header = ("method", "validation error allowed, %", "runs there", "compression", "test error, %")
    return Table(f"{scene.title}: all rungs", "Means over the seeds, and ranges.", header, rows)
