"""What adam-implicit tells in words: each sentence follows from the runs, also where none died."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from abscise.papers._adam_implicit_variants import MAIN, PLAIN, VARIANTS, Group, Setup
from abscise.papers._cells import macs_left, percent, weights_left
from abscise.papers._dead import GONE
from abscise.papers._finished import Finished
from abscise.papers._implicit import (
    NONE_BELOW,
    control_sentence,
    dead_share,
    recipes_sentence,
    silent_share,
    unchanged,
)
from abscise.papers._points import Point, Scene, least

ALLOWED, OR_POINTS = 1.1, 0.1
"""What the error on the validation part may be at most, to be called equal: so many times that of
Adam without L2, or so many points above it."""

TITLES: Mapping[str, str] = {name: variant.title for name, variant in VARIANTS.items()}
Knob = Callable[[Point], float]


@dataclass(frozen=True, slots=True)
class Shown:
    """One scene: its setup, and its points in the order of the variants."""

    scene: Scene
    setup: Setup
    points: tuple[Point, ...]

    def of(self, *groups: Group) -> tuple[Point, ...]:
        """The points of these groups, and the paper's method at the strengths that these have."""
        own = [it for it in self.points if VARIANTS[it.method].group in groups]
        strengths = {self.setup.main, *(it.strength for it in own)}
        return tuple(
            it
            for it in self.points
            if VARIANTS[it.method].group in groups
            or (own and it.method == MAIN and it.strength in strengths)
        )

    def at_main(self, method: str) -> Point | None:
        """The point of a method at the setup's own strength."""
        strength = self.setup.main if VARIANTS[method].decays else None
        found = (it for it in self.points if (it.method, it.strength) == (method, strength))
        return next(found, None)

    @property
    def grid(self) -> tuple[Point, ...]:
        """The paper's method, by rising strength."""
        own = [it for it in self.points if it.method == MAIN]
        return tuple(sorted(own, key=lambda it: it.strength or 0.0))


def equal_error(points: Sequence[Point]) -> float | None:
    """The highest error on the validation part that is called equal; None without Adam's own."""
    plain = next((it for it in points if it.method == PLAIN), None)
    if plain is None:
        return None
    return max(ALLOWED * plain.validation, plain.validation + OR_POINTS)


def smallest(points: Sequence[Point]) -> dict[str, Point]:
    """Of the paper's method and each that removes by itself, the point with the fewest units.

    Only points whose error on the validation part is equal; the test set chooses nothing.
    """
    highest = equal_error(points)
    names = dict.fromkeys(it.method for it in points if it.method == MAIN or _removes(it))
    if highest is None:
        return {}
    found = {
        name: least([it for it in points if it.method == name], highest, lambda it: it.units_kept)
        for name in names
    }
    return {name: point for name, point in found.items() if point is not None}


def _removes(point: Point) -> bool:
    return bool(VARIANTS[point.method].penalty)


def sentences_of(shown: Shown) -> list[str]:
    said = [
        _main(shown),
        control_sentence(
            shown.scene.title,
            [it for it in shown.points if VARIANTS[it.method].control],
            TITLES,
            shown.at_main(MAIN),
        ),
        _activations(shown),
        _optimizers(shown),
        _course(shown, shown.grid, "L2 from {low} to {high}", lambda it: it.strength or 0.0),
        _course(shown, batches_of(shown), "batches from {low} to {high}", size_of(shown.setup)),
        _removal(shown),
        recipes_sentence(shown.scene.title, shown.points),
    ]
    return [line for line in said if line]


def _main(shown: Shown) -> str:
    point = shown.at_main(MAIN)
    if point is None:
        return ""
    same = sum(map(unchanged, point.runs))
    return (
        f"{shown.scene.title}: {TITLES[MAIN]}, L2 {shown.setup.main:g}: "
        f"{gone(point, GONE)} % of the units are below {GONE:g}, {gone(point, NONE_BELOW)} % "
        f"below {NONE_BELOW:g}, {told(point, silent_share, '.1f')} % never fire; without the "
        f"{told(point, removed_share, '.1f')} % that are snapped and removed "
        f"{percent(weights_left(point.runs))} of the weights and "
        f"{percent(macs_left(point.runs))} of the MACs are left, and "
        f"the test error is {told(point, lambda it: it.error_percent, '.2f')} %, the same to every "
        f"digit in {same} of {len(point.runs)} runs."
    )


def _activations(shown: Shown) -> str:
    """The paper's claim: with ReLU units vanish, with the others none."""
    main = shown.at_main(MAIN)
    names = [it for it in VARIANTS if VARIANTS[it].group is Group.ACTIVATION]
    others = [point for name in names if (point := shown.at_main(name)) is not None]
    if main is None or not others:
        return ""
    seeds = _seeds((main, *others))
    found = [f"{TITLES[it.method]} {gone(it, NONE_BELOW)} %{seeds(it)}" for it in (main, *others)]
    if any(mean_gone(it, NONE_BELOW) for it in others):
        verdict = "NOT only with ReLU"
    elif mean_gone(main, NONE_BELOW):
        verdict = "as the paper has it, only with ReLU"
    else:
        verdict = "none, so that nothing is shown"
    return (
        f"{shown.scene.title}: units below {NONE_BELOW:g} by activation, {verdict}: "
        f"{'; '.join(found)}."
    )


def _optimizers(shown: Shown) -> str:
    """Who else loses units, of those that are no controls."""
    main = shown.at_main(MAIN)
    names = [it for it, one in VARIANTS.items() if one.group is Group.OPTIMIZER and not one.control]
    others = [point for name in names if (point := shown.at_main(name)) is not None]
    if main is None or not others:
        return ""
    seeds = _seeds((main, *others))
    found = [
        f"{TITLES[it.method]} {gone(it, GONE)} % ({gone(it, NONE_BELOW)} % below {NONE_BELOW:g})"
        f"{seeds(it)}"
        for it in (main, *others)
    ]
    return f"{shown.scene.title}: units below {GONE:g} by optimizer: {'; '.join(found)}."


def _course(shown: Shown, points: Sequence[Point], words: str, knob: Knob) -> str:
    """Whether the share of dead units rises, falls, or neither, along a knob."""
    if len(points) < 2:
        return ""
    ordered = sorted(points, key=knob)
    shares = [mean_gone(it, GONE) for it in ordered]
    steps = [after - before for before, after in pairwise(shares)]
    if not any(steps):
        verdict = "stays"
    elif all(step >= 0 for step in steps):
        verdict = "rises at every step or stays"
    elif all(step <= 0 for step in steps):
        verdict = "falls at every step or stays"
    else:
        verdict = "neither rises nor falls all the way"
    where = words.format(low=f"{knob(ordered[0]):g}", high=f"{knob(ordered[-1]):g}")
    seeds = _seeds(ordered)
    texts = ", ".join(f"{mean_gone(it, GONE):.1f} %{seeds(it)}" for it in ordered)
    return (
        f"{shown.scene.title}: with {where} the share of units below {GONE:g} {verdict}: {texts}."
    )


def _removal(shown: Shown) -> str:
    """Who leaves the fewest units at equal error."""
    found = smallest(shown.points)
    if len(found) < 2:
        return ""
    ranked = sorted(found, key=lambda name: (found[name].of(kept), name))
    seeds = _seeds(tuple(found.values()))
    texts = [
        f"{TITLES[it]} {found[it].of(kept):.1f} % (test error {found[it].error:.2f} %)"
        f"{seeds(found[it])}"
        for it in ranked
    ]
    return (
        f"{shown.scene.title}: units left at equal error on the validation part: "
        f"{'; '.join(texts)}."
    )


def _seeds(points: Sequence[Point]) -> Callable[[Point], str]:
    """What is put behind a mean where those beside it are over other seeds; mostly nothing."""
    if len({_drawn(it) for it in points}) < 2:
        return lambda _: ""
    return lambda it: f" ({'seed' if len(it.runs) == 1 else 'seeds'} {', '.join(_drawn(it))})"


def _drawn(point: Point) -> tuple[str, ...]:
    return tuple(str(run.task.seed) for run in point.runs)


def batches_of(shown: Shown) -> tuple[Point, ...]:
    """By size; the paper's method has the setup's."""
    return tuple(sorted(shown.of(Group.BATCH), key=size_of(shown.setup)))


def size_of(setup: Setup) -> Knob:
    """A point's batch size."""
    return lambda it: float(VARIANTS[it.method].batch_size or setup.batch_size)


def told(point: Point, figure: Callable[[Finished], float], form: str) -> str:
    """The mean of a figure over the seeds, with its range."""
    low, high = (f"{it:{form}}" for it in point.range_of(figure))
    mean = f"{point.of(figure):{form}}"
    return mean if low == high else f"{mean} ({low}-{high})"


def gone(point: Point, threshold: float) -> str:
    """Percent of the units below a threshold, with the range."""
    return told(point, lambda run: dead_share(run, threshold), ".1f")


def removed_share(run: Finished) -> float:
    """Percent of the units that are gone."""
    return 100 - kept(run) if run.units else 0.0


def kept(run: Finished) -> float:
    """Percent of the units that are left."""
    return 100 * run.units_kept / max(run.units, 1)


def mean_gone(point: Point, threshold: float) -> float:
    """Percent of the units below a threshold: the mean over the seeds."""
    return point.of(lambda run: dead_share(run, threshold))
