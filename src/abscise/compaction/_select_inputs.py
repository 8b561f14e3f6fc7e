"""A layer that reads a selection of its inputs: a buffer of indices, and the hook that reads it.

The layer keeps its class. Importing this module is all that a compacted model needs when it was
saved whole.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from abscise._copying import copy_model

BUFFER = "kept_inputs"
_SIZE = "selected_from"
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


def add_selection(module: nn.Module, kept: Tensor, size: int) -> None:
    """From now on `module` reads only the inputs at `kept`, of `size`; its weight has that size."""
    module.register_buffer(BUFFER, kept)
    vars(module)[_SIZE] = size
    _ = module.register_forward_pre_hook(select_inputs, with_kwargs=True)
    # torch numbers hooks anew in every process: in a model that was saved whole, the number that
    # this one got could be given to a hook of the user.
    number = next(reversed(module._forward_pre_hooks))  # noqa: SLF001
    for hooks in _hooks_of(module):
        hooks[BUFFER] = hooks.pop(number)


def _hooks_of(module: nn.Module) -> tuple[dict[Any, Any], dict[Any, Any]]:
    return module._forward_pre_hooks, module._forward_pre_hooks_with_kwargs  # noqa: SLF001


def selected_weights(model: nn.Module) -> dict[str, tuple[Tensor, int]]:
    """Weights that read a selection: name -> (the inputs that they read, of how many)."""
    return {
        f"{path}.weight" if path else "weight": (module.get_buffer(BUFFER), vars(module)[_SIZE])
        for path, module in model.named_modules()
        if hasattr(module, BUFFER)
    }


def without_selections(model: nn.Module) -> nn.Module:
    """The model itself, or where layers select: a copy in which they read all their inputs.

    The inputs that were not read get weights of 0.0.
    """
    if not any(hasattr(module, BUFFER) for module in model.modules()):
        return model
    whole = copy_model(model, share=False)
    for module in whole.modules():
        if hasattr(module, BUFFER):
            _read_all(module)
    return whole


def _read_all(module: nn.Module) -> None:
    weight, kept = module.get_parameter("weight"), module.get_buffer(BUFFER)
    size: int = vars(module)[_SIZE]
    full = weight.new_zeros(weight.shape[0], size, *weight.shape[2:])
    dense = nn.Parameter(full.detach().index_copy(1, kept, weight.detach()), weight.requires_grad)
    module.weight = dense
    setattr(module, size_attribute(module), size)
    del vars(module)[_SIZE]
    delattr(module, BUFFER)
    for hooks in _hooks_of(module):
        _ = hooks.pop(BUFFER, None)


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
