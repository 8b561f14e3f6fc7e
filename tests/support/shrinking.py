"""Networks with units that are dead for training, and optimizers, for tests of shrinking."""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu
from torch.optim import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    NAdam,
    Optimizer,
    RAdam,
    RMSprop,
)
from typing_extensions import override

import abscise
from abscise.shrinking import ShrinkWorker
from abscise.sparsify import Attachment

Making = Callable[[Iterable[Tensor]], Optimizer]

OPTIMIZERS: dict[str, Making] = {
    "sgd": lambda weights: SGD(weights, 0.05, momentum=0.9, weight_decay=1e-2),
    "nesterov": lambda weights: SGD(weights, 0.05, momentum=0.9, nesterov=True),
    "adam": lambda weights: Adam(weights, 0.01, weight_decay=1e-2),
    "amsgrad": lambda weights: Adam(weights, 0.01, amsgrad=True),
    "adamw": lambda weights: AdamW(weights, 0.01, weight_decay=0.1),
    "fused": lambda weights: Adam(weights, 0.01, weight_decay=1e-2, fused=True),
    "rmsprop": lambda weights: RMSprop(weights, 0.01, weight_decay=1e-2),
    "centred": lambda weights: RMSprop(weights, 0.01, centered=True, momentum=0.5),
    "adagrad": lambda weights: Adagrad(weights, 0.05, weight_decay=1e-2),
    "adadelta": lambda weights: Adadelta(weights, 1.0, weight_decay=1e-2),
    "nadam": lambda weights: NAdam(weights, 0.01, weight_decay=1e-2),
    "radam": lambda weights: RAdam(weights, 0.01, weight_decay=1e-2),
    "adamax": lambda weights: Adamax(weights, 0.01, weight_decay=1e-2),
}


class Residual(nn.Module):
    """A stem and two residual blocks whose stream has units of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(6)
        self.inner = nn.ModuleList(nn.Conv2d(6, 5, 3, padding=1, bias=False) for _ in range(2))
        self.inner_norm = nn.ModuleList(nn.BatchNorm2d(5) for _ in range(2))
        self.outer = nn.ModuleList(nn.Conv2d(5, 6, 3, padding=1, bias=False) for _ in range(2))
        self.outer_norm = nn.ModuleList(nn.BatchNorm2d(6) for _ in range(2))
        self.classes = nn.Linear(6, 3)

    @override
    def forward(self, images: Tensor) -> Tensor:
        stream = relu(self.stem_norm(self.stem(images)))
        for inner, norm, outer, last in zip(
            self.inner, self.inner_norm, self.outer, self.outer_norm, strict=True
        ):
            stream = relu(stream + last(outer(relu(norm(inner(stream))))))
        return self.classes(stream.mean((2, 3)))


@dataclass(frozen=True, slots=True)
class Case:
    """A network, and its parameters that write units, with those units."""

    make: Callable[[], nn.Module]
    dead: Sequence[tuple[str, tuple[int, ...]]]
    removed: int

    def build(self, seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
        """In training mode, its units dead: what writes them is 0."""
        with torch.random.fork_rng():
            _ = torch.manual_seed(seed)
            model = self.make().to(dtype)
        kill_(model, self.dead)
        return model.train()


def kill_(model: nn.Module, dead: Sequence[tuple[str, tuple[int, ...]]]) -> None:
    """Set these rows of parameters to 0."""
    with torch.no_grad():
        for name, rows in dead:
            model.get_parameter(name)[list(rows)] = 0.0


CASES = {
    "mlp": Case(
        lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(72, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)
        ),
        (("1.weight", (0, 3, 7)), ("1.bias", (0, 3, 7)), ("3.weight", (2,)), ("3.bias", (2,))),
        4,
    ),
    "conv-bn": Case(
        lambda: nn.Sequential(
            nn.Conv2d(2, 6, 3, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(36, 3),
        ),
        (("1.weight", (1, 4)), ("1.bias", (1, 4)), ("5.weight", (0,)), ("5.bias", (0,))),
        3,
    ),
    "residual": Case(
        Residual,
        (
            ("stem_norm.weight", (2, 5)),
            ("stem_norm.bias", (2, 5)),
            ("outer_norm.0.weight", (2, 5)),
            ("outer_norm.0.bias", (2, 5)),
            ("outer_norm.1.weight", (2, 5)),
            ("outer_norm.1.bias", (2, 5)),
            ("inner_norm.1.weight", (3,)),
            ("inner_norm.1.bias", (3,)),
        ),
        3,
    ),
}


def example(dtype: torch.dtype = torch.float64) -> Tensor:
    """Eight images for all cases."""
    return batch(1000, dtype)[0]


def batch(seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Images and labels."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(8, 2, 6, 6, generator=generator, dtype=torch.float64).to(dtype)
    return images, torch.randint(0, 3, (8,), generator=generator)


def train(model: nn.Module, optimizer: Optimizer, steps: int, first: int = 0) -> list[float]:
    """The losses of `steps` optimizer steps, each on a batch of its own."""
    losses = []
    dtype = next(model.parameters()).dtype
    for step in range(first, first + steps):
        images, labels = batch(step, dtype)
        optimizer.zero_grad()
        loss = cross_entropy(model(images), labels)
        loss.backward()
        _ = optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def twin(model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
    """A copy of both that trains on by itself."""
    both = copy.deepcopy((model, optimizer))
    return both[0], both[1]


def apart(one: Sequence[float], two: Sequence[float]) -> float:
    """The largest difference of two courses of losses."""
    return max(abs(a - b) for a, b in zip(one, two, strict=True))


def shrinking(model: nn.Module, optimizer: Optimizer, **options: Any) -> Attachment[ShrinkWorker]:
    """Attached, and looking after every step unless told otherwise."""
    chosen = {"every": 1, "patience": 1, **options}
    inputs = example(next(model.parameters()).dtype)
    return abscise.attach(abscise.ShrinkWhileTraining(inputs, **chosen), optimizer, model)
