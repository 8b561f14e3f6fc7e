"""Recipe: everything that decides how a network is trained, as checked, frozen data."""

import json
import math
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, NoReturn

import torch

from abscise._errors import RecipeError
from abscise.train._datasets import DataName, is_known
from abscise.train._names import Augment, ModelName, OptimizerName, Precision, Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to train one network on one data set.

    Args:
        name: For reports and recorded runs.
        data: A known set (`DataName`), a Hugging Face name such as owner/set, a folder (./set), or
            a function that returns `Data`, as package.module:function.
        data_args: Keyword arguments of that function.
        inputs: Columns of a set that is not known: one with images, or one per feature. Empty: the
            column image, or every column but the label.
        label: Column of the labels of a set that is not known.
        shape: Of one example, (channels, height, width) for images; known sets have theirs.
        classes: Labels are 0 .. classes - 1; known sets have theirs.
        validation: Training examples held out, to choose by. 0: as many as the known set says, a
            tenth of the others.
        limit: Use only so many training examples, each class in proportion. 0: all.
        augment: What happens to training images: none, flip, crop-flip (padded by 4), or shift (by
            up to 2 pixels).
        model: A network that comes with the package, or package.module:callable.
        model_args: Keyword arguments of the network, such as {"width": 0.25} for vgg16, or
            {"activation": "tanh"} for lenet300, lenet5 and basicnet: relu, leaky-relu (with a
            slope: leaky-relu:0.3), elu, gelu, tanh.
        widths: Filters of each convolution; only for the model conv.
        hidden: Units of each hidden linear layer; conv has one, mlp at least one.
        optimizer: adam, adamw, sgd, rmsprop, adagrad or adadelta.
        learning_rate: At the start, after the warm-up.
        weight_decay: The optimizer's; see `OptimizerName`.
        betas: Of Adam and AdamW.
        eps: Of Adam, AdamW and RMSprop: added to the root of the second moment.
        amsgrad: Of Adam and AdamW: never let the second moment fall.
        momentum: Of SGD.
        clip: Largest norm of the whole gradient. 0: as it is.
        epochs: Passes over the training part.
        batch_size: Examples per step; what is left of an epoch is not used.
        accumulate: Parts that a batch is computed in, one after the other, to save memory.
        schedule: How the learning rate falls: drops, or cosine.
        cycles: How often the cosine is run through, each time from the full rate.
        drops: Shares of the training, rising, in (0, 1): there the learning rate drops.
        drop_factor: The learning rate is multiplied by it at every drop.
        warmup: Steps during which the learning rate rises from 0.
        report_every: Steps between two calls of the observer.
        seed: Of the weights, the order of the examples and the augmentation.
        device: As torch names it: cpu, cuda, cuda:1, mps.
        precision: 32-true, bf16-mixed, or 16-mixed (CUDA only).
        compile: Whether `torch.compile` makes the forward; on CUDA with captured graphs.

    Raises:
        RecipeError: A value is out of range, or does not belong to the model or the data.
    """

    name: str
    data: str
    data_args: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    label: str = "label"
    shape: tuple[int, ...] = ()
    classes: int = 0
    validation: int = 0
    limit: int = 0
    augment: Augment = Augment.NONE
    model: str
    model_args: Mapping[str, Any] = field(default_factory=dict)
    widths: tuple[int, ...] = ()
    hidden: tuple[int, ...] = ()
    optimizer: OptimizerName = OptimizerName.ADAM
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    amsgrad: bool = False
    momentum: float = 0.9
    clip: float = 0.0
    epochs: int
    batch_size: int
    accumulate: int = 1
    schedule: Schedule = Schedule.DROPS
    cycles: int = 1
    drops: tuple[float, ...] = ()
    drop_factor: float = 0.1
    warmup: int = 0
    report_every: int = 50
    seed: int = 0
    device: str = "cpu"
    precision: Precision = Precision.FULL
    compile: bool = False

    def __post_init__(self) -> None:
        self._read_words()
        self._check_name()
        self._check_numbers()
        self._check_steps()
        self._check_data()
        self._check_model()
        self._check_device()

    def as_dict(self) -> dict[str, object]:
        """The fields as plain values, ready for JSON or YAML; `recipe_from` reads them again."""
        return {key: _plain(value) for key, value in asdict(self).items()}

    def _read_words(self) -> None:
        """A text that names a choice becomes that choice."""
        kinds = {
            "augment": Augment,
            "optimizer": OptimizerName,
            "schedule": Schedule,
            "precision": Precision,
        }
        for key, kind in kinds.items():
            if getattr(self, key) not in tuple(kind):
                self._refuse(key, f"one of {', '.join(kind)}")
            object.__setattr__(self, key, kind(getattr(self, key)))

    def _check_name(self) -> None:
        plain = all(unicodedata.category(it) not in {"Cc", "Cs"} for it in self.name)
        fits = plain and 0 < len(self.name) <= 200 and self.name not in {".", ".."}
        if not fits or "/" in self.name or "\\" in self.name:  # loggers make a folder of it
            message = (
                "recipe: name must be 1 to 200 characters, none of them a slash or a control "
                f"character, got {self.name[:60]!r}"
            )
            raise RecipeError(message)

    def _check_numbers(self) -> None:
        for key in ("epochs", "batch_size", "report_every", "accumulate", "cycles"):
            self._require(key, "at least 1", holds=getattr(self, key) >= 1)
        for key in ("validation", "limit", "classes", "warmup"):
            self._require(key, "at least 0", holds=getattr(self, key) >= 0)
        for key in ("learning_rate", "eps"):
            self._require(key, "> 0 and finite", holds=0 < getattr(self, key) < math.inf)
        for key in ("weight_decay", "momentum", "clip"):
            self._require(key, ">= 0 and finite", holds=0 <= getattr(self, key) < math.inf)
        self._require("betas", "in [0, 1)", holds=all(0 <= beta < 1 for beta in self.betas))
        self._require("seed", "in 0..2**63-1", holds=0 <= self.seed < 2**63)

    def _check_steps(self) -> None:
        rising = list(self.drops) == sorted(set(self.drops))
        inside = all(0 < share < 1 for share in self.drops)
        self._require("drops", "rising shares in (0, 1)", holds=rising and inside)
        self._require("drop_factor", "in (0, 1]", holds=0 < self.drop_factor <= 1)
        falls = self.schedule is Schedule.DROPS or not self.drops
        self._require("drops", "empty for the schedule cosine", holds=falls)
        restarts = self.schedule is Schedule.COSINE or self.cycles == 1
        self._require("cycles", "1 for the schedule drops", holds=restarts)
        even = self.batch_size % self.accumulate == 0
        self._require("accumulate", f"a divisor of batch_size {self.batch_size}", holds=even)

    def _check_data(self) -> None:
        about = ("inputs", "shape")
        if is_known(self.data):
            for key in (*about, "data_args"):
                empty = not getattr(self, key)
                self._require(key, f"left out, as {self.data} is a known set", holds=empty)
            self._require("classes", f"left out, as {self.data} is known", holds=not self.classes)
            self._require(
                "label", f"left out, as {self.data} is known", holds=self.label == "label"
            )
            return
        if not any(mark in self.data for mark in "/:\\") and not self.data.startswith("."):
            names = ", ".join(name.value for name in DataName)
            self._refuse("data", f"one of {names}, owner/set, a folder or package.module:function")
        sizes = bool(self.shape) and all(size >= 1 for size in self.shape)
        self._require("shape", f"the sizes of one example of {self.data}", holds=sizes)
        self._require("shape", "one or three sizes", holds=len(self.shape) in {1, 3})
        one = len(self.shape) == 1 or len(self.inputs) <= 1
        self._require("inputs", "one column for images", holds=one)
        self._require("classes", f"the number of classes of {self.data}", holds=self.classes >= 2)

    def _check_model(self) -> None:
        for key in ("model_args", "data_args"):
            self._require(key, "values that JSON knows", holds=_is_json(getattr(self, key)))
        if ":" not in self.model and self.model not in set(ModelName):
            names = ", ".join(name.value for name in ModelName)
            self._refuse("model", f"one of {names} or package.module:callable")
        sizes = (*self.widths, *self.hidden)
        self._require("widths", "sizes >= 1, as hidden", holds=all(size >= 1 for size in sizes))
        if self.model == ModelName.CONV:
            self._require("widths", "two or more for conv", holds=len(self.widths) >= 2)
            self._require("hidden", "one size for conv", holds=len(self.hidden) == 1)
            return
        self._require("widths", f"empty for {self.model}", holds=not self.widths)
        if self.model == ModelName.MLP:
            self._require("hidden", "one or more sizes for mlp", holds=bool(self.hidden))
        else:
            self._require("hidden", f"empty for {self.model}", holds=not self.hidden)

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
        half = self.precision is Precision.FP16_MIXED and device.type != "cuda"
        self._require("precision", "32-true or bf16-mixed without CUDA", holds=not half)

    def _require(self, key: str, rule: str, *, holds: bool) -> None:
        if not holds:
            self._refuse(key, rule)

    def _refuse(self, key: str, rule: str) -> NoReturn:
        message = f"recipe {self.name}: {key} must be {rule}, got {_plain(getattr(self, key))!r}"
        raise RecipeError(message)


def _is_json(value: Mapping[str, Any]) -> bool:
    """Whether `value` comes back from JSON as it was."""
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError):
        return False


def _plain(value: object) -> object:
    if isinstance(value, StrEnum):
        return value.value
    return list(value) if isinstance(value, tuple) else value
