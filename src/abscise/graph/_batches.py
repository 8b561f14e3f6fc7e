"""For which batch sizes an analysis holds, and which captures a comparison with it needs.

`torch.export` leaves the batch size free, but for a batch of one: there it never looks. Where a
forward reads no size in Python it does the same for every batch. Where it does, the conditions that
the capture rests on are noted, and one row is captured by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from abscise._copying import copy_model
from abscise._inputs import Inputs, map_tensors
from abscise.graph._capture import eval_mode
from abscise.graph._guards import restricting
from abscise.graph._program import Program

# What a forward may ask of a tensor without learning how many rows it has.
_HARMLESS = frozenset(
    {"dim", "ndim", "dtype", "device", "layout", "requires_grad", "grad_fn", "is_leaf", "names"}
    | {"is_floating_point", "is_complex", "is_nested", "is_sparse", "is_quantized", "is_mkldnn"}
    | {"is_cuda", "is_cpu", "is_meta", "is_mps", "is_xpu", "is_signed", "get_device"}
    | {"is_inference", "is_conj", "is_neg", "element_size", "itemsize", "retains_grad", "_is_view"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Batches:
    """What is known about the batch size.

    Args:
        conditions: In words, what a batch must fulfil for the analysis to hold; empty: any batch.
        looks: May forward do something else for another batch size?
        free: Does the capture leave a batch size free?
    """

    conditions: tuple[str, ...]
    looks: bool
    free: bool


ANY_BATCH = Batches((), looks=False, free=False)


def batches_of(model: nn.Module, inputs: Inputs, program: Program) -> Batches:
    """The conditions under which a captured program is the model's forward."""
    places = [place for place, tensor in enumerate(inputs.tensors()) if tensor.ndim]
    fixed = [place for place in places if not _is_free(program, place)]
    rows = {place: program.values[program.inputs[place]].shape[0] for place in fixed}
    conditions = [f"input {place} has {rows[place]} rows" for place in fixed]
    free = len(fixed) < len(places)
    if not free:
        return Batches(tuple(conditions), looks=False, free=False)
    formulas = any(step.free for step in program.steps)
    looks = bool(program.guards) or formulas or reads_sizes(model, inputs)
    return Batches((*conditions, *restricting(program.guards)), looks, free=True)


def one_row(inputs: Inputs, program: Program) -> Inputs:
    """The inputs with one row where the program leaves the number of rows free."""
    places = iter(range(len(inputs.tensors())))

    def cut(tensor: Tensor) -> Tensor:
        place = next(places)
        return tensor[:1] if tensor.ndim and _is_free(program, place) else tensor

    args, kwargs = map_tensors((tuple(inputs.args), dict(inputs.kwargs)), cut)
    return Inputs(args, kwargs)


def same_program(left: Program, right: Program) -> bool:
    """The same operations on the same values, with arguments that differ in sizes at most."""
    if len(left.steps) != len(right.steps) or len(left.values) != len(right.values):
        return False
    return all(
        a.op == b.op
        and a.inputs == b.inputs
        and a.outputs == b.outputs
        and _same_numbers(a.args, b.args)
        and _same_numbers(dict(a.kwargs), dict(b.kwargs))
        for a, b in zip(left.steps, right.steps, strict=True)
    )


def reads_sizes(model: nn.Module, inputs: Inputs) -> bool:
    """Does forward ask an activation for anything that may depend on the number of its rows?"""
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        return True
    traced = copy_model(model, share=False)  # a forward may change its buffers
    watch = _Watch(traced)
    with eval_mode(traced), torch.no_grad(), watch:
        _ = traced(*inputs.args, **inputs.kwargs)
    return watch.asked


class _Watch(TorchFunctionMode):
    """Notes whether something that is no tensor was asked of a tensor that is no weight."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.asked = False
        self._weights = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}

    @override
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        about = args[0] if args else None
        if isinstance(about, Tensor) and id(about) not in self._weights and _tells(func, result):
            self.asked = True
        return result


def _tells(function: Any, result: Any) -> bool:
    name = getattr(function, "__name__", "")
    if name == "__get__":  # a property: the name is that of the slot that owns it
        name = getattr(getattr(function, "__self__", None), "__name__", "")
    silent = result is None or isinstance(result, Tensor) or name in _HARMLESS
    return not silent and not _holds_tensors(result)


def _holds_tensors(tree: Any) -> bool:
    if isinstance(tree, Mapping):
        tree = tuple(tree.values())
    return isinstance(tree, tuple | list) and any(
        isinstance(item, Tensor) or _holds_tensors(item) for item in tree
    )


def _is_free(program: Program, place: int) -> bool:
    return (place, 0) in program.dynamic


def _same_numbers(left: Any, right: Any) -> bool:
    """Equal, but for the sizes of a shape."""
    if isinstance(left, tuple | list) and isinstance(right, tuple | list):
        pairs = zip(left, right, strict=False)
        return len(left) == len(right) and all(_same_numbers(a, b) for a, b in pairs)
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same_numbers(left[k], right[k]) for k in left)
    return type(left) is type(right) and bool(left == right)
