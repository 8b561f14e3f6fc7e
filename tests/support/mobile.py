"""Networks with depthwise convolutions and gates: MobileNet, squeeze-excitation, ShuffleNet."""

from random import Random

import torch
from torch import Tensor, nn
from typing_extensions import override

from support.sites import Folding, Network, Site, activation


class Gate(Network):
    """Squeeze-excitation: every channel times a gate computed from all of them."""

    def __init__(self, dice: Random, channels: int) -> None:
        super().__init__()
        squeezed = dice.randint(2, 4)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.act = activation(dice, squeezed)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.scale = dice.choice((nn.Sigmoid, nn.Hardsigmoid))()
        self.sites = (Site("fc1", None, "act", ("fc2",), Folding.ALWAYS),)

    @override
    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x * self.scale(self.fc2(self.act(self.fc1(self.pool(x)))))
        return result


class InvertedResidual(Network):
    """Expand, depthwise (with a depth multiplier), optional gate, project, optional residual."""

    def __init__(
        self, dice: Random, channels: int, width: int, stride: int, *, multiplier: int, gate: bool
    ) -> None:
        super().__init__()
        inner = dice.randint(4, 7)
        outer = inner * multiplier
        self.expand = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.act1 = activation(dice, inner)
        self.depthwise = nn.Conv2d(
            inner, outer, 3, stride, padding=1, groups=inner, bias=dice.random() < 0.3
        )
        self.bn2 = nn.BatchNorm2d(outer)
        self.act2 = activation(dice, outer)
        self.gate = Gate(dice, outer) if gate else nn.Identity()
        self.project = nn.Conv2d(outer, width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.residual = channels == width and stride == 1
        if multiplier == 1:
            readers = ("project", "gate.fc1") if gate else ("project",)
            folding = Folding.NEVER if gate else Folding.ALWAYS
            self.sites = (Site("expand", "bn2", "act2", readers, folding),)
        if isinstance(self.gate, Gate):
            self.adopt("gate", self.gate.sites)

    @override
    def forward(self, x: Tensor) -> Tensor:
        y = self.act1(self.bn1(self.expand(x)))
        y = self.gate(self.act2(self.bn2(self.depthwise(y))))
        result: Tensor = self.bn3(self.project(y))
        return x + result if self.residual else result


class MobileNet(Network):
    """A stem, inverted residuals, a last 1x1 convolution, a global pool and a linear layer."""

    def __init__(self, dice: Random, *, multiplier: int = 1, gate: bool = False) -> None:
        super().__init__()
        width = dice.randint(4, 6)
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU6()
        )
        blocks: list[nn.Module] = []
        for index in range(2):
            channels = width
            stride = 1
            if index and dice.random() < 0.5:
                stride, width = 2, dice.randint(4, 6)
            block = InvertedResidual(
                dice, channels, width, stride, multiplier=multiplier, gate=gate
            )
            self.adopt(f"blocks.{index}", block.sites)
            blocks.append(block)
        self.blocks = nn.Sequential(*blocks)
        last = dice.randint(5, 8)
        self.last = nn.Sequential(
            nn.Conv2d(width, last, 1, bias=False), nn.BatchNorm2d(last), activation(dice, last)
        )
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, 4))
        self.sites += (Site("last.0", "last.1", "last.2", ("head.1",), Folding.ALWAYS),)

    @override
    def forward(self, x: Tensor) -> Tensor:
        y = self.last(self.blocks(self.stem(x)))
        result: Tensor = self.head(y.mean((2, 3)))
        return result


class ShuffleUnit(Network):
    """Half of the channels pass, half are transformed; then they are shuffled."""

    def __init__(self, dice: Random, width: int) -> None:
        super().__init__()
        half = width // 2
        inner = dice.randint(3, 5)
        self.conv1 = nn.Conv2d(half, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.act1 = nn.ReLU(inplace=True)
        self.depthwise = nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.act3 = nn.ReLU(inplace=True)
        self.sites = (Site("conv1", "bn2", None, ("conv2",), Folding.ALWAYS),)

    @override
    def forward(self, x: Tensor) -> Tensor:
        kept, y = x.chunk(2, dim=1)
        y = self.bn2(self.depthwise(self.act1(self.bn1(self.conv1(y)))))
        y = self.act3(self.bn3(self.conv2(y)))
        return shuffle(torch.cat((kept, y), dim=1), 2)


class ShuffleNet(Network):
    """A stem, shuffle units, a last 1x1 convolution, a global pool and a linear layer."""

    def __init__(self, dice: Random) -> None:
        super().__init__()
        width = 2 * dice.randint(2, 4)
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        units = [ShuffleUnit(dice, width) for _ in range(2)]
        for index, unit in enumerate(units):
            self.adopt(f"units.{index}", unit.sites)
        self.units = nn.Sequential(*units)
        last = dice.randint(5, 8)
        self.last = nn.Sequential(
            nn.Conv2d(width, last, 1, bias=False), nn.BatchNorm2d(last), activation(dice, last)
        )
        self.fc = nn.Linear(last, 4)
        self.sites += (Site("last.0", "last.1", "last.2", ("fc",), Folding.ALWAYS),)

    @override
    def forward(self, x: Tensor) -> Tensor:
        y = self.last(self.units(self.stem(x)))
        result: Tensor = self.fc(y.mean((2, 3)))
        return result


def shuffle(x: Tensor, groups: int) -> Tensor:
    """The channel shuffle of ShuffleNet: channels of the groups interleave."""
    n, channels, height, width = x.shape
    x = x.view(n, groups, channels // groups, height, width).transpose(1, 2).contiguous()
    return x.view(n, channels, height, width)
