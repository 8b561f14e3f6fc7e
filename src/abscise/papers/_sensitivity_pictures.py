"""The pictures of the sensitivity experiment: test error against the weights that are left."""

from collections.abc import Mapping, Sequence
from statistics import mean

from abscise.papers._points import Scene
from abscise.papers._rungs import Step, Steps, Trail
from abscise.papers._sensitivity_names import CONTROL, MAIN, is_taught, method_of
from abscise.papers._sensitivity_stages import CONTROLS, Stage
from abscise.report import ParetoCurve, ParetoPanel, ParetoRow, ParetoSpot

HIGHEST = 3.0
"""Times the dense network's test error: what is above is not drawn."""

RECALLED = "others (recalled)"
DRAWN = (*CONTROLS, "magnitude-taught", "sensitivity-taught")
"""Methods with a colour; the tables have all."""

IDEAS_DRAWN = (MAIN, CONTROL, "magnitude", "magnitude-taught", "sensitivity-taught")


def pictures_of(
    scene: Scene,
    stage: Stage,
    steps: Steps,
    titles: Mapping[str, str],
    dense: Sequence[Trail],
) -> list[ParetoRow]:
    """One row for the paper's method with its controls, one for the ideas beside it.

    Args:
        scene: Of the runs.
        stage: With the recalled figures.
        steps: Method -> its steps.
        titles: Method -> its name.
        dense: The runs of the dense network; of the teacher where nothing else began with that.
    """
    tests = [it.run.error_percent for it in dense]
    reference = (mean(tests), (min(tests), max(tests))) if tests else None
    highest = HIGHEST * mean(tests) if tests else 100.0
    known = ParetoCurve(RECALLED, len(DRAWN), _known(stage), main=False)
    found = []
    rows = {"the paper's method and its controls": CONTROLS, "further ideas": IDEAS_DRAWN}
    for name, methods in rows.items():
        drawn = {it: spots for it in methods if (spots := _spots(_sparsest(it, steps)))}
        if drawn and (methods is CONTROLS or set(drawn) - set(CONTROLS)):
            curves = [
                ParetoCurve(titles[it], DRAWN.index(it), spots, main=it == MAIN)
                for it, spots in drawn.items()
            ]
            panel = ParetoPanel("weights", (*curves, known), reference, highest)
            found.append(ParetoRow(f"{scene.title}: {name}", (panel,)))
    return found


def _sparsest(method: str, steps: Steps) -> list[Step]:
    """Of a method, at each allowed error, the strength that leaves the least.

    The validation part allows, so the test set has no say in it. Other strengths than the rule's
    are drawn for taught methods only: the others are compared at one. Strengths with fewer seeds
    than another have none: the luckier one would be drawn.
    """
    same = method_of if is_taught(method) else str
    found = [own for it, own in steps.items() if same(it) == method]
    most = max((len(own[0].trails) for own in found), default=0)
    ladders = zip(*(own for own in found if len(own[0].trails) == most), strict=True)
    return [max(there, key=lambda it: it.compression) for one in ladders if (there := _there(one))]


def _there(steps: Sequence[Step]) -> list[Step]:
    return [step for step in steps if step.reached and step.complete]


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
    }
    return tuple(spots.values())


def _known(stage: Stage) -> tuple[ParetoSpot, ...]:
    """The recalled figures, by rising compression."""
    ordered = sorted(stage.figures, key=lambda it: it.compression)
    shares = [(1 / it.compression, it.error) for it in ordered]
    return tuple(ParetoSpot(x, y, (x, x), (y, y)) for x, y in shares)
