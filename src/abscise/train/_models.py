"""The networks that the recipes train: plain modules, as a user would write them."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from typing_extensions import override

from abscise.train._activations import Activation, activation_of


class ConvNet(nn.Module):
    """Convolution, batch norm, ReLU, over and over; then one hidden linear layer and the classes.

    Every convolution is 3x3, padded and without bias; the first two are followed by 2x2 max
    pooling. The hidden linear layer has no batch norm.

    Source: BasicNet of Mehta, Kim, Theobalt 2019, "On Implicit Filter Level Sparsity in
    Convolutional Neural Networks", arXiv 1811.12495. Differs: made for 8x8 images, so it has fewer
    layers, pools twice and starts with 3x3.

    Args:
        widths: Filters of each convolution, at least two.
        hidden: Units of the hidden linear layer.
        channels: Channels of the images.
        side: Their height and width in pixels, a multiple of 4.
        classes: Number of outputs.
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 256),
        hidden: int = 256,
        *,
        channels: int = 1,
        side: int = 8,
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.features = nn.Sequential()
        for index, (read, written) in enumerate(pairwise((channels, *widths)), start=1):
            block = nn.Sequential()
            block.add_module("conv", nn.Conv2d(read, written, 3, padding=1, bias=False))
            block.add_module("norm", nn.BatchNorm2d(written))
            block.add_module("relu", nn.ReLU())
            if index <= 2:
                block.add_module("pool", nn.MaxPool2d(2))
            self.features.add_module(f"block{index}", block)
        self.hidden = nn.Linear(widths[-1] * (side // 4) ** 2, hidden)
        self.relu = nn.ReLU()
        self.classes = nn.Linear(hidden, classes)

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Logits `(images, classes)` of images `(images, channels, side, side)`."""
        return self.classes(self.relu(self.hidden(self.features(images).flatten(1))))


class MLP(nn.Module):
    """Linear layers with ReLU between them, on flattened inputs; biases everywhere.

    Args:
        inputs: Numbers per example.
        hidden: Units of each hidden layer.
        classes: Number of outputs.
    """

    def __init__(self, inputs: int, hidden: Sequence[int], classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        for index, (read, written) in enumerate(pairwise((inputs, *hidden)), start=1):
            self.layers.add_module(f"hidden{index}", nn.Linear(read, written))
            self.layers.add_module(f"relu{index}", nn.ReLU())
        self.layers.add_module("classes", nn.Linear((inputs, *hidden)[-1], classes))

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        """Logits `(examples, classes)` of inputs `(examples, ...)`."""
        return self.layers(inputs.flatten(1))


class LeNet300(nn.Module):
    """LeNet-300-100: 784 pixels, 300 and 100 hidden units, 10 classes; 266,610 parameters.

    Source: LeCun, Bottou, Bengio, Haffner 1998, "Gradient-Based Learning Applied to Document
    Recognition", Proceedings of the IEEE 86(11). Differs, as in the pruning literature: ReLU
    instead of tanh, cross-entropy instead of squared error.

    Args:
        activation: Of the hidden units; see `Activation`.
    """

    def __init__(self, activation: str = Activation.RELU) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 300)
        self.fc2 = nn.Linear(300, 100)
        self.fc3 = nn.Linear(100, 10)
        self.activation = activation_of(activation)

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Logits `(images, 10)` of images with 784 pixels each."""
        hidden = self.activation(self.fc1(images.flatten(1)))
        return self.fc3(self.activation(self.fc2(hidden)))


class LeNet5(nn.Module):
    """LeNet-5 in the form of Caffe: two convolutions, two linear layers; 431,080 parameters.

    Convolutions 5x5 without padding, 20 and 50 filters, each followed by 2x2 max pooling and ReLU;
    then 800 to 500 units, ReLU, 10 classes.

    Source: LeCun, Bottou, Bengio, Haffner 1998, "Gradient-Based Learning Applied to Document
    Recognition", Proceedings of the IEEE 86(11), as in the examples of Caffe, which the pruning
    literature follows. Differs: a ReLU behind each pooling, where Caffe has none; without it no
    filter could die by itself.

    Args:
        activation: Instead of each ReLU; see `Activation`.
    """

    def __init__(self, activation: str = Activation.RELU) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(800, 500)
        self.activation = activation_of(activation)
        self.fc2 = nn.Linear(500, 10)

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Logits `(images, 10)` of images `(images, 1, 28, 28)`."""
        first = self.activation(self.pool(self.conv1(images)))
        second = self.activation(self.pool(self.conv2(first)))
        return self.fc2(self.activation(self.fc1(second.flatten(1))))


class DeepMnist(nn.Module):
    """Two convolutions of 32 and 64 filters, 1024 hidden units, dropout; 3,274,634 parameters.

    Convolutions 5x5, padded to keep the size, each followed by ReLU and 2x2 max pooling; 3,136 to
    1,024 units, ReLU, dropout, 10 classes.

    Source: the network that R. Ma, J. Miao, L. Niu, P. Zhang 2019, "Transformed l1 Regularization
    for Learning Sparse Deep Neural Networks" (arXiv 1901.01021) train on MNIST.

    Args:
        dropout: Share of the hidden units that a training step leaves out, in [0, 1).
    """

    def __init__(self, dropout: float = 0.5) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 5, padding=2)
        self.conv2 = nn.Conv2d(32, 64, 5, padding=2)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(3136, 1024)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(1024, 10)

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Logits `(images, 10)` of images `(images, 1, 28, 28)`."""
        first = self.pool(self.relu(self.conv1(images)))
        second = self.pool(self.relu(self.conv2(first)))
        return self.fc2(self.dropout(self.relu(self.fc1(second.flatten(1)))))
