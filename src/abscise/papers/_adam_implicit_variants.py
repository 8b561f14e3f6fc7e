"""The variants and setups of adam-implicit: what differs from Adam with L2 and ReLU, and where."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from abscise.papers._grid import Geometric, Grid, Shares

MAIN, PLAIN = "adam-l2", "adam"
"""The paper's method, and the same without L2."""

_SGD = MappingProxyType({"optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.9})
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Group(StrEnum):
    """What a variant is compared for; the paper's method is in all of them."""

    MAIN = "main"
    OPTIMIZER = "optimizer"
    ACTIVATION = "activation"
    BATCH = "batch"
    REMOVAL = "removal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to train; what is not said is as in the paper's method.

    Args:
        title: For tables and figures.
        group: What it is compared for.
        control: Whether it must show no unit below 1e-6.
        decays: Whether the task's strength is L2, or AdamW's decay.
        recipe: Fields of the recipe that differ.
        activation: Instead of ReLU.
        batch_size: Instead of the setup's, for the same number of steps; 0: the setup's.
        penalty: A method of `_methods`, whose knob is then the task's strength.
    """

    title: str
    group: Group
    control: bool = False
    decays: bool = True
    recipe: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    activation: str = ""
    batch_size: int = 0
    penalty: str = ""

    @property
    def has_strength(self) -> bool:
        """Whether there is anything that can be strong or weak."""
        return self.decays or bool(self.penalty)


def _recipe(**changes: object) -> Mapping[str, Any]:
    return MappingProxyType(changes)


def _penalty(title: str, name: str, recipe: Mapping[str, Any] = _SGD) -> Variant:
    return Variant(title=title, group=Group.REMOVAL, decays=False, recipe=recipe, penalty=name)


VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {
        MAIN: Variant(title="Adam + L2, ReLU", group=Group.MAIN),
        PLAIN: Variant(title="Adam, no L2", group=Group.OPTIMIZER, control=True, decays=False),
        "adamw": Variant(
            title="AdamW, same number",
            group=Group.OPTIMIZER,
            control=True,
            recipe=_recipe(optimizer="adamw"),
        ),
        "amsgrad-l2": Variant(
            title="AMSGrad + L2",
            group=Group.OPTIMIZER,
            control=True,
            recipe=_recipe(amsgrad=True),
        ),
        "adam-l2-eps": Variant(
            title="Adam + L2, eps 1e-3",
            group=Group.OPTIMIZER,
            control=True,
            recipe=_recipe(eps=1e-3),
        ),
        "sgd-l2": Variant(title="SGD + L2", group=Group.OPTIMIZER, recipe=_SGD),
        "rmsprop-l2": Variant(
            title="RMSprop + L2", group=Group.OPTIMIZER, recipe=_recipe(optimizer="rmsprop")
        ),
        "leaky-relu": Variant(
            title="Adam + L2, leaky ReLU", group=Group.ACTIVATION, activation="leaky-relu"
        ),
        "leaky-relu-0.1": Variant(
            title="Adam + L2, leaky ReLU, slope 0.1",
            group=Group.ACTIVATION,
            activation="leaky-relu:0.1",
        ),
        "leaky-relu-0.3": Variant(
            title="Adam + L2, leaky ReLU, slope 0.3",
            group=Group.ACTIVATION,
            activation="leaky-relu:0.3",
        ),
        "elu": Variant(title="Adam + L2, ELU", group=Group.ACTIVATION, activation="elu"),
        "gelu": Variant(title="Adam + L2, GELU", group=Group.ACTIVATION, activation="gelu"),
        "tanh": Variant(title="Adam + L2, tanh", group=Group.ACTIVATION, activation="tanh"),
        "batch-20": Variant(title="batches of 20", group=Group.BATCH, batch_size=20),
        "batch-50": Variant(title="batches of 50", group=Group.BATCH, batch_size=50),
        "batch-100": Variant(title="batches of 100", group=Group.BATCH, batch_size=100),
        "batch-200": Variant(title="batches of 200", group=Group.BATCH, batch_size=200),
        "sgd": Variant(title="SGD, dense", group=Group.REMOVAL, decays=False, recipe=_SGD),
        "l1": _penalty("l1", "l1"),
        "group-lasso": _penalty("group lasso", "group-lasso"),
        "sgl": _penalty("sparse group lasso", "sgl"),
        "random-units": _penalty("random units", "random-units", _NOTHING),
    }
)
"""Name -> variant, in the order of tables and, for one seed, of the work."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """A figure of another work, as we recall it.

    Args:
        method: Which variant it is a figure of.
        strength: L2.
        gone: Units below 1e-3 in percent.
        error: Test error in percent.
        of: Whose.
    """

    method: str
    strength: float
    gone: float
    error: float
    of: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """One data set with the network that learns it.

    Args:
        dataset: As a recipe names it.
        network: As the tasks name it.
        model: As a recipe names it.
        model_args: Of the network.
        epochs: Passes over the training part at the setup's batch size.
        batch_size: Of all variants that do not say another.
        main: L2 of every variant but the paper's method, which has a grid.
        grids: Variant -> strengths; those without one have `main` only, if any.
        absent: Variants that do not take part.
        recipe: Fields of the recipe that the network asks for.
        limit: Training examples at most; 0: all.
        figures: Of others.
        asked: Whether it takes part only when its data set or its network is named.
    """

    dataset: str
    network: str
    model: str
    model_args: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    epochs: int
    batch_size: int = 100
    main: float
    grids: Mapping[str, Grid]
    absent: tuple[str, ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    limit: int = 0
    figures: tuple[Recalled, ...] = ()
    asked: bool = False

    def __post_init__(self) -> None:
        unknown = {*self.grids, *self.absent} - set(VARIANTS)
        if unknown:
            message = f"{self.dataset}, {self.network}: no variant {min(unknown)!r}"
            raise ValueError(message)
        if self.main not in self.grids[MAIN].values:
            message = f"{self.dataset}, {self.network}: main must be in the grid, got {self.main}"
            raise ValueError(message)


_GRIDS: Mapping[str, Grid] = MappingProxyType(
    {
        MAIN: Shares((1e-5, 3e-5, 1e-4, 3e-4, 1e-3)),
        "l1": Geometric(2.5e-4, 2.0, 4),
        "group-lasso": Geometric(2.5e-4, 2.0, 4),
        "sgl": Geometric(2.5e-4, 2.0, 4),
        "random-units": Shares((0.25, 0.5, 0.75, 0.9)),
    }
)
_OTHERS = "Mehta, Kim, Theobalt 2019 (arXiv 1811.12495), the whole network and data"
_BASICNET = (
    Recalled(MAIN, 1e-3, 83.0, 13.1, _OTHERS),
    Recalled(MAIN, 1e-4, 70.0, 10.5, _OTHERS),
    Recalled(MAIN, 1e-5, 48.0, 10.7, _OTHERS),
    Recalled("sgd-l2", 1e-4, 0.0, 11.8, _OTHERS),
)
_AS_THERE = MappingProxyType({"augment": "flip", "betas": [0.9, 0.99]})

SETUPS = (
    Setup(
        dataset="mnist",
        network="lenet300",
        model="lenet300",
        epochs=20,
        main=1e-3,
        grids=_GRIDS,
        absent=("batch-100",),
    ),
    Setup(
        dataset="mnist",
        network="lenet5",
        model="lenet5",
        epochs=20,
        main=1e-3,
        grids=_GRIDS,
        absent=("batch-100",),
        asked=True,
    ),
    # A quarter of the width and 10,000 images: 40,000 steps, which a CPU does in hours.
    Setup(
        dataset="cifar10",
        network="basicnet-quarter",
        model="basicnet",
        model_args=MappingProxyType({"width": 0.25}),
        epochs=160,
        batch_size=40,
        main=1e-4,
        grids=_GRIDS,
        absent=("batch-50",),
        recipe=_AS_THERE,
        limit=10_000,
        figures=_BASICNET,
        asked=True,
    ),
    Setup(
        dataset="cifar10",
        network="basicnet",
        model="basicnet",
        epochs=100,
        batch_size=40,
        main=1e-4,
        grids=_GRIDS,
        absent=("batch-50",),
        recipe=_AS_THERE,
        figures=_BASICNET,
        asked=True,
    ),
)
"""Data sets with their networks, the cheap one first; the others have to be asked for."""
