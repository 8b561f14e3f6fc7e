"""VGG-16 as it was published for ImageNet: three linear layers, biases, no norm."""

from torch import Tensor, nn
from typing_extensions import override

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class OriginalVGG16(nn.Module):
    """13 convolutions 3x3 in five blocks with pooling, then 4,096, 4,096 and all classes.

    138,357,544 parameters for three channels, 224 pixels a side and 1,000 classes.

    Source: Simonyan, Zisserman 2015, "Very Deep Convolutional Networks for Large-Scale Image
    Recognition", arXiv 1409.1556, configuration D.

    Args:
        side: Height and width of the images in pixels, a multiple of 32.
        classes: Number of outputs.
        width: Every number of filters and hidden units is multiplied by it.
    """

    def __init__(self, side: int = 224, classes: int = 1000, *, width: float = 1.0) -> None:
        super().__init__()
        if side < 32 or side % 32:
            message = f"side must be a multiple of 32, got {side}"
            raise ValueError(message)
        self.features = nn.Sequential()
        read = 3
        for sizes in BLOCKS:
            for size in sizes:
                written = max(1, round(size * width))
                self.features.append(nn.Conv2d(read, written, 3, padding=1))
                self.features.append(nn.ReLU())
                read = written
            self.features.append(nn.MaxPool2d(2))
        hidden = max(1, round(4096 * width))
        self.classifier = nn.Sequential(
            nn.Linear(read * (side // 32) ** 2, hidden),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(hidden, classes),
        )

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Logits `(images, classes)` of images `(images, 3, side, side)`."""
        return self.classifier(self.features(images).flatten(1))
