"""Which parameters of a model a sparsifier acts on, by their names and by what trains them."""

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

WRAPPERS = ("module.", "_orig_mod.", "_forward_module.")
"""What DDP, `torch.compile` and lightning-fabric put before the names of a model."""


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """The parameters of a model under the names that it has without wrappers.

    Args:
        all: Name -> parameter; a tied one under each of its names.
        owners: Name -> the module that holds it.
        buffers: Names of its buffers.
        trained: Ids of those that the optimizer holds and that are not frozen.
    """

    all: Mapping[str, Tensor]
    owners: Mapping[str, nn.Module]
    buffers: frozenset[str]
    trained: frozenset[int]

    def trains(self, name: str) -> bool:
        """Does the optimizer change it?"""
        return id(self.all[name]) in self.trained

    def once(self) -> dict[str, Tensor]:
        """Each parameter under its first name, in the model's order."""
        found: dict[int, str] = {}
        for name, tensor in self.all.items():
            _ = found.setdefault(id(tensor), name)
        return {name: self.all[name] for name in found.values()}


def weights_of(model: nn.Module, optimizer: Optimizer) -> Weights:
    """The parameters of `model`, and which of them `optimizer` trains."""
    prefix = _prefix([name for name, _ in model.named_parameters()])
    every: dict[str, Tensor] = {}
    owners: dict[str, nn.Module] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for leaf, tensor in module.named_parameters(recurse=False, remove_duplicate=False):
            name = (f"{path}.{leaf}" if path else leaf).removeprefix(prefix)
            every[name], owners[name] = tensor, module
    held = {id(tensor) for group in optimizer.param_groups for tensor in group["params"]}
    trained = {id(tensor) for tensor in every.values() if tensor.requires_grad} & held
    buffers = frozenset(name.removeprefix(prefix) for name, _ in model.named_buffers())
    return Weights(every, owners, buffers, frozenset(trained))


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, without what DDP, `torch.compile` or lightning-fabric put around it."""
    prefix = _prefix([name for name, _ in model.named_parameters()])
    return model.get_submodule(prefix.rstrip("."))


def wrappers_of(model: nn.Module) -> list[nn.Module]:
    """What is around the model itself, the outermost first."""
    prefix = _prefix([name for name, _ in model.named_parameters()])
    parts = prefix.rstrip(".").split(".") if prefix else []
    return [model.get_submodule(".".join(parts[:place])) for place in range(len(parts))]


def _prefix(names: list[str]) -> str:
    found = ""
    while True:
        rest = [name.removeprefix(found) for name in names]
        more = next((w for w in WRAPPERS if rest and all(n.startswith(w) for n in rest)), "")
        if not more:
            return found
        found += more


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer once, under the name that it has without wrappers."""
    prefix = _prefix([name for name, _ in model.named_parameters()])
    every = (*model.named_parameters(), *model.named_buffers())
    return {name.removeprefix(prefix): tensor for name, tensor in every}


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Does a pattern name this parameter, its layer, or match it as in a shell?"""
    return any(fnmatch.fnmatchcase(name, p) or name.startswith(f"{p}.") for p in patterns)


def check_patterns(weights: Weights, patterns: Iterable[str], option: str) -> None:
    """Refuse a pattern that names nothing.

    Raises:
        ValueError: The text holds the pattern.
    """
    for pattern in patterns:
        if not any(matches(name, (pattern,)) for name in weights.all):
            message = f"{option}: {pattern!r} matches no parameter of the model"
            raise ValueError(message)


def check_dtype(name: str, tensor: Tensor) -> None:
    """Refuse weights in which small steps are lost.

    Raises:
        ValueError: They are float16 or bfloat16, or no floating-point numbers.
    """
    if tensor.dtype not in (torch.float32, torch.float64):
        message = (
            f"{name} is {tensor.dtype}: steps below the rounding of its weights would be lost; "
            "keep the weights in float32 and train under autocast, or leave it out by exclude"
        )
        raise ValueError(message)


def is_direction(weights: Weights, name: str) -> bool:
    """Is it the direction of a weight-normed weight? Its size means nothing, and 0 gives NaN."""
    path, _, leaf = name.rpartition(".")
    length = {"original1": "original0", "weight_v": "weight_g"}.get(leaf)
    other = weights.all.get(f"{path}.{length}" if path else str(length))
    own = weights.all[name]
    return length is not None and other is not None and _flat(other) and other.ndim == own.ndim


def _flat(tensor: Tensor) -> bool:
    return sum(size > 1 for size in tensor.shape) <= 1
