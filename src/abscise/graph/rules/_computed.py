"""Weights that forward computes from parameters (rule R9): their values, and weight norm."""

import torch
from torch import Tensor

from abscise.graph._constants import CONSTANT, UNKNOWN, ConstantPass
from abscise.graph._functional import operation
from abscise.graph._labels import LabelPass, join_elementwise
from abscise.graph._liveness import LivenessPass
from abscise.graph._movement import IDENTITIES, PERMUTES, RESHAPES
from abscise.graph._program import Program, Ref, Step, resolve, steps_behind
from abscise.graph.rules._base import Rule
from abscise.graph.rules._elementwise import Elementwise, is_elementwise
from abscise.graph.rules._norm import BATCH_NORMS, BatchNorm
from abscise.graph.rules._spatial import Reduction, is_reduction

WEIGHT_NORM = "aten._weight_norm.default"
_WHOLE = BATCH_NORMS | {WEIGHT_NORM}
_REARRANGED = IDENTITIES | PERMUTES | RESHAPES


class WeightNorm:
    """`v * (g / norm(v))`, the norm over all axes but one (`torch.nn.utils.weight_norm`).

    Rows go with their elements of `g`. A column may go where it holds zeros only: anything else
    counts in the norms.
    """

    def labels(self, ctx: LabelPass, step: Step) -> None:
        v, g, axis = weight_norm_operands(step)
        shape = ctx.program.values[v].shape
        if axis is None:
            for value in (v, g):
                ctx.pin_value(value, f"reduced over by {step.where}")
            return
        operands = [(ctx.layers(v), shape), (ctx.layers(g), ctx.program.values[g].shape)]
        ctx.give(step.outputs[0], join_elementwise(ctx, step, operands, len(shape)))

    def constants(self, ctx: ConstantPass, step: Step) -> None:
        """Nothing beyond `fold_static`."""
        del ctx, step

    def liveness(self, ctx: LivenessPass, step: Step, needed: list[Tensor | None]) -> None:
        del needed
        v, g, axis = weight_norm_operands(step)
        if axis is not None:
            rank = len(ctx.program.values[v].shape)
            ctx.hold_nonzero(v, [dim for dim in range(rank) if dim != axis])
        ctx.need_all(v)
        ctx.need_all(g)


def fold_static(ctx: ConstantPass, step: Step, rule: Rule) -> bool:
    """The value of a step on parameters and buffers alone, by the operation itself.

    Returns:
        Whether the rule of the step has nothing to add.
    """
    kinds = Reduction | BatchNorm | WeightNorm | Elementwise
    foldable = isinstance(rule, kinds) and len(step.outputs) == 1
    tensors = _static_operands(ctx, step) if foldable else None
    if tensors is None:
        return False
    args, kwargs = resolve((step.args, dict(step.kwargs)), tensors)
    result = operation(step.op)(*args, **kwargs)
    if not result.is_floating_point():
        return False
    result = result.detach().cpu().to(torch.float64)
    finite = torch.isfinite(result)
    kind = torch.where(finite, CONSTANT, UNKNOWN).to(torch.int8)
    ctx.give(step.outputs[0], kind, torch.where(finite, result, 0.0))
    return True


def _static_operands(ctx: ConstantPass, step: Step) -> dict[int, Tensor] | None:
    """Value id -> float64 tensor of all inputs of the step; None where one is not known."""
    program = ctx.program
    if not step.inputs or not set(step.inputs) <= program.static:
        return None
    tensors: dict[int, Tensor] = {}
    for value in step.inputs:
        tensor = ctx.tensor(value) if _sized_by_weights(program, value) else None
        if tensor is None or tensor.is_meta or not tensor.is_floating_point():
            return None
        # In its own format, where a difference of equal numbers has the rounding that forward has.
        tensors[value] = tensor.detach().to(program.values[value].dtype)
    device = next((t.device for t in tensors.values() if t.device.type != "cpu"), None)
    return tensors if device is None else {v: t.to(device) for v, t in tensors.items()}


def _sized_by_weights(program: Program, value: int) -> bool:
    """Was no size of the inputs put into this value? A part, a copy or a padding might be such."""
    return all(_keeps_sizes(program, step) for step in steps_behind(program, value))


def _keeps_sizes(program: Program, step: Step) -> bool:
    own = is_elementwise(step) or is_reduction(step) or step.op in _WHOLE | _REARRANGED
    plain = step.op not in RESHAPES or _plain_reshape(program, step)
    return own and plain and not step.free


def _plain_reshape(program: Program, step: Step) -> bool:
    """Does it merge dimensions, or bring back the shape of a parameter? No other size is in it."""
    before, after = program.values[step.inputs[0]].shape, program.values[step.outputs[0]].shape
    if any(entry.name is not None and entry.shape == after for entry in program.values):
        return True
    sizes = iter([size for size in before if size > 1])
    for size in after:
        merged = 1
        while merged < size:
            merged *= next(sizes, size + 1)
        if merged != size:
            return False
    return True


def weight_norm_operands(step: Step) -> tuple[int, int, int | None]:
    """Value ids of `v` and `g`, and the axis that keeps its own norms (None: one norm of all)."""
    v, g = (item.value for item in step.args[:2] if isinstance(item, Ref))
    axis = int(step.argument(2, "dim", 0))
    return v, g, None if axis == -1 else axis
