"""From a training run to the part of a report that tells of it."""

from abscise.report import Training, TrainingPoint
from abscise.train import DYING, Progress, Trained, run_of


def training_of(trained: Trained) -> Training:
    """What the observer saw, with the run's method, data, network and seed."""
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
        points=tuple(_point(seen, recipe.epochs) for seen in trained.history),
    )


def _point(seen: Progress, epochs: int) -> TrainingPoint:
    return TrainingPoint(
        step=seen.step,
        epoch=epochs * seen.step / seen.steps,
        loss=seen.loss,
        accuracy=seen.accuracy,
        learning_rate=seen.learning_rate,
        layers={name: (it.dying, it.units) for name, it in seen.layers.items()},
    )
