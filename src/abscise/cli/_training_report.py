"""From a training run to the part of a report that tells of it."""

from collections.abc import Sequence
from typing import TypeVar

from abscise.report import Training, TrainingPoint
from abscise.train import DYING, Progress, Schedule, Trained, run_of

MOST_POINTS = 2000
MOST_COUNTS = 200_000  # points times layers
T = TypeVar("T")


def training_of(trained: Trained) -> Training:
    """What the observer saw, thinned, with the run's method, data, network and seed."""
    recipe = trained.recipe
    run = run_of(trained, recipe.name)
    return Training(
        recipe=recipe.name,
        method=run.method,
        dataset=run.dataset,
        network=run.network,
        seed=run.seed,
        wall_s=trained.wall_s,
        dying_below=DYING,
        points=tuple(_point(seen, recipe.epochs) for seen in thinned(trained.history)),
        smooth=recipe.schedule is Schedule.COSINE,
    )


def thinned(history: Sequence[Progress]) -> list[Progress]:
    """About evenly chosen, the first and the last among them, so that a report stays small."""
    layers = len(history[-1].layers) if history else 0
    most = max(MOST_POINTS // 20, min(MOST_POINTS, MOST_COUNTS // max(layers, 1)))
    return evenly(history, most)


def evenly(records: Sequence[T], most: int) -> list[T]:
    """At most so many of them, about evenly chosen, the first and the last among them."""
    if len(records) <= most:
        return list(records)
    return [records[index * (len(records) - 1) // (most - 1)] for index in range(most)]


def _point(seen: Progress, epochs: int) -> TrainingPoint:
    return TrainingPoint(
        step=seen.step,
        epoch=epochs * seen.step / seen.steps,
        loss=seen.loss,
        accuracy=seen.accuracy,
        learning_rate=seen.learning_rate,
        layers={name: (it.dying, it.units) for name, it in seen.layers.items()},
    )
