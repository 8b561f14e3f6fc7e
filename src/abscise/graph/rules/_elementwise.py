"""Element-wise operations: operands' units are joined.

Constants are computed by the operation itself.
"""

from typing import Any

import torch
from torch import Tensor

from abscise.graph._compact import align, any_to
from abscise.graph._constants import UNKNOWN, ConstantPass, Known
from abscise.graph._functional import operation
from abscise.graph._labels import LabelPass, join_elementwise
from abscise.graph._liveness import LivenessPass
from abscise.graph._program import Ref, Step

# Finite for every finite input (as long as nothing overflows): a kept element that nobody reads may
# hold any finite number without harm.
_TOTAL = """
relu relu6 leaky_relu elu celu selu gelu silu mish softplus sigmoid tanh hardsigmoid hardswish
hardtanh hardshrink softshrink tanhshrink threshold log_sigmoid softsign rrelu prelu neg abs sign
sin cos atan erf floor ceil round trunc frac clamp clamp_min clamp_max square logical_not
bitwise_not positive nan_to_num
"""
_BINARY = """
add sub rsub mul multiply maximum minimum where eq ne lt le gt ge logical_and logical_or lerp
addcmul
"""
# A number can become infinite or NaN here: what stays must keep its value (liveness reads it).
_PARTIAL = """
exp expm1 log log2 log10 log1p sqrt rsqrt reciprocal pow div true_divide divide tan asin acos sinh
cosh atanh float_power addcdiv fmod remainder atan2 xlogy exp2 erfinv logit
"""
TOTAL = frozenset(f"aten.{name}" for name in (_TOTAL + " " + _BINARY).split())
PARTIAL = frozenset(f"aten.{name}" for name in _PARTIAL.split())
_PRODUCTS = frozenset({"aten.mul", "aten.multiply"})


def is_elementwise(step: Step) -> bool:
    """Is the operation on one of the lists above (any overload)?"""
    random = step.op == "aten.rrelu.default" and step.argument(3, "training") is True
    return _base(step) in TOTAL | PARTIAL and not random


def is_product(step: Step) -> bool:
    """Is a factor 0 enough for the result to be 0?"""
    return _base(step) in _PRODUCTS


class Elementwise:
    """Any number of tensor operands, with broadcasting."""

    def labels(self, ctx: LabelPass, step: Step) -> None:
        rank = len(ctx.program.values[step.outputs[0]].shape)
        operands = []
        for place, value in enumerate(step.inputs):
            layers, shape = ctx.layers(value), ctx.program.values[value].shape
            if _is_slope(step, place, shape):  # prelu: its weight runs along dimension 1
                view = [-1 if dim == 1 else 1 for dim in range(rank)]
                layers = tuple(layer.reshape(view) for layer in layers)
                shape = tuple(shape[0] if dim == 1 else 1 for dim in range(rank))
            operands.append((layers, shape))
        ctx.give(step.outputs[0], join_elementwise(ctx, step, operands, rank))

    def constants(self, ctx: ConstantPass, step: Step) -> None:
        entry = ctx.program.values[step.outputs[0]]
        found = [ctx.known(value) for value in step.inputs]
        product = is_product(step)
        enough = any(found) if product else bool(found) and all(found)
        if not enough or not entry.dtype.is_floating_point:
            return
        rank = len(entry.shape)
        kinds = [_aligned(ctx, step, i, k.kind if k else None, rank) for i, k in enumerate(found)]
        values = [_aligned(ctx, step, i, k.value if k else None, rank) for i, k in enumerate(found)]
        kind = kinds[0]
        for other in kinds[1:]:
            kind = torch.minimum(kind, other)
        result = evaluate(step, values)
        if product:
            for own_kind, own_value in zip(kinds, values, strict=True):
                zero = (own_kind > UNKNOWN) & (own_value == 0)
                kind = torch.where(zero, torch.maximum(kind, own_kind), kind)
                result = torch.where(zero, 0.0, result)
        ctx.give(step.outputs[0], kind, torch.where(kind > UNKNOWN, result, 0.0))

    def liveness(self, ctx: LivenessPass, step: Step, needed: list[Tensor | None]) -> None:
        mask = needed[0]
        if _base(step) in PARTIAL:
            staying = ctx.staying(step.outputs[0])
            mask = staying if mask is None else mask | staying
        if mask is None:
            return
        rank = mask.ndim
        masks = [mask] * len(step.inputs)
        if is_product(step) and len(step.inputs) == 2:
            masks = _without_zero_factors(ctx, step, mask, rank)
        for place, value in enumerate(step.inputs):
            shape = ctx.program.values[value].shape
            if _is_slope(step, place, shape):
                ctx.need_all(value)
            else:
                ctx.need(value, any_to(masks[place], shape))


def _is_slope(step: Step, place: int, shape: tuple[int, ...]) -> bool:
    return step.op.startswith("aten.prelu") and place == 1 and len(shape) == 1


def _base(step: Step) -> str:
    return step.op.rsplit(".", 1)[0]


def _aligned(ctx: ConstantPass, step: Step, place: int, tensor: Tensor | None, rank: int) -> Tensor:
    if tensor is None:
        return torch.zeros([1] * rank, dtype=torch.int8)
    shape = ctx.program.values[step.inputs[place]].shape
    if _is_slope(step, place, shape) and rank > 1:
        return tensor.reshape([-1 if dim == 1 else 1 for dim in range(rank)])
    return align(tensor, rank)


def evaluate(step: Step, values: list[Tensor]) -> Tensor:
    """The operation itself, on compact float64 operands."""
    if step.op.startswith("aten.prelu"):
        return torch.where(values[0] >= 0, values[0], values[0] * values[1])
    remaining = iter(values)

    def fill(tree: Any) -> Any:
        if isinstance(tree, Ref):
            return next(remaining).to(torch.float64)
        if isinstance(tree, tuple | list):
            return type(tree)(fill(item) for item in tree)
        return tree

    args = fill(step.args)
    kwargs = {name: fill(item) for name, item in step.kwargs.items()}
    if step.op.startswith("aten.where") and args[0].dtype != torch.bool:
        args = (args[0] != 0, *args[1:])
    result: Tensor = operation(step.op)(*args, **kwargs)
    return result.to(torch.float64)


def _without_zero_factors(ctx: LivenessPass, step: Step, mask: Tensor, rank: int) -> list[Tensor]:
    """A known 0 factor makes the other factor unread; where both are 0 the first one stays read."""
    zeros = []
    for value in step.inputs:
        known: Known | None = ctx.constants.known(value)
        nowhere = torch.zeros([1] * rank, dtype=torch.bool)
        zeros.append(nowhere if known is None else align(known.zero, rank))
    first, second = zeros
    return [mask & ~(second & ~first), mask & ~first]
