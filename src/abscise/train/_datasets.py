"""Which data sets there are: their shapes and the columns of their Hugging Face repositories."""

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class DataName(StrEnum):
    """The data sets that `load_data` knows."""

    DIGITS = "digits"
    MNIST = "mnist"
    FASHION_MNIST = "fashion_mnist"
    PENDIGITS = "pendigits"
    CIFAR10 = "cifar10"
    CIFAR100 = "cifar100"


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What is known about a data set before it is read.

    Args:
        shape: Of one example as the model gets it; (channels, height, width) for images.
        classes: Labels are 0 .. classes - 1.
        validation: Training examples that are held out, to choose by.
        repository: On the Hugging Face hub, and the folder below the data root; empty for digits,
            which come with scikit-learn.
        columns: Of the inputs: one with images, or one per feature. Empty: the column image, or
            every column but the label.
        scale: Inputs are divided by it before they are standardised.
        label: Column of the labels.
        local: Whether `repository` is a folder by itself, wherever the data root is.
    """

    shape: tuple[int, ...]
    classes: int
    validation: int
    repository: str
    columns: tuple[str, ...]
    scale: float = 255.0
    label: str = "label"
    local: bool = False

    @property
    def images(self) -> bool:
        """Whether one column holds images; else the columns are numbers."""
        return len(self.shape) == 3


def facts(name: DataName) -> DataFacts:
    """What is known about the data set `name` before it is read."""
    return _FACTS[name]


def is_known(name: str) -> bool:
    """Whether `name` is a data set that `load_data` knows."""
    return name in set(DataName)


_FACTS = MappingProxyType(
    {
        DataName.DIGITS: DataFacts((1, 8, 8), 10, 180, "", (), 16.0),
        DataName.MNIST: DataFacts((1, 28, 28), 10, 5000, "ylecun/mnist", ("image",)),
        DataName.FASHION_MNIST: DataFacts(
            (1, 28, 28), 10, 5000, "zalando-datasets/fashion_mnist", ("image",)
        ),
        DataName.PENDIGITS: DataFacts(
            (16,), 10, 750, "uci/pendigits", tuple(f"f{n:02d}" for n in range(16)), 100.0
        ),
        DataName.CIFAR10: DataFacts((3, 32, 32), 10, 5000, "uoft-cs/cifar10", ("img",)),
        DataName.CIFAR100: DataFacts(
            (3, 32, 32), 100, 5000, "uoft-cs/cifar100", ("img",), label="fine_label"
        ),
    }
)
