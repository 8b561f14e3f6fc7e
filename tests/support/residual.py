"""Networks whose channels live in residual streams: ResNet, bottleneck, ResNeXt, pre-activation."""

from random import Random

from torch import Tensor, nn
from typing_extensions import override

from support.sites import Folding, Network, Site, activation


class Basic(Network):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution where the size changes."""

    def __init__(self, dice: Random, channels: int, width: int, stride: int) -> None:
        super().__init__()
        inner = dice.randint(3, 6)
        self.conv1 = nn.Conv2d(channels, inner, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.act1 = activation(dice, inner)
        self.conv2 = nn.Conv2d(inner, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = shortcut(channels, width, stride)
        self.act2 = activation(dice, width)
        self.sites = (Site("conv1", "bn1", "act1", ("conv2",), Folding.CARRIER),)

    @override
    def forward(self, x: Tensor) -> Tensor:
        y = self.act1(self.bn1(self.conv1(x)))
        result: Tensor = self.act2(self.bn2(self.conv2(y)) + self.shortcut(x))
        return result


class Bottleneck(Network):
    """1x1, 3x3 (grouped for ResNeXt), 1x1 and a shortcut."""

    def __init__(
        self, dice: Random, channels: int, width: int, stride: int, groups: int = 1
    ) -> None:
        super().__init__()
        inner = groups * dice.randint(2, 3) if groups > 1 else dice.randint(3, 6)
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.act1 = activation(dice, inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.act2 = activation(dice, inner)
        self.conv3 = nn.Conv2d(inner, width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.shortcut = shortcut(channels, width, stride)
        self.act3 = activation(dice, width)
        if groups == 1:
            self.sites = (
                Site("conv1", "bn1", "act1", ("conv2",), Folding.CARRIER),
                Site("conv2", "bn2", "act2", ("conv3",), Folding.ALWAYS),
            )

    @override
    def forward(self, x: Tensor) -> Tensor:
        y = self.act1(self.bn1(self.conv1(x)))
        y = self.act2(self.bn2(self.conv2(y)))
        result: Tensor = self.act3(self.bn3(self.conv3(y)) + self.shortcut(x))
        return result


class PreActivation(Network):
    """Norm and activation first; the stream itself is never normalised."""

    def __init__(self, dice: Random, channels: int, width: int, stride: int) -> None:
        super().__init__()
        inner = dice.randint(3, 6)
        self.bn1 = nn.BatchNorm2d(channels)
        self.act1 = activation(dice, channels)
        self.conv1 = nn.Conv2d(channels, inner, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.act2 = activation(dice, inner)
        self.conv2 = nn.Conv2d(inner, width, 3, padding=1, bias=False)
        same = channels == width and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels, width, 1, stride, bias=False)
        self.sites = (Site("conv1", "bn2", "act2", ("conv2",), Folding.CARRIER),)

    @override
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(self.act1(self.bn1(x)))
        y = self.conv2(self.act2(self.bn2(y)))
        result: Tensor = y + self.shortcut(x)
        return result


class ResNet(Network):
    """A stem, two blocks of one kind (or three basic ones), a global pool and a linear layer."""

    def __init__(self, dice: Random, kind: str) -> None:
        super().__init__()
        width = 4 * dice.randint(1, 2)
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=dice.random() < 0.3),
            nn.BatchNorm2d(width),
            activation(dice, width),
        )
        blocks: list[nn.Module] = []
        for index in range(dice.randint(2, 3) if kind == "basic" else 2):
            stride, channels = 1, width
            if index == 1:
                stride, width = 2, 4 * dice.randint(1, 2)
            block = make_block(dice, kind, channels, width, stride)
            self.adopt(f"blocks.{index}", block.sites)
            blocks.append(block)
        self.blocks = nn.Sequential(*blocks)
        self.tail = (
            nn.Sequential(nn.BatchNorm2d(width), nn.ReLU()) if kind == "pre" else nn.Identity()
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4))

    @override
    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.tail(self.blocks(self.stem(x))))
        return result


def make_block(dice: Random, kind: str, channels: int, width: int, stride: int) -> Network:
    if kind == "basic":
        return Basic(dice, channels, width, stride)
    if kind == "pre":
        return PreActivation(dice, channels, width, stride)
    groups = dice.choice((2, 4)) if kind == "grouped" else 1
    return Bottleneck(dice, channels, width, stride, groups)


def shortcut(channels: int, width: int, stride: int) -> nn.Module:
    if channels == width and stride == 1:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
