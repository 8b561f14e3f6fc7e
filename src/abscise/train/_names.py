"""The words that a recipe chooses by; each is an enum, so that a typing error is an error."""

from enum import StrEnum


class ModelName(StrEnum):
    """The networks that come with the package; any other is named package.module:callable."""

    BASICNET = "basicnet"
    CONV = "conv"
    DEEPMNIST = "deepmnist"
    LENET300 = "lenet300"
    LENET5 = "lenet5"
    MLP = "mlp"
    RESNET20 = "resnet20"
    RESNET56 = "resnet56"
    VGG11 = "vgg11"
    VGG16 = "vgg16"


class OptimizerName(StrEnum):
    """What `weight_decay` means differs: that is what recipe and control compare.

    ADAMW shrinks the weights by learning_rate * weight_decay apart from the gradient. All others
    add weight_decay * weight to the gradient (L2, coupled); ADAM and its relatives then scale it
    like the gradient, SGD does not.
    """

    ADADELTA = "adadelta"
    ADAGRAD = "adagrad"
    ADAM = "adam"
    ADAMW = "adamw"
    RMSPROP = "rmsprop"
    SGD = "sgd"


class Precision(StrEnum):
    """In which numbers forward and backward run; the weights are float32 in all of them."""

    FULL = "32-true"
    BF16_MIXED = "bf16-mixed"
    FP16_MIXED = "16-mixed"


class Schedule(StrEnum):
    """How the learning rate falls after the warm-up: by `drops`, or along half a cosine to 0.

    With several `cycles` the cosine starts again and again from the full rate.
    """

    COSINE = "cosine"
    DROPS = "drops"


class Augment(StrEnum):
    """What happens to the training images, anew at every step."""

    NONE = "none"
    FLIP = "flip"
    CROP_FLIP = "crop-flip"
    SHIFT = "shift"
