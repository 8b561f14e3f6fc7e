"""Plain convolutional networks for small images: BasicNet and VGG with batch norm."""

from types import MappingProxyType

from torch import Tensor, nn
from typing_extensions import override

from abscise.train._activations import Activation, activation_of


class BasicNet(nn.Module):
    """Seven convolutions with 1,856 filters, two linear layers; 4,649,664 convolution weights.

    64, 128, 128, 256, 256, 512 and 512 filters, the first 5x5, the others 3x3, without bias; batch
    norm and ReLU after each, 2x2 max pooling after the odd ones. 5,180,490 parameters for ten
    classes, three channels and 32x32 images.

    Source: Mehta, Kim, Theobalt 2019, "On Implicit Filter Level Sparsity in Convolutional Neural
    Networks", arXiv 1811.12495. Differs: where it pools and the 256 units between the two linear
    layers are ours.

    Args:
        channels: Channels of the images.
        classes: Number of outputs.
        side: Height and width of the images in pixels, which four poolings halve.
        width: Every number of filters and hidden units is multiplied by it.
        activation: Instead of each ReLU; see `Activation`.

    Raises:
        ValueError: The images are smaller than 16 pixels.
    """

    def __init__(
        self,
        channels: int = 3,
        classes: int = 10,
        *,
        side: int = 32,
        width: float = 1.0,
        activation: str = Activation.RELU,
    ) -> None:
        super().__init__()
        if side < 16:
            message = f"images must have at least 16 pixels a side: it pools four times, got {side}"
            raise ValueError(message)
        filters = [scaled(size, width) for size in (64, 128, 128, 256, 256, 512, 512)]
        self.features = nn.Sequential()
        for index, written in enumerate(filters, start=1):
            read = channels if index == 1 else filters[index - 2]
            block = convolved(read, written, 5 if index == 1 else 3, activation)
            if index % 2:
                block.add_module("pool", nn.MaxPool2d(2))
            self.features.add_module(f"block{index}", block)
        hidden = scaled(256, width)
        self.hidden = nn.Linear(filters[-1] * (side // 16) ** 2, hidden)
        self.activation = activation_of(activation)
        self.classes = nn.Linear(hidden, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                _ = nn.init.xavier_uniform_(module.weight)

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Logits `(images, classes)` of images `(images, channels, side, side)`."""
        return self.classes(self.activation(self.hidden(self.features(images).flatten(1))))


class VGG(nn.Module):
    """VGG-11 or VGG-16 for 32x32 images: convolutions with batch norm, one linear layer.

    9,228,362 (VGG-11) and 14,724,042 (VGG-16) parameters for ten classes and three channels.

    Source: Simonyan, Zisserman 2015, "Very Deep Convolutional Networks for Large-Scale Image
    Recognition", arXiv 1409.1556, configurations A and D. Differs, as usual for small images: batch
    norm instead of convolution biases, one linear layer instead of three.

    Args:
        depth: 11 or 16: layers with weights of the original.
        channels: Channels of the images.
        classes: Number of outputs.
        width: Every number of filters is multiplied by it.
    """

    def __init__(
        self, depth: int = 16, channels: int = 3, classes: int = 10, *, width: float = 1.0
    ) -> None:
        super().__init__()
        if depth not in CONFIGURATIONS:
            message = f"depth must be one of {sorted(CONFIGURATIONS)}, got {depth}"
            raise ValueError(message)
        self.features = nn.Sequential()
        read = channels
        for stage, sizes in enumerate(CONFIGURATIONS[depth], start=1):
            for index, size in enumerate(sizes, start=1):
                written = scaled(size, width)
                block = convolved(read, written, 3)
                self.features.add_module(f"block{stage}_{index}", block)
                read = written
            self.features.add_module(f"pool{stage}", nn.MaxPool2d(2))
        self.classes = nn.Linear(read, classes)

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Logits `(images, classes)` of images `(images, channels, 32, 32)`."""
        return self.classes(self.features(images).flatten(1))


CONFIGURATIONS = MappingProxyType(
    {
        11: ((64,), (128,), (256, 256), (512, 512), (512, 512)),
        16: ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
    }
)
"""Depth -> filters of each convolution, by stage; every stage ends with 2x2 max pooling."""


def convolved(
    read: int, written: int, side: int, activation: str = Activation.RELU
) -> nn.Sequential:
    """Convolution without bias that keeps the size, batch norm, activation."""
    block = nn.Sequential()
    block.add_module("conv", nn.Conv2d(read, written, side, padding=side // 2, bias=False))
    block.add_module("norm", nn.BatchNorm2d(written))
    block.add_module("activation", activation_of(activation))
    return block


def scaled(size: int, width: float) -> int:
    """`size` times `width`, at least 1."""
    return max(1, round(size * width))
