"""Rungs: what a recorded run of the sensitivity experiment keeps at each allowed error."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from abscise._errors import StoreError
from abscise._json import Fields
from abscise.papers._finished import Finished
from abscise.papers._frontier import LOOK

RUNG = ("rung", "epoch", "validation", "nonzero", "test")


@dataclass(frozen=True, slots=True)
class Rung:
    """The sparsest state of one run whose error on the validation part is allowed.

    Args:
        allowed: That error in percent.
        epoch: When it was seen.
        nonzero: Its parameters that are not 0, biases included.
        test: Its error on the test set in percent.
    """

    allowed: float
    epoch: int
    nonzero: int
    test: float


@dataclass(frozen=True, slots=True)
class Trail:
    """One run.

    Args:
        run: Its line.
        start: What tells the dense network that it began with from others.
        rungs: By allowed error; those that were reached.
        looks: Of each epoch the error on the validation part and the parameters that are not 0.
    """

    run: Finished
    start: str
    rungs: Mapping[float, Rung]
    looks: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One method at one allowed error, over all its seeds.

    Args:
        allowed: Error on the validation part in percent.
        trails: All runs of the method, by seed.
        reached: What those kept that reach the error, by seed.
    """

    allowed: float
    trails: tuple[Trail, ...]
    reached: tuple[tuple[Trail, Rung], ...]

    @property
    def complete(self) -> bool:
        """Whether every run reaches the error; a mean over fewer is no match."""
        return 0 < len(self.reached) == len(self.trails)

    @property
    def compressions(self) -> tuple[float, ...]:
        """Parameters / non-zero parameters, biases included, dead units not yet removed."""
        return tuple(trail.run.parameters / max(rung.nonzero, 1) for trail, rung in self.reached)

    @property
    def reach(self) -> tuple[float, float]:
        """The least and the largest of the compressions."""
        return min(self.compressions), max(self.compressions)

    @property
    def shares(self) -> tuple[float, ...]:
        """Non-zero parameters / parameters."""
        return tuple(rung.nonzero / trail.run.parameters for trail, rung in self.reached)

    @property
    def compression(self) -> float:
        """Parameters / mean of the non-zero ones, of which at least one is counted."""
        one = 1 / self.reached[0][0].run.parameters
        return 1 / max(mean(self.shares), one)

    @property
    def tests(self) -> tuple[float, ...]:
        """Errors on the test set in percent."""
        return tuple(rung.test for _, rung in self.reached)


Steps = Mapping[str, tuple[Step, ...]]
"""Name -> its steps, in the order of tables."""


def trail_of(run: Finished) -> Trail:
    """What a line tells; a dense network's has no rungs.

    Raises:
        StoreError: A field is missing, unknown or of the wrong type.
    """
    notes = Fields(run.notes, f"{run.task.key}: notes", StoreError)
    if "rungs" not in run.notes:
        return Trail(run, notes.text("start"), {})
    rungs = [
        Rung(
            one.number("rung"), one.integer("epoch", 1), one.integer("nonzero"), one.number("test")
        )
        for one in notes.objects("rungs", RUNG)
    ]
    looks = tuple(_look(item, notes) for item in notes.items("looks"))
    return Trail(run, notes.text("start"), {rung.allowed: rung for rung in rungs}, looks)


def _look(item: object, notes: Fields) -> tuple[float, int]:
    """Error and size of one look: epoch, loss, error, size."""
    if not isinstance(item, list) or len(item) != len(LOOK):
        notes.refuse("looks", f"lists of {', '.join(LOOK)}")
    one = Fields(dict(zip(LOOK, item, strict=True)), f"{notes.where}: looks", notes.error)
    return one.number("error"), one.integer("nonzero")


def steps_of(trails: Sequence[Trail], allowed: Sequence[float]) -> tuple[Step, ...]:
    """The steps of one method's runs, by rising error."""
    ordered = tuple(sorted(trails, key=lambda it: it.run.task.seed))
    return tuple(
        Step(rung, ordered, tuple((it, it.rungs[rung]) for it in ordered if rung in it.rungs))
        for rung in sorted(allowed)
    )


def highest_compression(steps: Sequence[Step], error: float) -> Step | None:
    """The sparsest complete step whose mean test error is at most `error`: read off the curve.

    The rung is then chosen by the test set, which is how figures are mostly read off curves.
    """
    fit = [step for step in steps if step.complete and mean(step.tests) <= error]
    return max(fit, key=lambda it: it.compression, default=None)
