"""Pieces for named tests: one layer, one hole, one reader."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from support.compacting import noise, trained


class Calls(nn.Module):
    """Named children and a forward given as a function of the module and its inputs."""

    def __init__(self, function: Callable[..., Any], **children: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, child in children.items():
            self.add_module(name, child)

    if TYPE_CHECKING:

        @override
        def __getattr__(self, name: str) -> Any: ...

    @override
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self, *args, **kwargs)


def net(function: Callable[..., Any], **children: nn.Module) -> Calls:
    """A trained-like `Calls`; its norms are measured on images of (3, 8, 8)."""
    return trained(Calls(function, **children), noise(16, 3, 8, 8))


def flat(function: Callable[..., Any], **children: nn.Module) -> Calls:
    """A trained-like `Calls` on vectors of 6."""
    return trained(Calls(function, **children), noise(16, 6))


def conv(channels: int, width: int, kernel: int = 1, **options: Any) -> nn.Conv2d:
    """A convolution, 1x1 unless told."""
    return nn.Conv2d(channels, width, kernel, **options)


def unread_(reader: nn.Module, *units: int) -> None:
    """Zero the columns with which a linear layer or convolution reads `units`."""
    with torch.no_grad():
        for unit in units:
            _ = reader.get_parameter("weight")[:, unit].zero_()


def silent_(writer: nn.Module, *units: int) -> None:
    """Zero the rows and biases of `units`: their value is 0."""
    constant_(writer, dict.fromkeys(units, 0.0))


def constant_(writer: nn.Module, values: dict[int, float]) -> None:
    """Zero the rows (or scales) of `values` and give the bias (or shift) their value."""
    with torch.no_grad():
        for unit, value in values.items():
            _ = writer.get_parameter("weight")[unit].zero_()
            if isinstance(writer.bias, Tensor):
                writer.bias[unit] = value


def dead_scales_(norm: nn.Module, units: Iterable[int], shift: float = -1.0) -> None:
    """gamma = 0 and beta = `shift`."""
    constant_(norm, dict.fromkeys(units, shift))
