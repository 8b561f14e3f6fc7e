"""Networks that concatenate: DenseNet-like, Inception-like, and a U-Net with transposed steps."""

from random import Random

import torch
from torch import Tensor, nn
from typing_extensions import override

from support.sites import Folding, Network, Site, activation


class DenseLayer(Network):
    """Adds `growth` channels to the ones it reads."""

    def __init__(self, dice: Random, channels: int, growth: int) -> None:
        super().__init__()
        inner = dice.randint(3, 6)
        self.bn1 = nn.BatchNorm2d(channels)
        self.act1 = activation(dice, channels)
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.act2 = activation(dice, inner)
        self.conv2 = nn.Conv2d(inner, growth, 3, padding=1, bias=False)
        self.sites = (Site("conv1", "bn2", "act2", ("conv2",), Folding.CARRIER),)

    @override
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.act2(self.bn2(self.conv1(self.act1(self.bn1(x))))))
        return torch.cat((x, y), dim=1)


class DenseNet(Network):
    """Two dense blocks with a transition between."""

    def __init__(self, dice: Random) -> None:
        super().__init__()
        width = dice.randint(3, 5)
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        layers: list[nn.Module] = []
        for depth in (2, 1):
            for _ in range(depth):
                growth = dice.randint(2, 4)
                layer = DenseLayer(dice, width, growth)
                self.adopt(f"layers.{len(layers)}", layer.sites)
                layers.append(layer)
                width += growth
            after = dice.randint(4, 6)
            layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, after, 1, bias=False)]
            layers.append(nn.AvgPool2d(2))
            width = after
        self.layers = nn.Sequential(*layers)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4))

    @override
    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(torch.relu(self.norm(self.layers(self.stem(x)))))
        return result


class Inception(Network):
    """Parallel branches of different depth, concatenated, read by one convolution."""

    def __init__(self, dice: Random) -> None:
        super().__init__()
        wide, thin = dice.randint(3, 6), dice.randint(3, 6)
        out = dice.randint(3, 6)
        padding = dice.choice((0, 1))
        self.left = nn.Sequential(nn.Conv2d(3, wide, 1), nn.BatchNorm2d(wide), nn.ReLU())
        self.right = nn.Sequential(
            nn.Conv2d(3, thin, 1, bias=False),
            nn.BatchNorm2d(thin),
            activation(dice, thin),
            nn.Conv2d(thin, wide, 3, padding=1, bias=False),
            nn.BatchNorm2d(wide),
            activation(dice, wide),
        )
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.merge = nn.Conv2d(2 * wide + 3, out, 3, padding=padding)
        self.act = activation(dice, out)
        self.head = nn.Linear(out, 4)
        self.sites = (
            Site("right.0", "right.1", "right.2", ("right.3",), Folding.CARRIER),
            Site("merge", None, "act", ("head",), Folding.ALWAYS),
        )

    @override
    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat([self.left(x), self.pool(x), self.right(x)], 1)
        result: Tensor = self.head(self.act(self.merge(joined)).mean((-2, -1)))
        return result


class Unet(Network):
    """An encoder, a transposed convolution back, and the concatenated skip; an image comes out."""

    def __init__(self, dice: Random) -> None:
        super().__init__()
        width, deep, up = dice.randint(3, 5), dice.randint(4, 6), dice.randint(3, 5)
        out = dice.randint(3, 5)
        self.enter = block(dice, 3, width)
        self.down = nn.MaxPool2d(2)
        self.middle = block(dice, width, deep)
        self.up = nn.ConvTranspose2d(deep, up, 2, stride=2, bias=dice.random() < 0.5)
        self.up_norm = nn.BatchNorm2d(up)
        self.up_act = activation(dice, up)
        self.merge = block(dice, width + up, out)
        self.leave = nn.Conv2d(out, 2, 1)
        self.sites = (
            Site("middle.0", "middle.1", "middle.2", ("up",), Folding.NEVER),
            Site("merge.0", "merge.1", "merge.2", ("leave",), Folding.ALWAYS),
        )

    @override
    def forward(self, x: Tensor) -> Tensor:
        skip = self.enter(x)
        y = self.up_act(self.up_norm(self.up(self.middle(self.down(skip)))))
        result: Tensor = self.leave(self.merge(torch.cat((skip, y), dim=1)))
        return result


def block(dice: Random, channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        activation(dice, width),
    )
