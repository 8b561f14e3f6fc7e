"""What becomes of the runs: tables at the figures' errors, curves over all rungs, sentences."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean

from abscise.papers._finished import Finished
from abscise.papers._outcome import Outcome, Table
from abscise.papers._points import Scene, scene_of
from abscise.papers._rungs import Step, Trail, highest_compression, steps_of, trail_of
from abscise.papers._sensitivity_stages import CONTROLS, IDEAS, VARIANTS, Figure, Stage
from abscise.report import ParetoCurve, ParetoPanel, ParetoRow, ParetoSpot

MAIN, CONTROL, DENSE = "sensitivity", "decay", "dense"
HIGHEST = 3.0
"""Times the dense network's test error: what is above is not drawn."""

RECALLED = "others (recalled)"
_HEADER = (
    "method",
    "runs there",
    "compression",
    "test error, %",
    "on the test curve",
    "without dead units",
    "units left",
    "MACs left",
    "kB on disk",
)

Steps = Mapping[str, tuple[Step, ...]]


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
        titles: Method -> its name in tables, in their order.
        stages: With the figures to reach.
        finished: In any order.
    """
    sentences: list[str] = []
    tables: list[Table] = []
    details: list[Table] = []
    pictures: list[ParetoRow] = []
    for scene, runs in _scenes(finished).items():
        stage = next(
            it for it in stages if it.dataset == scene.dataset and it.network == scene.network
        )
        trails = [trail_of(run) for run in sorted(runs, key=lambda it: it.task.key)]
        dense = [it for it in trails if it.run.task.method == DENSE]
        steps = _steps(stage, titles, trails)
        sentences += _dense_sentence(scene, dense)
        sentences += [
            text for figure in stage.targets for text in _sentences(scene, figure, steps, titles)
        ]
        tables += [_at(scene, figure, steps, titles, stage) for figure in stage.targets]
        details.append(_everything(scene, steps, titles))
        pictures += _pictures(scene, stage, steps, titles, dense)
    return Outcome(title, source, tuple(sentences), tuple(tables), tuple(details), tuple(pictures))


def _scenes(finished: Iterable[Finished]) -> dict[Scene, list[Finished]]:
    """Scene -> its runs; of runs at several factors of the automatic pressure only those at 1."""
    found: dict[Scene, list[Finished]] = {}
    for run in finished:
        if run.task.strength is None:
            found.setdefault(scene_of(run), []).append(run)
    return dict(sorted(found.items()))


def _steps(stage: Stage, titles: Mapping[str, str], trails: Sequence[Trail]) -> Steps:
    """Method -> its steps, in the order of tables; only methods that have runs."""
    found = {name: [it for it in trails if it.run.task.method == name] for name in titles}
    return {
        name: steps_of(own, stage.rungs) for name, own in found.items() if own and name != DENSE
    }


def _at_error(steps: Steps, error: float) -> dict[str, Step]:
    """Method -> its step at this error, of the methods that reach it in all their runs."""
    found = {name: next(one for one in own if one.allowed == error) for name, own in steps.items()}
    return {name: one for name, one in found.items() if one.reached and one.complete}


def _dense_sentence(scene: Scene, dense: Sequence[Trail]) -> list[str]:
    if not dense:
        return []
    tests = tuple(it.run.error_percent for it in dense)
    checked = tuple(it.run.validation_percent for it in dense)
    said = (
        f"{scene.title}: the dense networks have {_ranged(tests)} % error on the test set and "
        f"{_ranged(checked)} % on the validation part."
    )
    return [said]


def _sentences(scene: Scene, figure: Figure, steps: Steps, titles: Mapping[str, str]) -> list[str]:
    """Who is the sparsest, and what sensitivity adds to its control, at the error of a figure."""
    there = _at_error(steps, figure.error)
    head = f"{scene.title}, at most {figure.error:g} % on the validation part"
    if not there:
        return [f"{head}: no method gets there in all its runs."]
    first = max(there, key=lambda name: there[name].compression)
    said = f"{head}: {titles[first]} is the sparsest, {_told(there[first])}"
    if {MAIN, CONTROL} <= set(there):
        own, control = there[MAIN], there[CONTROL]
        said += (
            f"; {titles[MAIN]} {_told(own)}, its control with S = 0 {_told(control)}, "
            f"{own.compression / control.compression:.2f} times as much"
        )
    said += (
        f". The figure to reach is {figure.compression:g}x at {figure.error:g} % on the test set"
    )
    curves = {name: highest_compression(own, figure.error) for name, own in steps.items()}
    reached = [
        titles[name]
        for name, step in curves.items()
        if step is not None and step.compression >= figure.compression
    ]
    by = f"reached on the test curve by {', '.join(reached)}" if reached else "no method reaches it"
    return [f"{said}: {by}."]


def _told(step: Step) -> str:
    return f"{step.compression:.1f}x at {mean(step.tests):.2f} % test error"


def _at(
    scene: Scene, figure: Figure, steps: Steps, titles: Mapping[str, str], stage: Stage
) -> Table:
    rows = [
        _row(titles[name], next(it for it in own if it.allowed == figure.error), own, figure)
        for name, own in steps.items()
    ]
    others = [
        (f"recalled: {it.of}", "", f"{it.compression:g}x", f"{it.error:.2f}", *[""] * 5)
        for it in stage.figures
    ]
    return Table(
        f"{scene.title}: at most {figure.error:g} % error on the validation part",
        "The sparsest state that the validation part allows; means over the seeds, and ranges. "
        "Compression: dense parameters / non-zero ones, biases included. On the test curve: the "
        f"greatest compression whose mean test error is at most {figure.error:g} %. The others' "
        "figures are recalled, not measured here.",
        _HEADER,
        (*rows, *others),
    )


def _row(title: str, step: Step, own: Sequence[Step], figure: Figure) -> tuple[str, ...]:
    curve = highest_compression(own, figure.error)
    on_curve = "-" if curve is None else _told(curve).replace(" test error", "")
    there = f"{len(step.reached)} of {len(step.trails)}"
    if not step.reached:
        return (title, there, "-", "-", on_curve, "-", "-", "-", "-")
    return (
        title,
        there,
        f"{step.compression:.1f}x ({_range(step.compressions, '.1f')})",
        _ranged(step.tests),
        on_curve,
        *_removed(step),
    )


def _removed(step: Step) -> tuple[str, str, str, str]:
    """Compression, units, MACs and bytes once dead units are gone."""
    found = step.smaller
    if len(found) < len(step.reached):
        return "-", "-", "-", "-"
    dense = mean(trail.run.parameters for trail, _ in found)
    left = mean(one.nonzero for _, one in found)
    units = mean(trail.run.units - one.units_removed for trail, one in found)
    macs = [
        one.macs / trail.run.dense_macs
        for trail, one in found
        if one.macs is not None and trail.run.dense_macs
    ]
    return (
        f"{dense / max(left, 1):.1f}x",
        f"{units:,.0f} of {found[0][0].run.units:,}",
        f"{100 * mean(macs):.1f} %" if len(macs) == len(found) else "-",
        f"{mean(one.bytes_on_disk for _, one in found) / 1000:,.1f}",
    )


def _everything(scene: Scene, steps: Steps, titles: Mapping[str, str]) -> Table:
    rows = tuple(
        (
            titles[name],
            f"{step.allowed:g}",
            f"{len(step.reached)} of {len(step.trails)}",
            f"{step.compression:.1f}x ({_range(step.compressions, '.1f')})",
            _ranged(step.tests),
        )
        for name, own in steps.items()
        for step in own
        if step.reached
    )
    header = ("method", "validation error allowed, %", "runs there", "compression", "test error, %")
    return Table(f"{scene.title}: all rungs", "Means over the seeds, and ranges.", header, rows)


def _ranged(values: Sequence[float]) -> str:
    return f"{mean(values):.2f}" + (f" ({_range(values, '.2f')})" if len(values) > 1 else "")


def _range(values: Sequence[float], form: str) -> str:
    return f"{min(values):{form}}-{max(values):{form}}"


def _pictures(
    scene: Scene,
    stage: Stage,
    steps: Steps,
    titles: Mapping[str, str],
    dense: Sequence[Trail],
) -> list[ParetoRow]:
    """One row for the paper's method with its controls, one for the ideas beside the best known."""
    tests = [it.run.error_percent for it in dense]
    reference = (mean(tests), (min(tests), max(tests))) if tests else None
    highest = HIGHEST * mean(tests) if tests else 100.0
    rows = {
        "the paper's method and its controls": CONTROLS,
        "variants and ideas": (MAIN, *VARIANTS, *IDEAS),
    }
    found = []
    for name, methods in rows.items():
        curves = [
            ParetoCurve(titles[it], place, _spots(steps[it]), main=it == MAIN)
            for place, it in enumerate(methods)
            if it in steps and _spots(steps[it])
        ]
        if curves:
            known = ParetoCurve(RECALLED, len(methods), _known(stage), main=False)
            panel = ParetoPanel("weights", (*curves, known), reference, highest)
            found.append(ParetoRow(f"{scene.title}: {name}", (panel,)))
    return found


def _spots(steps: Sequence[Step]) -> tuple[ParetoSpot, ...]:
    """Each state once, of the steps that all runs reach; by rising error, so falling size."""
    spots = {
        step.shares: ParetoSpot(
            mean(step.shares),
            mean(step.tests),
            (min(step.shares), max(step.shares)),
            (min(step.tests), max(step.tests)),
        )
        for step in steps
        if step.reached and step.complete
    }
    return tuple(spots.values())


def _known(stage: Stage) -> tuple[ParetoSpot, ...]:
    """The recalled figures, by rising compression."""
    ordered = sorted(stage.figures, key=lambda it: it.compression)
    shares = [(1 / it.compression, it.error) for it in ordered]
    return tuple(ParetoSpot(x, y, (x, x), (y, y)) for x, y in shares)
