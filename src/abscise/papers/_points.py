"""Points: the runs of one strength over all seeds as means and ranges; curves of points."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import mean

from abscise.papers._finished import Finished

Range = tuple[float, float]


@dataclass(frozen=True, slots=True, order=True)
class Scene:
    """What runs must share to be compared: data, network, budget."""

    dataset: str
    network: str
    epochs: int
    limit: int

    @property
    def title(self) -> str:
        """In words."""
        part = f", {self.limit:,} examples" if self.limit else ""
        epochs = "epoch" if self.epochs == 1 else "epochs"
        return f"{self.dataset}, {self.network}, {self.epochs} {epochs}{part}"


@dataclass(frozen=True, slots=True)
class Point:
    """One method at one strength.

    Args:
        method: As the experiment names it.
        strength: None where nothing is swept.
        runs: One per seed, by seed.
    """

    method: str
    strength: float | None
    runs: tuple[Finished, ...]

    def of(self, figure: Callable[[Finished], float]) -> float:
        """The mean of a figure over the seeds."""
        return mean(figure(run) for run in self.runs)

    def range_of(self, figure: Callable[[Finished], float]) -> Range:
        """The least and the largest value over the seeds."""
        values = [figure(run) for run in self.runs]
        return min(values), max(values)

    @property
    def error(self) -> float:
        """Mean test error in percent."""
        return self.of(lambda run: run.error_percent)

    @property
    def validation(self) -> float:
        """Mean error on the validation part in percent: what is chosen is chosen by it."""
        return self.of(lambda run: run.validation_percent)

    @property
    def nonzero(self) -> float:
        """Mean number of non-zero parameters."""
        return self.of(lambda run: run.nonzero)


def scene_of(run: Finished) -> Scene:
    """The scene that a run belongs to."""
    task = run.task
    return Scene(task.dataset, task.network, task.epochs, task.limit)


def points_of(finished: Iterable[Finished]) -> dict[Scene, tuple[Point, ...]]:
    """Scene -> its points by method and strength; the order of the runs does not matter."""
    found: dict[Scene, dict[tuple[str, float], list[Finished]]] = {}
    for run in finished:
        strength = -1.0 if run.task.strength is None else run.task.strength
        points = found.setdefault(scene_of(run), {})
        points.setdefault((run.task.method, strength), []).append(run)
    return {
        scene: tuple(
            Point(
                method,
                None if strength < 0 else strength,
                tuple(sorted(points[method, strength], key=lambda run: run.task.seed)),
            )
            for method, strength in sorted(points)
        )
        for scene, points in sorted(found.items())
    }


def least(
    points: Sequence[Point], highest: float, figure: Callable[[Finished], float]
) -> Point | None:
    """The point of the least mean `figure` whose validation error is at most `highest`.

    Only points over as many seeds as the most complete one are looked at: a mean over fewer is no
    match.
    """
    seeds = max((len(point.runs) for point in points), default=0)
    allowed = [it for it in points if it.validation <= highest and len(it.runs) == seeds]
    return min(allowed, key=lambda it: it.of(figure), default=None)
