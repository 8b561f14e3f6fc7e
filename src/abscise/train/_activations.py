"""The functions that a network can have between its layers: which of them let units die."""

import math
from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType

from torch import nn


class Activation(StrEnum):
    """Only RELU is exactly 0, with gradient 0, for whole half-lines of inputs.

    LEAKY_RELU may be given a slope: `leaky-relu:0.3`; alone it has torch's, 0.01.
    """

    RELU = "relu"
    LEAKY_RELU = "leaky-relu"
    ELU = "elu"
    GELU = "gelu"
    TANH = "tanh"


def activation_of(name: str) -> nn.Module:
    """A new module of that function, without parameters, at torch's own settings.

    Raises:
        ValueError: There is none of that name, or the slope is not between 0 and 1.

    Example:
        >>> activation_of("leaky-relu")
        LeakyReLU(negative_slope=0.01)
        >>> activation_of("leaky-relu:0.3")
        LeakyReLU(negative_slope=0.3)
    """
    kind, colon, slope = name.partition(":")
    if kind == Activation.LEAKY_RELU and colon:
        return nn.LeakyReLU(_slope(name, slope))
    if name not in _MODULES:
        message = f"activation must be one of {', '.join(_MODULES)}, got {name!r}"
        raise ValueError(message)
    return _MODULES[name]()


def _slope(name: str, text: str) -> float:
    try:
        slope = float(text)
    except ValueError:
        slope = math.nan
    if not 0 < slope < 1:
        message = f"the slope of leaky-relu must be a number between 0 and 1, got {name!r}"
        raise ValueError(message)
    return slope


_MODULES: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {
        Activation.RELU: nn.ReLU,
        Activation.LEAKY_RELU: nn.LeakyReLU,
        Activation.ELU: nn.ELU,
        Activation.GELU: nn.GELU,
        Activation.TANH: nn.Tanh,
    }
)
