"""What the runs of the sensitivity experiment say, in sentences."""

from collections.abc import Mapping, Sequence
from statistics import mean

from abscise.papers._cells import mean_of
from abscise.papers._points import Scene
from abscise.papers._rungs import Step, Steps, Trail, highest_compression
from abscise.papers._sensitivity_names import STARTS, control_of
from abscise.papers._sensitivity_stages import Figure


def start_sentences(scene: Scene, starts: Mapping[str, Sequence[Trail]]) -> list[str]:
    """How good what the runs began with was."""
    said = []
    for name, trails in starts.items():
        tests = tuple(it.run.error_percent for it in trails)
        checked = tuple(it.run.validation_percent for it in trails)
        if trails:
            said.append(
                f"{scene.title}: the {STARTS[name]} have {mean_of(tests)} % error on the test set "
                f"and {mean_of(checked)} % on the validation part."
            )
    return said


def added(scene: Scene, steps: Steps, titles: Mapping[str, str]) -> list[str]:
    """What sensitivity adds to its control, rung by rung: of each pair that was run alike."""
    pairs = [
        (name, control)
        for name in steps
        if (control := control_of(name)) is not None and control in steps
    ]
    return [sentence for pair in pairs for sentence in _compared(scene, pair, steps, titles)]


def _compared(
    scene: Scene, pair: tuple[str, str], steps: Steps, titles: Mapping[str, str]
) -> list[str]:
    """One sentence for each size of the first at which the second is there, too."""
    main, control = pair
    both = [
        (own, other)
        for own, other in zip(steps[main], steps[control], strict=True)
        if own.complete and other.complete
    ]
    chosen = {own.compression: (own, other) for own, other in reversed(both)}
    said = []
    for own, other in reversed(chosen.values()):
        others = _complete(steps, own.allowed)
        first = max(others, key=lambda name: others[name].compression)
        said.append(
            f"{scene.title}, at most {own.allowed:g} % error on the validation part: "
            f"{titles[main]} {_told(own)}, its control with S = 0 {_told(other)}, "
            f"{own.compression / other.compression:.2f} times as much; the sparsest of all is "
            f"{titles[first]}, {_told(others[first])}{_fewer(others[first], steps)}."
        )
    return said


def reached(scene: Scene, figure: Figure, steps: Steps, titles: Mapping[str, str]) -> str:
    """Whether a figure is reached, read off the curves of the test error as figures mostly are."""
    curves = {name: highest_compression(own, figure.error) for name, own in steps.items()}
    there = {name: step for name, step in curves.items() if step is not None}
    head = (
        f"{scene.title}: the figure to reach is {figure.compression:g}x at {figure.error:g} % test "
        "error (recalled); read off the curve of the test error"
    )
    if not there:
        return f"{head}, no method gets below that error once weights are gone."
    best = max(there, key=lambda name: there[name].compression)
    verb = "reaches" if there[best].compression >= figure.compression else "comes nearest, with"
    return f"{head}, {titles[best]} {verb} {_told(there[best])}{_fewer(there[best], steps)}."


def _complete(steps: Steps, allowed: float) -> dict[str, Step]:
    """Method -> its step at this error, of the methods that reach it in all their runs."""
    found = {name: next(it for it in own if it.allowed == allowed) for name, own in steps.items()}
    return {name: step for name, step in found.items() if step.complete}


def _told(step: Step) -> str:
    return f"{step.compression:.1f}x at {mean(step.tests):.2f} % test error"


def _fewer(step: Step, steps: Steps) -> str:
    """A remark on a mean over fewer seeds than others have."""
    most = max(len(own[0].trails) for own in steps.values())
    return f" ({len(step.trails)} of {most} seeds)" if len(step.trails) < most else ""
