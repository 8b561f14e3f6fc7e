"""lightning-fabric for one device: where the tensors are, in which precision, who logs.

Its own checkpoints are pickles; they are not used.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from abscise._errors import StoreError
from abscise.train._extra import import_extra
from abscise.train._names import Precision
from abscise.train._progress import Progress
from abscise.train._recipe import Recipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.loggers.logger import Logger


def make_fabric(recipe: Recipe, loggers: Sequence["Logger"]) -> "Fabric":
    """Fabric for the recipe's device and precision, whatever the environment says.

    Launchers and clusters (LT_*, SLURM_*, RANK) speak of several processes; this is one.

    Raises:
        MissingExtraError: lightning-fabric is not installed.
    """
    fabric = import_extra("lightning_fabric", "training")
    plugins = import_extra("lightning_fabric.plugins", "training")
    environments = import_extra("lightning_fabric.plugins.environments", "training")
    strategies = import_extra("lightning_fabric.strategies", "training")
    device = torch.device(recipe.device)
    index = device.index or 0
    place = device if device.type == "cpu" else torch.device(device.type, index)
    if recipe.precision is Precision.FULL:
        precision = plugins.Precision()
    else:
        precision = plugins.MixedPrecision(recipe.precision.value, device=device.type)
    with _without_launchers():
        return fabric.Fabric(
            accelerator=device.type,
            devices=1 if device.type == "cpu" else [index],
            strategy=strategies.SingleDeviceStrategy(place),
            plugins=[precision, environments.LightningEnvironment()],
            loggers=list(loggers),
        )


@contextmanager
def _without_launchers() -> Iterator[None]:
    """Inside, the variables of lightning's launcher are not set: they overrule arguments."""
    held = {name: value for name, value in os.environ.items() if name.startswith("LT_")}
    for name in held:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(held)


@contextmanager
def _first_of_all() -> Iterator[None]:
    """Inside, this process logs, even where a cluster numbers it as another than the first."""
    ranks = import_extra("lightning_fabric.utilities.rank_zero", "logging")
    before = getattr(ranks.rank_zero_only, "rank", None)
    ranks.rank_zero_only.rank = 0
    try:
        yield
    finally:
        ranks.rank_zero_only.rank = before


def make_loggers(folder: Path, name: str) -> list["Logger"]:
    """Loggers that write `folder/name/version_N` for TensorBoard, and `metrics.csv` beside it.

    Every start of a run, a resumed one too, is a version of its own.

    Raises:
        StoreError: The folder cannot be made.
        MissingExtraError: tensorboard or lightning-fabric is not installed.
    """
    loggers = import_extra("lightning_fabric.loggers", "logging")
    _ = import_extra("tensorboard", f"logging to {folder}", extra="tensorboard")
    with _one_line(f"cannot log to {folder}"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with _first_of_all():
        table = loggers.CSVLogger(root_dir=folder, name=name, flush_logs_every_n_steps=1)
        curves = loggers.TensorBoardLogger(root_dir=folder, name=name, version=table.version)
    return [table, curves]


def log(fabric: "Fabric", progress: Progress) -> None:
    """Give the loggers the figures of a report.

    Raises:
        StoreError: One of them cannot write.
    """
    with _one_line(f"cannot log step {progress.step}"), _first_of_all():
        fabric.log_dict(metrics_of(progress), step=progress.step)


def metrics_of(progress: Progress) -> dict[str, float]:
    """What the loggers get at every report."""
    return {
        "accuracy": progress.accuracy,
        "dying": sum(layer.dying for layer in progress.layers.values()),
        "learning_rate": progress.learning_rate,
        "loss": progress.loss,
    }


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        message = f"{what}: {problem.strerror or problem}"
        raise StoreError(message) from problem
