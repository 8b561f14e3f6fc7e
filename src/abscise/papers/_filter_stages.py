"""The stages of the experiment on filter sparsity: data, network and budget, with recalled figures.

What is run without being asked for fits a CPU; the others are the paper's, and want a GPU.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from abscise.train import Augment, ModelName

SEEDS = (0, 1, 2)
LIMIT, EPOCHS = 10_000, 160
"""On a CPU: 250 steps of 40 examples make an epoch, 40,000 the run: sparsity needs steps."""

FULL_EPOCHS = 325
SMALL, TINY = "basicnet-quarter", "basicnet-eighth"
Run = tuple[str, float]
"""Method and strength."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of the paper, as we recall it.

    Args:
        gone: Percent of the filters whose |gamma| is below 1e-3.
        error: Test error in percent; None: not recalled.
    """

    gone: float
    error: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One data set with the network that learns it.

    Args:
        dataset: As a recipe names it.
        network: Network and width in a word.
        model: As a recipe names it.
        width: Every number of filters is multiplied by it.
        epochs: Passes over the training part.
        limit: Training examples at most; 0: all.
        augment: Of the training images.
        asked: Does it take part only when its network is named?
    """

    dataset: str
    network: str
    model: ModelName
    width: float
    epochs: int = FULL_EPOCHS
    limit: int = 0
    augment: Augment = Augment.FLIP
    asked: bool = True

    @property
    def place(self) -> tuple[str, str]:
        """What tells it from the others."""
        return self.dataset, self.network


ROUNDS: tuple[tuple[Run, ...], ...] = (
    (("adam-l2", 1e-4), ("sgd-l2", 1e-4), ("adamw", 1e-4), ("adam-l2", 0.0)),
    (("amsgrad-l2", 1e-4), ("adam-l2-eps", 1e-4), ("slimming", 1e-4)),
    (("adam-l2", 1e-3), ("adam-l2", 1e-5), ("adam-wd", 1e-4), ("adam-wd", 2e-4), ("sgd-l2", 1e-3)),
    (("adam-l2-batch20", 1e-4), ("adam-l2-batch80", 1e-4), ("adam-l2-batch160", 1e-4)),
    (("adadelta-l2", 1e-4), ("adagrad-l2", 1e-4)),
)
"""What is run, the most telling first: of each round all networks and all seeds before the next."""

NAMED: tuple[Run, ...] = (("sgd-wd", 1e-4), ("adadelta-wd", 1e-4), ("adagrad-wd", 1e-4))
"""What is run only when its method is named."""


def _small(
    dataset: str,
    network: str,
    width: float,
    *,
    asked: bool = True,
    augment: Augment = Augment.FLIP,
) -> Stage:
    return Stage(
        dataset=dataset,
        network=network,
        model=ModelName.BASICNET,
        width=width,
        epochs=EPOCHS,
        limit=LIMIT,
        augment=augment,
        asked=asked,
    )


STAGES = (
    _small("cifar10", SMALL, 0.25, asked=False),
    _small("mnist", SMALL, 0.25, asked=False, augment=Augment.NONE),  # digits have a left and right
    _small("cifar10", TINY, 0.125),
    _small("cifar10", "basicnet-half", 0.5),
    Stage(dataset="cifar10", network="basicnet", model=ModelName.BASICNET, width=1.0),
    Stage(dataset="cifar10", network="vgg16", model=ModelName.VGG16, width=1.0),
    _small("cifar100", SMALL, 0.25),
    Stage(dataset="cifar100", network="basicnet", model=ModelName.BASICNET, width=1.0),
    Stage(dataset="cifar100", network="vgg16", model=ModelName.VGG16, width=1.0),
)
"""In the order in which they are run; MNIST is the easy task, for which the network is large."""

_CIFAR10: Mapping[Run, Figure] = MappingProxyType(
    {
        ("adam-l2", 1e-3): Figure(83, 13.1),
        ("adam-l2", 1e-4): Figure(70, 10.5),
        ("adam-l2", 1e-5): Figure(48, 10.7),
        ("adam-l2", 0.0): Figure(0, 11.0),
        ("sgd-l2", 1e-4): Figure(0, 11.8),
        ("sgd-l2", 1e-3): Figure(27, 21.8),
        ("adam-wd", 1e-4): Figure(40, 11.2),
        ("adam-wd", 2e-4): Figure(60, 13.4),
        ("adam-l2-batch20", 1e-4): Figure(70),
        ("adam-l2-batch80", 1e-4): Figure(66),
        ("adam-l2-batch160", 1e-4): Figure(61),
    }
)
_CIFAR100: Mapping[Run, Figure] = MappingProxyType(
    {
        ("adam-l2", 1e-3): Figure(76, 39.0),
        ("adam-l2", 1e-4): Figure(47, 36.6),
        ("adam-l2", 1e-5): Figure(5, 40.6),
        ("sgd-l2", 1e-4): Figure(0, 37.4),
        ("adam-wd", 2e-4): Figure(16, 37.3),
        ("adam-l2-batch20", 1e-4): Figure(57),
        ("adam-l2-batch80", 1e-4): Figure(35),
        ("adam-l2-batch160", 1e-4): Figure(29),
    }
)
FIGURES = MappingProxyType({"cifar10": _CIFAR10, "cifar100": _CIFAR100})
"""Data set -> the figures of BasicNet at full width, 325 epochs, batch 40, means of three runs."""
