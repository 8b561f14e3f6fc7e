"""Pooling, interpolation and reductions: channels go through, the reduced dimensions do not."""

from typing import Any

import torch
from torch import Tensor

from abscise.graph._compact import align, any_along, unsqueezed, varying
from abscise.graph._constants import CONSTANT, FIXED, UNKNOWN, ConstantPass
from abscise.graph._functional import operation
from abscise.graph._labels import LabelPass
from abscise.graph._liveness import LivenessPass
from abscise.graph._program import Program, Ref, Step

_POOLS = {
    f"aten.{name}{rank}d.{overload}": rank
    for rank in (1, 2, 3)
    for name, overload in (
        ("max_pool", "default"),
        ("avg_pool", "default"),
        ("adaptive_avg_pool", "default"),
        ("adaptive_max_pool", "default"),
    )
}
_WITH_INDICES = {f"aten.max_pool{rank}d_with_indices.default": rank for rank in (2, 3)}
_INTERPOLATIONS = {
    "aten.upsample_nearest1d.vec": 1,
    "aten.upsample_nearest2d.vec": 2,
    "aten.upsample_nearest3d.vec": 3,
    "aten.upsample_linear1d.vec": 1,
    "aten.upsample_bilinear2d.vec": 2,
    "aten.upsample_bicubic2d.vec": 2,
    "aten.upsample_trilinear3d.vec": 3,
    "aten.upsample_nearest2d.default": 2,
    "aten.upsample_bilinear2d.default": 2,
}
_RANKS = {**_POOLS, **_WITH_INDICES, **_INTERPOLATIONS}
_REDUCTIONS = frozenset(
    f"aten.{name}"
    for name in (
        "mean.dim", "mean.default", "sum.dim_IntList", "sum.default", "amax.default",
        "amin.default",
        "max.dim", "min.dim", "var.correction", "std.correction", "var.dim", "std.dim",
        "argmax.default", "argmin.default", "logsumexp.default", "prod.dim_int", "max.default",
        "min.default", "linalg_vector_norm.default", "norm.ScalarOpt_dim",
    )
)  # fmt: skip
_ALONG = frozenset(
    f"aten.{name}"
    for name in (
        "softmax.int", "_softmax.default", "log_softmax.int", "_log_softmax.default",
        "cumsum.default",
    )
)  # fmt: skip


def is_pool(step: Step) -> bool:
    """Pooling or interpolation over trailing dimensions."""
    return step.op in _RANKS


def is_reduction(step: Step) -> bool:
    """A reduction over dimensions, or an operation along one."""
    return step.op in _REDUCTIONS | _ALONG


class Pool:
    """Windows over the trailing spatial dimensions; each channel by itself."""

    def labels(self, ctx: LabelPass, step: Step) -> None:
        x = step.inputs[0]
        rank = len(ctx.program.values[x].shape)
        spatial = set(range(rank - _RANKS[step.op], rank))
        passed = []
        for layer in ctx.layers(x):
            if spatial & set(varying(layer)):
                ctx.pin(layer, f"pooled over by {step.where}")
            else:
                passed.append(layer)
        for output in step.outputs:
            ctx.give(output, passed)

    def constants(self, ctx: ConstantPass, step: Step) -> None:
        x = step.inputs[0]
        known = ctx.known(x)
        if known is None or (step.op in _WITH_INDICES and len(step.outputs) > 2):
            return
        rank = len(ctx.program.values[x].shape)
        spatial = list(range(rank - _RANKS[step.op], rank))
        kind = known.kind.amin(spatial, keepdim=True)
        spread = known.value.amax(spatial, keepdim=True) != known.value.amin(spatial, keepdim=True)
        same = known.value.amax(spatial, keepdim=True)
        preserved = (kind == CONSTANT) & ~spread & (_preserves_constants(step) | (same == 0))
        state = torch.where(preserved, CONSTANT, torch.where(kind > UNKNOWN, FIXED, UNKNOWN))
        if "adaptive" in step.op or step.op in _INTERPOLATIONS:
            # Its output size does not follow the input's: what is fixed here differs elsewhere.
            state = torch.where(state == FIXED, UNKNOWN, state)
        state = state.to(torch.int8)
        if not bool((state == FIXED).any()):
            ctx.give(step.outputs[0], state, torch.where(preserved, same, 0.0))
            return
        full = _run(ctx.program, step, torch.where(known.kind > UNKNOWN, known.value, 0.0))
        content = torch.where(preserved, same, torch.where(state == FIXED, full, 0.0))
        ctx.give(step.outputs[0], state, content)

    def liveness(self, ctx: LivenessPass, step: Step, needed: list[Tensor | None]) -> None:
        x = step.inputs[0]
        rank = len(ctx.program.values[x].shape)
        spatial = range(rank - _RANKS[step.op], rank)
        for mask in needed:
            if mask is not None:
                ctx.need(x, any_along(mask, spatial))


class Reduction:
    """Over dimensions. Units along a reduced dimension are pinned, but for sums and 2-norms (R6).

    From a sum or a 2-norm an element that is known to be exactly 0 may go.
    """

    def labels(self, ctx: LabelPass, step: Step) -> None:
        x = step.inputs[0]
        reduced = _dims(ctx.program, step)
        layers = []
        for layer in ctx.layers(x):
            if set(reduced) & set(varying(layer)):
                if not _lets_zeros_go(step) or not set(varying(layer)) <= set(reduced):
                    ctx.pin(layer, f"reduced over by {step.where}")
            else:
                layers.append(_drop(ctx.program, step, layer))
        for output in step.outputs:
            ctx.give(output, layers)

    def constants(self, ctx: ConstantPass, step: Step) -> None:
        known = ctx.known(step.inputs[0])
        if known is None or not step.op.startswith(
            ("aten.mean", "aten.sum", "aten.amax", "aten.amin")
        ):
            return
        reduced = list(_dims(ctx.program, step))
        if not reduced:
            return
        kind = known.kind.amin(reduced, keepdim=True)
        low, high = known.value.amin(reduced, keepdim=True), known.value.amax(reduced, keepdim=True)
        constant = (kind == CONSTANT) & (low == high)
        if step.op.startswith("aten.sum"):
            constant = constant & (low == 0)  # c times a size that another input shape changes
        state = torch.where(constant, CONSTANT, UNKNOWN).to(torch.int8)
        content = torch.where(constant, low, 0.0)
        ctx.give(
            step.outputs[0], _drop(ctx.program, step, state), _drop(ctx.program, step, content)
        )

    def liveness(self, ctx: LivenessPass, step: Step, needed: list[Tensor | None]) -> None:
        x = step.inputs[0]
        shape = ctx.program.values[x].shape
        reduced = _dims(ctx.program, step)
        keeps = _keeps_rank(ctx.program, step)
        known = ctx.constants.known(x)
        if x in ctx.program.static:
            # A weight's elements count here whether or not its unit is read elsewhere.
            ctx.hold_nonzero(x, reduced)
        for mask in needed:
            if mask is None:
                continue
            wide = any_along(mask, reduced) if keeps else unsqueezed(mask, reduced)
            wide = align(wide, len(shape))
            if _lets_zeros_go(step) and known is not None:
                zero = (known.kind == CONSTANT) & (known.value == 0)
                wide = wide & ~(zero & ~ctx.staying(x))
            ctx.need(x, wide)


def _lets_zeros_go(step: Step) -> bool:
    if step.op in {"aten.linalg_vector_norm.default", "aten.norm.ScalarOpt_dim"}:
        return float(step.args[1] if len(step.args) > 1 else 2) == 2.0
    return step.op in {"aten.sum.dim_IntList", "aten.sum.default"}


def _preserves_constants(step: Step) -> bool:
    """Does a window over a constant give that constant at every position?"""
    if "avg_pool" in step.op and "adaptive" not in step.op:
        padding = step.argument(3, "padding", 0)
        padded = any(padding) if isinstance(padding, list | tuple) else bool(padding)
        divisor = step.argument(6, "divisor_override") if "1d" not in step.op else None
        return (
            not (padded and step.argument(5, "count_include_pad") is not False) and divisor is None
        )
    return True


def _run(program: Program, step: Step, value: Tensor) -> Tensor:
    shape = list(program.values[step.inputs[0]].shape)
    if len(shape) > _RANKS[step.op] + 1 and value.shape[0] == 1:
        shape[0] = 1
    args = [value.expand(shape) if isinstance(item, Ref) else item for item in step.args]
    result: Any = operation(step.op)(*args, **step.kwargs)
    return result[0] if isinstance(result, tuple) else result


def _dims(program: Program, step: Step) -> tuple[int, ...]:
    """The dimensions that are reduced over, or worked along."""
    rank = len(program.values[step.inputs[0]].shape)
    norm = step.op in {"aten.linalg_vector_norm.default", "aten.norm.ScalarOpt_dim"}
    given = step.argument(2 if norm else 1, "dim", None)
    if step.op in {"aten.sum.default", "aten.mean.default", "aten.max.default", "aten.min.default"}:
        given = None
    if given is None or given == []:
        return tuple(range(rank))
    dims = given if isinstance(given, list | tuple) else [given]
    return tuple(sorted(dim % rank for dim in dims))


def _keeps_rank(program: Program, step: Step) -> bool:
    before = program.values[step.inputs[0]].shape
    return len(program.values[step.outputs[0]].shape) == len(before)


def _drop(program: Program, step: Step, tensor: Tensor) -> Tensor:
    """Remove the reduced dimensions of a compact tensor where the operation does."""
    if _keeps_rank(program, step):
        return tensor
    gone = set(_dims(program, step))
    return tensor.reshape([size for dim, size in enumerate(tensor.shape) if dim not in gone])
