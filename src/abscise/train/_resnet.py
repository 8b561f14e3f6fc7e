"""Residual networks for 32x32 images."""

import torch.nn.functional as fn
from torch import Tensor, nn
from typing_extensions import override

from abscise.train._vgg import scaled


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm, and the input added before the last ReLU.

    Where the size changes, the input is sub-sampled by two and padded with channels of zeros, or,
    with `projection`, goes through a 1x1 convolution with batch norm.
    """

    def __init__(self, read: int, written: int, *, projection: bool) -> None:
        super().__init__()
        stride = 1 if read == written else 2
        self.conv1 = nn.Conv2d(read, written, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(written)
        self.conv2 = nn.Conv2d(written, written, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(written)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride == 2:
            self.shortcut = Padded(written - read)
            if projection:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(read, written, 1, stride=2, bias=False), nn.BatchNorm2d(written)
                )

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Maps `(images, written, side, side)` of maps `(images, read, ...)`."""
        inner = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(images)))))
        return self.relu(inner + self.shortcut(images))


class Padded(nn.Module):
    """Every second pixel, and `extra` channels of zeros behind the others; no parameters."""

    def __init__(self, extra: int) -> None:
        super().__init__()
        self.extra = extra

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Maps with `extra` more channels and half the height and width."""
        return fn.pad(images[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.extra))


class ResNet(nn.Module):
    """ResNet-20, 32, 44, 56, 110 for small images: three stages of 16, 32 and 64 filters.

    269,722 (ResNet-20) and 853,018 (ResNet-56) parameters for ten classes and three channels.

    Source: He, Zhang, Ren, Sun 2016, "Deep Residual Learning for Image Recognition", arXiv
    1512.03385, section 4.2, with shortcuts of option A. `projection` gives option B, where filters
    along the shortcuts can be removed, too.

    Args:
        depth: 6 n + 2 layers with weights, n blocks per stage.
        channels: Channels of the images.
        classes: Number of outputs.
        width: Every number of filters is multiplied by it.
        projection: Convolutions instead of padding where the size changes (option B).
    """

    def __init__(
        self,
        depth: int = 20,
        channels: int = 3,
        classes: int = 10,
        *,
        width: float = 1.0,
        projection: bool = False,
    ) -> None:
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            message = f"depth must be 6 n + 2, such as 20 or 56, got {depth}"
            raise ValueError(message)
        read = scaled(16, width)
        self.conv = nn.Conv2d(channels, read, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(read)
        self.relu = nn.ReLU()
        self.stages = nn.Sequential()
        for stage in range(3):
            written = scaled(16, width) * 2**stage
            blocks = nn.Sequential()
            for index in range(1, (depth - 2) // 6 + 1):
                blocks.add_module(f"block{index}", Block(read, written, projection=projection))
                read = written
            self.stages.add_module(f"stage{stage + 1}", blocks)
        self.classes = nn.Linear(read, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                _ = nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Logits `(images, classes)` of images `(images, channels, side, side)`."""
        maps = self.stages(self.relu(self.norm(self.conv(images))))
        return self.classes(maps.mean(dim=(2, 3)))
