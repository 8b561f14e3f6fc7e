"""Chains without branches: VGG-like in one, two and three dimensions, and the perceptron."""

from random import Random

import torch
from torch import Tensor, nn
from typing_extensions import override

from support.sites import Folding, Network, Site, activation

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
MAX_POOLS = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
AVG_POOLS = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
GLOBAL_POOLS = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}


class Vgg(Network):
    """Convolution, optional norm, activation, optional pool; then flatten or a global pool."""

    def __init__(
        self, dice: Random, *, norm: bool, flatten: bool, dims: int = 2, size: int = 8
    ) -> None:
        super().__init__()
        self.any_size = not flatten
        layers: list[nn.Module] = []
        pending: tuple[str, str | None, str] | None = None
        channels = 3
        for depth in range(dice.randint(2, 3)):
            width = dice.randint(3, 7)
            padding = dice.choice((0, 1, 1))
            name = f"features.{len(layers)}"
            layers.append(convolution(dice, dims, channels, width, padding, depth, norm=norm))
            if pending is not None:
                folding = Folding.CARRIER if padding else Folding.ALWAYS
                self.sites += (Site(*pending, (name,), folding),)
            norm_name = f"features.{len(layers)}" if norm else None
            if norm:
                layers.append(NORMS[dims](width))
            pending = (name, norm_name, f"features.{len(layers)}")
            layers.append(activation(dice, width))
            if depth == 0:
                layers.append(dice.choice((MAX_POOLS, AVG_POOLS))[dims](2, padding=0))
            channels = width
        self.features = nn.Sequential(*layers)
        self.pool = nn.Identity() if flatten else GLOBAL_POOLS[dims](1)
        with torch.no_grad():
            features = self.pool(self.features.eval()(torch.zeros(1, 3, *(size,) * dims)))
        self.head = self.make_head(dice, features[0].numel())
        if pending is not None:
            self.sites += (Site(*pending, ("head.1",), Folding.ALWAYS),)
        self.sites += (Site("head.1", None, "head.2", ("head.4",), Folding.ALWAYS),)

    def make_head(self, dice: Random, features: int) -> nn.Sequential:
        hidden = dice.randint(4, 8)
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(features, hidden),
            activation(dice, hidden),
            nn.Dropout(0.3),
            nn.Linear(hidden, 4),
        )

    @override
    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.pool(self.features(x)))
        return result


def convolution(
    dice: Random, dims: int, channels: int, width: int, padding: int, depth: int, *, norm: bool
) -> nn.Module:
    kernel = 3 if padding or depth == 0 else 2
    stride = 2 if padding and depth == 1 and dice.random() < 0.3 else 1
    bias = dice.random() < 0.5 or not norm
    return CONVOLUTIONS[dims](channels, width, kernel, stride, padding=padding, bias=bias)


class Mlp(Network):
    """Linear layers, some with BatchNorm, some without bias."""

    def __init__(self, dice: Random) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        pending: tuple[str, str | None, str] | None = None
        features = 6
        for _ in range(dice.randint(2, 4)):
            width = dice.randint(4, 9)
            name = f"layers.{len(layers)}"
            layers.append(nn.Linear(features, width, bias=dice.random() < 0.7))
            if pending is not None:
                self.sites += (Site(*pending, (name,), Folding.ALWAYS),)
            norm_name = None
            if dice.random() < 0.4:
                norm_name = f"layers.{len(layers)}"
                layers.append(nn.BatchNorm1d(width))
            pending = (name, norm_name, f"layers.{len(layers)}")
            layers.append(activation(dice, width))
            features = width
        if pending is not None:
            self.sites += (Site(*pending, (f"layers.{len(layers)}",), Folding.ALWAYS),)
        layers.append(nn.Linear(features, 4))
        self.layers = nn.Sequential(*layers)

    @override
    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layers(x)
        return result
