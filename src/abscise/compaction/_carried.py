"""What belongs to a dense model besides its weights, made anew for the compacted one.

An optimizer remembers tensors of its parameters' shapes; a running average holds the weights once
more. Both are cut along the plan; the given objects stay as they were.
"""

import copy
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from abscise._copying import copy_model
from abscise._errors import ModelError
from abscise.compaction._apply import apply
from abscise.compaction._edit import cut, named_tensors
from abscise.compaction._plan import Plan
from abscise.compaction._select_inputs import selected_weights, without_selections

Average = nn.Module | Mapping[str, Tensor]
"""A running average of the weights: a module such as `AveragedModel`, or tensors by name."""

Averaged = TypeVar("Averaged", bound=Average)

_WRAPPER = "module."


def carried_optimizer(
    optimizer: Optimizer, model: nn.Module, compacted: nn.Module, plan: Plan
) -> Optimizer:
    """A new optimizer over the parameters of `compacted`, with the state that those had.

    Parameters that are not the model's stay the same objects. A new bias joins the group of its
    layer's weight. Hooks, and what wraps `step` (schedulers), belong to the old object.

    Raises:
        ModelError: A state has neither the shape of its parameter nor is it a single number.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    memo: dict[int, object] = {}
    groups: dict[str, int] = {}
    for place, group in enumerate(optimizer.param_groups):
        for parameter in group["params"]:
            memo[id(parameter)] = parameter
            name = names.get(id(parameter))
            if name is not None:
                groups[name] = place
                new = memo[id(parameter)] = compacted.get_parameter(name)
                held = optimizer.state.get(parameter, {})
                memo |= _carried_states(plan, model, name, held, new)
    carried: Optimizer = copy.deepcopy(optimizer, memo)
    for fold in plan.folds:
        weight = f"{fold.target.removesuffix('bias')}weight"
        if fold.into == "new_bias" and weight in groups:
            params = carried.param_groups[groups[weight]]["params"]
            params.append(compacted.get_parameter(fold.target))
    return carried


def carried_average(
    average: Averaged, model: nn.Module, compacted: nn.Module, plan: Plan
) -> Averaged:
    """A new average for the compacted model.

    An average lags behind: what is dead in the model may live in it. So where units go, it takes
    the present values of the model; with these, its constants are folded as the model's were.

    Raises:
        ModelError: It does not hold the model's parameters.
        PlanError: Its constants cannot go where the plan puts the model's.
    """
    if isinstance(average, nn.Module):
        inner = averaged_module(average, model)
        memo: dict[int, object] = {id(inner): _cut_average(inner, model, plan)}
        return copy.deepcopy(average, memo)
    found = averaged_names(average, model)
    dense = copy_model(model, share=False)
    tensors = _all_names(dense)
    with torch.no_grad():
        for key, name in found.items():
            _ = tensors[name].copy_(average[key])
    new = _all_names(_cut_average(dense, model, plan))
    result = {key: new[name].detach().to(average[key], copy=True) for key, name in found.items()}
    for name in _all_names(compacted).keys() - tensors.keys():
        if name in new and isinstance(compacted.get_parameter(name), nn.Parameter):
            result[_prefix(found) + name] = new[name].detach().clone()
    return result  # type: ignore[return-value]


def laid_out(value: Tensor, parameter: Tensor) -> Tensor:
    """A copy of `value` with the memory layout of its parameter: fused kernels walk both as one."""
    like = torch.empty_like(parameter, dtype=value.dtype, device=value.device)
    return like.copy_(value)


def state_kind(name: str, parameter: Tensor, key: object, value: object) -> bool:
    """Has a state the shape of its parameter (True), or is it one plain value (False)?

    Raises:
        ModelError: It is neither, so nobody knows how to cut it.
    """
    if isinstance(value, Tensor):
        if value.shape == parameter.shape:
            return True
        if value.numel() == 1:
            return False
        got = f"a tensor of {list(value.shape)}"
    elif value is None or isinstance(value, (bool, int, float, complex, str)):
        return False
    else:
        got = f"a {type(value).__name__}"
    message = (
        f"the optimizer's {key} of {name} must have the shape {list(parameter.shape)} or be one "
        f"number, got {got}: its state cannot be cut; use an optimizer that works element by "
        "element, such as Adam, or leave out optimizer="
    )
    raise ModelError(message)


def averaged_module(average: nn.Module, model: nn.Module) -> nn.Module:
    """The part of an average that has the model's parameters: itself, or what it wraps.

    Raises:
        ModelError: There is none.
    """
    wanted = {name: tensor.shape for name, tensor in model.named_parameters()}
    inner: object = average
    while isinstance(inner, nn.Module):
        if {name: tensor.shape for name, tensor in inner.named_parameters()} == wanted:
            return inner
        inner = getattr(inner, _WRAPPER.removesuffix("."), None)
    message = (
        f"ema: {type(average).__name__} holds other parameters than {type(model).__name__}; give "
        "a copy of the model, an AveragedModel of it, or its tensors by name"
    )
    raise ModelError(message)


def averaged_names(average: Mapping[str, Tensor], model: nn.Module) -> dict[str, str]:
    """Keys of an average -> the model's names of parameters and buffers.

    Raises:
        ModelError: A key is no name of the model, or its tensor has another shape.
    """
    tensors = _all_names(model)
    found: dict[str, str] = {}
    for key, value in average.items():
        name = key if key in tensors else key.removeprefix(_WRAPPER)
        if name not in tensors or tensors[name].shape != value.shape:
            what = "it has no such name" if name not in tensors else f"{list(tensors[name].shape)}"
            message = f"ema: {key} is {list(value.shape)}, in the model {what}"
            raise ModelError(message)
        found[key] = name
    return found


def _prefix(found: Mapping[str, str]) -> str:
    wrapped = any(key != name for key, name in found.items())
    return _WRAPPER if wrapped else ""


def _all_names(model: nn.Module) -> dict[str, Tensor]:
    return {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }


def _touched(plan: Plan, name: str) -> bool:
    grouped = any(edit.name == name for edit in plan.grouped)
    return grouped or bool(plan.columns(name)) or any(edit.name == name for edit in plan.edits)


def _carried_states(
    plan: Plan, model: nn.Module, name: str, held: Mapping[str, object], new: Tensor
) -> dict[int, object]:
    """Id of each state of one parameter that is cut -> what it becomes; others are copied."""
    old = model.get_parameter(name)
    if new.shape == old.shape and not _touched(plan, name):
        return {}
    found: dict[int, object] = {}
    for key, value in held.items():
        if state_kind(name, old, key, value):
            assert isinstance(value, Tensor)
            found[id(value)] = laid_out(cut(plan, name, _all_inputs(model, name, value)), new)
    return found


def _all_inputs(model: nn.Module, name: str, value: Tensor) -> Tensor:
    """Of a layer that reads a selection, a state as if it read all inputs; 0 for those unread."""
    chosen = selected_weights(model).get(name)
    if chosen is None:
        return value
    kept, size = chosen
    full = value.new_zeros(value.shape[0], size, *value.shape[2:])
    return full.index_copy_(1, kept, value)


def _cut_average(average: nn.Module, model: nn.Module, plan: Plan) -> nn.Module:
    dense = without_selections(copy_model(average, share=False))
    present = named_tensors(without_selections(model))
    with torch.no_grad():
        for name, tensor in named_tensors(dense).items():
            if _touched(plan, name):
                gone = _removed_elements(plan, name, tensor)
                _ = tensor.copy_(torch.where(gone, present[name].to(tensor), tensor))
    return apply(plan, dense)


def _removed_elements(plan: Plan, name: str, tensor: Tensor) -> Tensor:
    """Where a tensor of the dense shape loses its elements."""
    places = torch.arange(tensor.numel(), device=tensor.device).reshape(tensor.shape)
    gone = torch.ones(tensor.numel(), dtype=torch.bool, device=tensor.device)
    gone[cut(plan, name, places).flatten()] = False
    return gone.reshape(tensor.shape)
