"""Compact a model and check everything that is true of every compaction."""

from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

import abscise
from abscise.compaction import Plan
from support.equality import assert_equal, difference, untouched
from support.networks import trained_like_


@dataclass(frozen=True, slots=True)
class Checked:
    """A compaction that has passed the checks."""

    plan: Plan
    model: nn.Module

    def removed(self, layer: str, axis: int = 0) -> set[int]:
        """Indices removed from the rows (axis 0) of the weight of `layer`."""
        return removed(self.plan, f"{layer}.weight", axis)

    def removed_of(self, name: str, axis: int) -> set[int]:
        """Indices removed from one axis of the parameter `name`."""
        return removed(self.plan, name, axis)

    def reasons(self, layer: str) -> str:
        """Why units of `layer` are pinned, as one text."""
        return "\n".join(
            reason for row in self.plan.layers if row.layer == layer for reason in row.reasons
        )


def check(
    model: nn.Module, example: Any, *batches: Any, keep: tuple[str, ...] = (), seed: int = 0
) -> Checked:
    """Compact; assert that the model is untouched, the copy sound, and the outputs equal.

    The first batch gives the spread, so it needs several rows; `example` serves without `batches`.
    """
    with untouched(model):
        plan = abscise.propose(model, example, keep=keep)
        compacted = abscise.apply(plan, model)
    return checked(model, plan, compacted, *(batches or (example,)), seed=seed)


def check_compact(model: nn.Module, example: Any, *batches: Any, seed: int = 0) -> Checked:
    """The same in one step, which captures half as often, with its certificate."""
    with untouched(model):
        compaction = abscise.compact(model, example, verify_inputs=batches[0])
    certificate = compaction.certificate
    assert certificate.passed or certificate.inconclusive
    assert certificate.passed or not difference(model, model, batches).conclusive
    return checked(model, compaction.plan, compaction.model, *batches, seed=seed)


def checked(
    model: nn.Module, plan: Plan, compacted: nn.Module, *batches: Any, seed: int = 0
) -> Checked:
    """Assert that `compacted` is whole and equal, and that a wrong one would not be."""
    assert_equal(model, compacted, *batches, seed=seed)
    assert_well_formed(model, compacted)
    return Checked(plan, compacted)


def assert_well_formed(dense: nn.Module, compacted: nn.Module) -> None:
    """Same classes, modes and flags; no tensor emptied; attributes that agree with the weights."""
    assert compacted is not dense
    modules = dict(compacted.named_modules())
    for name, module in dense.named_modules():
        assert type(modules[name]) is type(module)
        assert modules[name].training == module.training
    flags = {name: parameter.requires_grad for name, parameter in dense.named_parameters()}
    empty = {name for name, tensor in dense.state_dict().items() if not tensor.numel()}
    storages = {tensor.data_ptr() for tensor in dense.state_dict().values() if tensor.numel()}
    for name, parameter in compacted.named_parameters():
        assert flags.get(name, True) == parameter.requires_grad
    for name, tensor in compacted.state_dict().items():
        assert tensor.numel() > 0 or name in empty, name
        assert tensor.data_ptr() not in storages, f"{name} shares memory with the dense model"
    for name, module in modules.items():
        assert attributes(module) == shapes(module), name


CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def attributes(module: nn.Module) -> tuple[int, ...]:
    """The sizes that a module says it has."""
    if isinstance(module, nn.Linear):
        return (module.out_features, module.in_features)
    if isinstance(module, CONVOLUTIONS + TRANSPOSED):
        return (module.out_channels, module.in_channels)
    if isinstance(module, BATCH_NORMS):
        return (module.num_features,) * sum(
            tensor.dim() > 0 for tensor in module.state_dict().values()
        )
    return ()


def shapes(module: nn.Module) -> tuple[int, ...]:
    """The sizes that the weights of a module have."""
    if isinstance(module, BATCH_NORMS):
        return tuple(tensor.shape[0] for tensor in module.state_dict().values() if tensor.dim())
    if not isinstance(module, (nn.Linear, *CONVOLUTIONS, *TRANSPOSED)):
        return ()
    rows, columns = module.weight.shape[:2]
    if isinstance(module, TRANSPOSED):
        return (columns * module.groups, rows)
    groups = module.groups if isinstance(module, CONVOLUTIONS) else 1
    return (rows, columns * groups)


def removed(plan: Plan, name: str, axis: int = 0) -> set[int]:
    """Indices that the plan removes from one axis of one parameter."""
    return {
        index
        for edit in plan.edits
        if (edit.name, edit.axis) == (name, axis)
        for index in edit.removed
    }


Module = TypeVar("Module", bound=nn.Module)


def trained(model: Module, inputs: Tensor, seed: int = 0) -> Module:
    """`model` in float64 and eval mode, with trained-like weights and statistics."""
    _ = model.to(torch.float64)
    trained_like_(model, inputs, seed)
    return model


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Float64 numbers from N(0, 1)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)
