"""A plan carried out on the very objects that are being trained; whole or not at all.

The Parameter objects stay, with new data; so everything that holds them (optimizer, scheduler,
scaler) goes on. All that is changed is put back if anything fails.
"""

from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from abscise._errors import ModelError
from abscise.compaction import (
    Average,
    Plan,
    averaged_module,
    averaged_names,
    cut,
    laid_out,
    named_tensors,
    state_kind,
)


def shrink_weights_(plan: Plan, model: nn.Module, undo: ExitStack) -> None:
    """Cut every parameter, gradient, buffer and kept size of the model."""
    for name, tensor in named_tensors(model).items():
        new = cut(plan, name, tensor)
        if new is not tensor:
            before = gradient_of(tensor)
            put_(tensor, new, None if before is None else cut(plan, name, before), undo)
    for attribute in plan.attributes:
        module = model.get_submodule(attribute.module)
        _ = undo.callback(setattr, module, attribute.name, getattr(module, attribute.name))
        setattr(module, attribute.name, attribute.value)


def gradient_of(tensor: Tensor) -> Tensor | None:
    """What the last backward pass left there."""
    return tensor.grad if tensor.is_leaf else None


def shrink_states_(plan: Plan, model: nn.Module, optimizer: Optimizer, undo: ExitStack) -> None:
    """Cut every state of an edited parameter that has its shape. Call it before the weights.

    Raises:
        ModelError: A state has another shape.
    """
    held = {id(it) for group in optimizer.param_groups for it in group["params"]}
    for name, parameter in model.named_parameters():
        shrunk = cut(plan, name, parameter)
        if shrunk is parameter or id(parameter) not in held or parameter not in optimizer.state:
            continue
        states = optimizer.state[parameter]
        for key, value in list(states.items()):
            if state_kind(name, parameter, key, value):
                _ = undo.callback(states.__setitem__, key, value)
                states[key] = laid_out(cut(plan, name, value), shrunk)


def shrink_average_(plan: Plan, average: Average, model: nn.Module, undo: ExitStack) -> None:
    """Cut a running average, a module or tensors by name. Call it before the weights.

    Raises:
        ModelError: It holds other names or shapes than the model.
    """
    if isinstance(average, nn.Module):
        shrink_weights_(plan, averaged_module(average, model), undo)
        return
    for key, name in averaged_names(average, model).items():
        tensor = average[key]
        new = cut(plan, name, tensor.detach())
        if new.shape != tensor.shape:
            put_(tensor, new, None, undo)


def put_(tensor: Tensor, new: Tensor, gradient: Tensor | None, undo: ExitStack) -> None:
    """Give a parameter or buffer other data, of any shape, and its gradient along with it."""
    old, before = tensor.data, gradient_of(tensor)
    _ = undo.callback(_set, tensor, old, before)
    _set(tensor, new, gradient)


def _set(tensor: Tensor, data: Tensor, gradient: Tensor | None) -> None:
    if tensor.is_leaf:
        tensor.grad = None
    # A graph that somebody still holds (the last loss) remembers the parameter's old shape, and
    # the next one would use that; data of another type in between makes torch forget it.
    other = torch.float64 if data.dtype != torch.float64 else torch.float32
    if tensor.requires_grad:
        tensor.data = data.new_empty(0, dtype=other)
    tensor.data = data
    if gradient is not None:
        tensor.grad = gradient


def check_states(model: nn.Module, optimizer: Optimizer) -> None:
    """Refuse states that could not be cut, before there is anything to cut.

    Raises:
        ModelError: The text names parameter, key and shape.
    """
    held = {id(it) for group in optimizer.param_groups for it in group["params"]}
    for name, parameter in model.named_parameters():
        if id(parameter) not in held:
            if parameter.requires_grad:
                message = (
                    f"{name} is not in the optimizer that ShrinkWhileTraining is attached to: the "
                    "state of another one could not follow; put all parameters into one optimizer, "
                    "or freeze it (requires_grad_(False))"
                )
                raise ModelError(message)
            continue
        for key, value in optimizer.state.get(parameter, {}).items():
            _ = state_kind(name, parameter, key, value)
