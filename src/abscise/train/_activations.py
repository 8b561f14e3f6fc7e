"""The functions that a network can have between its layers: which of them let units die."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType

from torch import nn


class Activation(StrEnum):
    """Only RELU is exactly 0, with gradient 0, for whole half-lines of inputs."""

    RELU = "relu"
    LEAKY_RELU = "leaky-relu"
    ELU = "elu"
    TANH = "tanh"


def activation_of(name: str) -> nn.Module:
    """A new module of that function, without parameters, at torch's own settings.

    Raises:
        ValueError: There is none of that name.

    Example:
        >>> activation_of("leaky-relu")
        LeakyReLU(negative_slope=0.01)
    """
    if name not in _MODULES:
        message = f"activation must be one of {', '.join(_MODULES)}, got {name!r}"
        raise ValueError(message)
    return _MODULES[name]()


_MODULES: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {
        Activation.RELU: nn.ReLU,
        Activation.LEAKY_RELU: nn.LeakyReLU,
        Activation.ELU: nn.ELU,
        Activation.TANH: nn.Tanh,
    }
)
