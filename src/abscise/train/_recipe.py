"""Recipe: everything that decides how a network is trained, as checked, frozen data."""

import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import NoReturn

import torch

from abscise._errors import RecipeError
from abscise.train._datasets import DataName


class ModelName(StrEnum):
    """The networks that a recipe can name."""

    CONV = "conv"
    LENET300 = "lenet300"
    MLP = "mlp"


class OptimizerName(StrEnum):
    """What `weight_decay` means differs: that is what recipe and control compare.

    ADAM adds it to the gradient (L2, coupled), ADAMW shrinks the weights by learning_rate *
    weight_decay apart from the gradient, SGD adds it to the gradient, without Adam's scaling.
    """

    ADAM = "adam"
    ADAMW = "adamw"
    SGD = "sgd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to train one network on one data set.

    Args:
        name: For reports and recorded runs.
        data: Which data set.
        model: Which network.
        widths: Filters of each convolution; only for the model conv.
        hidden: Units of each hidden linear layer; conv has one, mlp at least one.
        optimizer: Adam with coupled L2, AdamW or SGD.
        learning_rate: At the start.
        weight_decay: The optimizer's; see `OptimizerName`.
        betas: Of Adam and AdamW.
        momentum: Of SGD.
        epochs: Passes over the training part.
        batch_size: Examples per step; what is left of an epoch is not used.
        drops: Shares of the training, rising, in (0, 1): there the learning rate drops.
        drop_factor: The learning rate is multiplied by it at every drop.
        report_every: Steps between two calls of the observer.
        seed: Of the weights and of the order of the examples.
        device: As torch names it: cpu, cuda, cuda:1, mps.

    Raises:
        RecipeError: A value is out of range, or does not belong to the model.
    """

    name: str
    data: DataName
    model: ModelName
    widths: tuple[int, ...] = ()
    hidden: tuple[int, ...] = ()
    optimizer: OptimizerName = OptimizerName.ADAM
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    epochs: int
    batch_size: int
    drops: tuple[float, ...] = ()
    drop_factor: float = 0.1
    report_every: int = 50
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_layers()
        self._check_device()

    def as_dict(self) -> dict[str, object]:
        """The fields as plain values, ready for JSON or YAML; `recipe_from` reads them again."""
        plain: dict[str, object] = {}
        for key, value in asdict(self).items():
            if isinstance(value, StrEnum):
                plain[key] = value.value
            else:
                plain[key] = list(value) if isinstance(value, tuple) else value
        return plain

    def _check_numbers(self) -> None:
        for key in ("epochs", "batch_size", "report_every"):
            self._require(key, "at least 1", holds=getattr(self, key) >= 1)
        rate = self.learning_rate
        self._require("learning_rate", "> 0 and finite", holds=0 < rate < math.inf)
        for key in ("weight_decay", "momentum"):
            self._require(key, ">= 0 and finite", holds=0 <= getattr(self, key) < math.inf)
        self._require("betas", "in [0, 1)", holds=all(0 <= beta < 1 for beta in self.betas))
        rising = list(self.drops) == sorted(set(self.drops))
        inside = all(0 < share < 1 for share in self.drops)
        self._require("drops", "rising shares in (0, 1)", holds=rising and inside)
        self._require("drop_factor", "in (0, 1]", holds=0 < self.drop_factor <= 1)
        self._require("seed", "in 0..2**63-1", holds=0 <= self.seed < 2**63)

    def _check_layers(self) -> None:
        sizes = (*self.widths, *self.hidden)
        self._require("widths", "sizes >= 1, as hidden", holds=all(size >= 1 for size in sizes))
        match self.model:
            case ModelName.CONV:
                self._require("widths", "two or more for conv", holds=len(self.widths) >= 2)
                self._require("hidden", "one size for conv", holds=len(self.hidden) == 1)
            case ModelName.MLP:
                self._require("widths", "empty for mlp", holds=not self.widths)
                self._require("hidden", "one or more sizes for mlp", holds=bool(self.hidden))
            case ModelName.LENET300:
                self._require("widths", "empty for lenet300", holds=not self.widths)
                self._require("hidden", "empty for lenet300 (it has 300, 100)", holds=not sizes)

    def _check_device(self) -> None:
        try:
            device = torch.device(self.device)
        except RuntimeError:
            self._refuse("device", "a device that torch knows, such as cpu or cuda")
        available = {
            "cpu": True,
            "cuda": torch.cuda.is_available(),
            "mps": torch.backends.mps.is_available(),
        }
        if not available.get(device.type, False):
            found = [name for name, present in available.items() if present]
            self._refuse("device", f"available here ({', '.join(found)})")

    def _require(self, key: str, rule: str, *, holds: bool) -> None:
        if not holds:
            self._refuse(key, rule)

    def _refuse(self, key: str, rule: str) -> NoReturn:
        value = getattr(self, key)
        shown = list(value) if isinstance(value, tuple) else value
        message = f"recipe {self.name}: {key} must be {rule}, got {shown!r}"
        raise RecipeError(message)
