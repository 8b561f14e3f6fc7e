"""A layer that reads a selection of its inputs: a buffer of indices, and the hook that reads it.

The layer keeps its class. Importing this module is all that a compacted model needs when it was
saved whole.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

BUFFER = "kept_inputs"
_SELECTING = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def may_select(module: nn.Module) -> bool:
    """Does forward of this very module multiply `weight` with its whole input, and nothing else?"""
    # A subclass, or a forward put on the object, may do something else with the weight.
    plain = type(module) in _SELECTING and "forward" not in vars(module)
    if not plain or hasattr(module, BUFFER):
        return False
    return isinstance(module, nn.Linear) or (
        getattr(module, "groups", 0) == 1 and getattr(module, "padding_mode", "") == "zeros"
    )


def size_attribute(module: nn.Module) -> str:
    """The attribute that holds the number of inputs."""
    return "in_features" if isinstance(module, nn.Linear) else "in_channels"


def add_selection(module: nn.Module, kept: Tensor) -> None:
    """From now on `module` reads only the inputs at `kept`; its weight must have their size."""
    module.register_buffer(BUFFER, kept)
    _ = module.register_forward_pre_hook(select_inputs, with_kwargs=True)


def select_inputs(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A forward pre-hook: the input, positional or by keyword, without what is not read.

    The features are the last dimension of a linear layer's input; the channels of a convolution's
    stand in front of the spatial dimensions, with a batch or without.
    """
    kept = module.get_buffer(BUFFER)
    dim = 1 - module.get_parameter("weight").ndim
    if args:
        return (torch.index_select(args[0], dim, kept), *args[1:]), dict(kwargs)
    return args, {**kwargs, "input": torch.index_select(kwargs["input"], dim, kept)}
