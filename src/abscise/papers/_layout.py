"""ChannelsLast: convolutions run faster with the channels of a pixel side by side in memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer


@dataclass(frozen=True, slots=True)
class ChannelsLast:
    """An attachment without a state: the weights of the network lie channels last."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the layout is made anew when a run is gone on with."""
        return {}

    def load_state_dict(self, _state: Mapping[str, Any], /) -> None:
        """Go on."""


def channels_last(model: nn.Module, _optimizer: Optimizer) -> ChannelsLast:
    """Lay the weights of `model` out, in place; every number stays, and so does each Parameter.

    Convolutions then give activations of the same layout, from the first layer to the last.
    """
    _ = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return ChannelsLast()


def channels_first_(model: nn.Module) -> nn.Module:
    """Undo `channels_last`, in place."""
    found: nn.Module = model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return found
