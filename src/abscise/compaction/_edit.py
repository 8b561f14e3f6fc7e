"""Pass 5, edit: slice parameters, buffers and attributes of a copy of the model."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from abscise._copying import copy_model
from abscise._errors import PlanError
from abscise.compaction._plan import GroupedEdit, Plan, Selection
from abscise.compaction._select_inputs import add_selection, may_select, without_selections


def restructure(plan: Plan, model: nn.Module, *, share: bool = False) -> nn.Module:
    """A copy of `model` with the shapes of the compacted model; constants are not folded yet.

    Args:
        plan: What goes.
        model: The dense model; it is left as it was.
        share: Parameters that are not edited are the model's own, not copies (for checks only).

    Raises:
        PlanError: The plan names a parameter, or a size, that this model does not have.
    """
    model = without_selections(model)
    # What is sliced need not be copied before.
    names = {edit.name for edit in plan.edits} | {edit.name for edit in plan.grouped}
    names |= {item.weight for item in plan.selections}
    sliced_ones = [tensor for name, tensor in named_tensors(model).items() if name in names]
    edited = copy_model(model, share=share, shared=sliced_ones)
    slots = _slots(edited)
    by_name: dict[str, dict[int, tuple[int, ...]]] = {}
    tensors = named_tensors(edited)
    for edit in plan.edits:
        _check_size(tensors, edit.name, edit.axis, edit.size)
        by_name.setdefault(edit.name, {})[edit.axis] = edit.removed
    for item in plan.selections:
        _select(plan, item, edited, tensors)
        by_name.setdefault(item.weight, {})[1] = plan.columns(item.weight)
    grouped = {edit.name: edit for edit in plan.grouped}
    for name in dict.fromkeys([*by_name, *grouped]):
        new = sliced(tensors[name], by_name.get(name, {}), grouped.get(name))
        _replace(slots[id(tensors[name])], tensors[name], new)
    for attribute in plan.attributes:
        setattr(_submodule(edited, attribute.module), attribute.name, attribute.value)
    for fold in plan.folds:
        if fold.into == "new_bias":
            _add_bias(edited, fold.target)
    return edited


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer by qualified name, each tied one under its first name."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _select(plan: Plan, item: Selection, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Let a layer read the places, among the inputs that stay, of those that it keeps."""
    module = _submodule(model, item.module)
    _check_size(tensors, item.weight, 1, item.size)
    if not may_select(module) or getattr(module, "weight", None) is not tensors[item.weight]:
        message = f"the plan selects inputs of {item.module}, whose type does not allow it"
        raise PlanError(message)
    places = torch.ones(item.size, dtype=torch.bool)
    places[list(item.dropped)] = False
    units = set(plan.columns(item.weight)) - set(item.dropped)
    kept = places[_complement(item.size, tuple(units))].nonzero().flatten()
    add_selection(module, kept.to(tensors[item.weight].device), item.size - len(units))


def _check_size(tensors: Mapping[str, Tensor], name: str, axis: int, size: int) -> None:
    found = tensors[name].shape[axis] if name in tensors and axis < tensors[name].ndim else None
    if found != size:
        what = "is not there" if found is None else f"has size {found}"
        message = (
            f"the plan expects axis {axis} of {name} to have size {size}; in this model it {what}"
        )
        raise PlanError(message)


def sliced(
    tensor: Tensor, removed: Mapping[int, tuple[int, ...]], grouped: GroupedEdit | None
) -> Tensor:
    """`tensor` without the removed indices of each axis; its memory format is kept."""
    result = tensor.detach()
    if grouped is not None:
        result = _slice_groups(result, grouped, removed.get(0, ()))
        removed = {axis: gone for axis, gone in removed.items() if axis > 1}
    for axis, gone in removed.items():
        kept = _complement(result.shape[axis], gone).to(result.device)
        result = result.index_select(axis, kept)
    if result.ndim in (4, 5):
        result = _like_format(result, tensor)
    return result


def cut(plan: Plan, name: str, tensor: Tensor) -> Tensor:
    """`tensor`, of the dense shape of what bears that name, without what the plan removes.

    Of a tensor that the plan does not touch, the tensor itself.
    """
    removed = {edit.axis: edit.removed for edit in plan.edits if edit.name == name}
    if plan.columns(name):
        removed[1] = plan.columns(name)
    grouped = next((edit for edit in plan.grouped if edit.name == name), None)
    return sliced(tensor, removed, grouped) if removed or grouped is not None else tensor


def _like_format(result: Tensor, tensor: Tensor) -> Tensor:
    layout = torch.channels_last if tensor.ndim == 4 else torch.channels_last_3d
    plain = tensor.is_contiguous()
    if not plain and tensor.is_contiguous(memory_format=layout):
        return result.contiguous(memory_format=layout)
    return result.contiguous()


def _slice_groups(weight: Tensor, edit: GroupedEdit, gone_rows: tuple[int, ...]) -> Tensor:
    """Rows go with axis 0; every remaining row loses the offsets of its own group."""
    rows_per_group = weight.shape[0] // edit.groups
    dead = set(gone_rows)
    parts = []
    for group, offsets in enumerate(edit.removed):
        if offsets is None:
            continue
        rows = [
            row
            for row in range(group * rows_per_group, (group + 1) * rows_per_group)
            if row not in dead
        ]
        columns = _complement(weight.shape[1], offsets).to(weight.device)
        parts.append(weight[rows].index_select(1, columns))
    return torch.cat(parts)


def _complement(size: int, removed: tuple[int, ...]) -> Tensor:
    stays = torch.ones(size, dtype=torch.bool)
    stays[list(removed)] = False
    return stays.nonzero().flatten()


_Slots = list[tuple[dict[str, Any], str]]


def _slots(model: nn.Module) -> dict[int, _Slots]:
    """Id of a tensor -> all places where a module holds it, ties included."""
    found: dict[int, _Slots] = {}
    for module in model.modules():
        for slots in (module._parameters, module._buffers):  # noqa: SLF001 - keeps ties
            for name, tensor in slots.items():
                found.setdefault(id(tensor), []).append((slots, name))
    return found


def _replace(places: _Slots, old: Tensor, new: Tensor) -> None:
    """Put `new` wherever `old` was."""
    if new.untyped_storage().data_ptr() == old.untyped_storage().data_ptr():
        new = new.clone()
    fresh = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
    for slots, name in places:
        slots[name] = fresh


def _submodule(model: nn.Module, path: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError as error:
        message = f"the plan names module {path}, which this model does not have"
        raise PlanError(message) from error


def _add_bias(model: nn.Module, target: str) -> None:
    path, _, leaf = target.rpartition(".")
    module = _submodule(model, path)
    weight = getattr(module, "weight", None)
    if leaf != "bias" or not isinstance(weight, Tensor) or getattr(module, "bias", 0) is not None:
        message = f"the plan gives {target} to a module that has no place for a new bias"
        raise PlanError(message)
    bias = torch.zeros(weight.shape[0], dtype=weight.dtype, device=weight.device)
    module.register_parameter("bias", nn.Parameter(bias, weight.requires_grad))
