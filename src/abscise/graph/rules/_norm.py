"""Normalisations along dimension 1.

BatchNorm and InstanceNorm: each channel by itself; BatchNorm in eval mode is an affine map.
GroupNorm: each group by itself, so a whole group is what can go (rule R6).
"""

import torch
from torch import Tensor

from abscise.graph._compact import any_along, any_but, any_to, unvector, varying
from abscise.graph._constants import CONSTANT, UNKNOWN, ConstantPass
from abscise.graph._labels import LabelPass
from abscise.graph._liveness import LivenessPass
from abscise.graph._program import Ref, Step

# Argument 5 of the first two says that the statistics are those of the input at hand.
_WITH_FLAG = frozenset({"aten.batch_norm.default", "aten.instance_norm.default"})
GROUP_NORM = "aten.group_norm.default"
BATCH_NORMS = _WITH_FLAG | {"aten._native_batch_norm_legit_no_training.default"}


class BatchNorm:
    """`weight * (x - mean) / sqrt(var + eps) + bias` along dimension 1."""

    def labels(self, ctx: LabelPass, step: Step) -> None:
        x, *parameters = _operands(step)
        layers = []
        channels: Tensor | None = None
        for layer in ctx.layers(x):
            last = ctx.compared and not varying(layer) and ctx.program.values[x].shape[1] == 1
            if 1 in varying(layer) or last:
                channels = ctx.flatten_to(layer, 1, f"unevenly normalised by {step.where}")
                layers.append(channels)
            elif _by_batch(step) and set(varying(layer)) - _own_dims(step):
                ctx.pin(layer, f"reduced over by {step.where}")
            else:
                layers.append(layer)
        for parameter in parameters:
            _join_parameter(ctx, step, parameter, channels, len(ctx.program.values[x].shape))
        ctx.give(step.outputs[0], layers)

    def constants(self, ctx: ConstantPass, step: Step) -> None:
        x, weight, bias, mean, var = _operands(step)
        rank = len(ctx.program.values[x].shape)
        channels = ctx.program.values[x].shape[1]
        gamma, beta = _vector(ctx, weight, 1.0, channels), _vector(ctx, bias, 0.0, channels)
        if gamma is None or beta is None:
            return
        gamma, beta = unvector(gamma, 1, rank), unvector(beta, 1, rank)
        zero = gamma == 0
        kind = torch.where(zero, CONSTANT, UNKNOWN).to(torch.int8)
        value = torch.where(zero, beta, torch.zeros_like(beta))
        known = ctx.known(x)
        if known is not None and mean is not None and var is not None and not _by_batch(step):
            m, v = _vector(ctx, mean, 0.0, channels), _vector(ctx, var, 1.0, channels)
            if m is not None and v is not None:
                m, v = unvector(m, 1, rank), unvector(v, 1, rank)
                scaled = (known.value - m) / torch.sqrt(v + _eps(step)) * gamma + beta
                kind = torch.maximum(kind, known.kind)
                value = torch.where(zero, beta, torch.where(known.kind > UNKNOWN, scaled, 0.0))
        if bool((kind > UNKNOWN).any()):
            ctx.give(step.outputs[0], kind, value)

    def liveness(self, ctx: LivenessPass, step: Step, needed: list[Tensor | None]) -> None:
        x, weight, *others = _operands(step)
        for parameter in (weight, *others):
            if parameter is not None:
                ctx.need_all(parameter)
        mask = needed[0]
        certain = _lifted(step) or not _by_batch(step)
        if not certain:
            mask = ctx.staying(x)  # a channel that becomes even would become NaN
        if mask is None:
            return
        shape = ctx.program.values[x].shape
        gamma = _vector(ctx.constants, weight, 1.0, shape[1])
        if gamma is not None and certain:
            mask = mask & unvector(gamma != 0, 1, len(shape))
        if _by_batch(step):
            mask = any_along(mask, set(range(len(shape))) - _own_dims(step))
        ctx.need(x, any_to(mask, shape))


class GroupNorm:
    """`weight * (x - mean) / sqrt(var + eps) + bias`, mean and var over a group of channels."""

    def labels(self, ctx: LabelPass, step: Step) -> None:
        x, groups, parameters = group_norm_operands(step)
        shape = ctx.program.values[x].shape
        layers: list[Tensor] = []
        channels: Tensor | None = None
        for layer in ctx.layers(x):
            dims = varying(layer)
            last = ctx.compared and not dims and shape[1] == 1
            if 1 in dims or last:
                channels = ctx.flatten_to(layer, 1, f"unevenly normalised by {step.where}")
                layers.append(channels)
            elif set(dims) - {0}:
                ctx.pin(layer, f"reduced over by {step.where}")
            else:
                layers.append(layer)
        if channels is not None:
            _live_together(ctx, step, channels, groups)
        for parameter in parameters:
            _join_parameter(ctx, step, parameter, channels, len(shape))
        ctx.give(step.outputs[0], layers)

    def constants(self, ctx: ConstantPass, step: Step) -> None:
        """A scale of 0 gives the shift; so does a group of zeros, whose mean and variance are 0."""
        x, groups, (weight, bias) = group_norm_operands(step)
        shape = ctx.program.values[x].shape
        gamma, beta = _vector(ctx, weight, 1.0, shape[1]), _vector(ctx, bias, 0.0, shape[1])
        if gamma is None or beta is None:
            return
        constant = gamma == 0
        known = ctx.known(x)
        if known is not None and _lifted(step):
            zero = ~any_but(~known.zero, 1).expand(shape[1])
            whole = zero.reshape(groups, -1).all(1)
            constant = constant | whole.repeat_interleave(shape[1] // groups)
        if bool(constant.any()):
            kind = torch.where(constant, CONSTANT, UNKNOWN).to(torch.int8)
            value = torch.where(constant, beta, torch.zeros_like(beta))
            ctx.give(step.outputs[0], unvector(kind, 1, len(shape)), unvector(value, 1, len(shape)))

    def liveness(self, ctx: LivenessPass, step: Step, needed: list[Tensor | None]) -> None:
        x, groups, parameters = group_norm_operands(step)
        for parameter in parameters:
            if parameter is not None:
                ctx.need_all(parameter)
        mask = needed[0]
        if not _lifted(step):
            mask = ctx.staying(x)  # the channels of a group that becomes even would become NaN
        if mask is None:
            return
        shape = ctx.program.values[x].shape
        gamma = _vector(ctx.constants, parameters[0], 1.0, shape[1])
        if gamma is not None and _lifted(step):
            mask = mask & unvector(gamma != 0, 1, len(shape))
        mask = any_along(mask, range(2, len(shape)))
        if mask.shape[1] > 1:
            grouped = mask.reshape(mask.shape[0], groups, -1).any(2)
            mask = grouped.repeat_interleave(shape[1] // groups, 1).reshape(mask.shape)
        ctx.need(x, mask)


def _live_together(ctx: LabelPass, step: Step, channels: Tensor, groups: int) -> None:
    """The channels of a group are one unit; a single group is all there is, and stays."""
    if groups == 1 and not ctx.compared:
        ctx.pin(channels, f"reduced over by {step.where}")
    rows = channels.reshape(groups, -1)
    ctx.join(rows, rows[:, :1], f"unevenly normalised by {step.where}")


def group_norm_operands(step: Step) -> tuple[int, int, tuple[int | None, int | None]]:
    """Value id of the input, number of groups, value ids of weight and bias."""
    found = (step.argument(2, "weight"), step.argument(3, "bias"))
    weight, bias = (item.value if isinstance(item, Ref) else None for item in found)
    return step.args[0].value, int(step.args[1]), (weight, bias)


def _join_parameter(
    ctx: LabelPass, step: Step, parameter: int | None, channels: Tensor | None, rank: int
) -> None:
    """The parameter's elements live with the channels that they scale or shift."""
    for own in ctx.layers(parameter) if parameter is not None else ():
        if channels is None:
            ctx.pin(own, f"normalises channels that are no units in {step.where}")
        else:
            shaped = unvector(own, 1, rank)
            ctx.join(channels, shaped, f"normalised beside elements of no unit by {step.where}")


def batch_norm_operands(step: Step) -> tuple[int, int | None, int | None, int | None, int | None]:
    """Value ids of the input, weight, bias, running mean and running variance."""
    return _operands(step)


def normalises_by_batch(step: Step) -> bool:
    """Does it use the statistics of the batch at hand?"""
    return _by_batch(step)


def _operands(step: Step) -> tuple[int, int | None, int | None, int | None, int | None]:
    names = ("weight", "bias", "running_mean", "running_var")
    found = [step.argument(place + 1, name) for place, name in enumerate(names)]
    weight, bias, mean, var = (item.value if isinstance(item, Ref) else None for item in found)
    return step.args[0].value, weight, bias, mean, var


def _by_batch(step: Step) -> bool:
    return step.op in _WITH_FLAG and bool(step.args[5])


def _own_dims(step: Step) -> set[int]:
    """Dimensions along which every index has statistics of its own."""
    return {0, 1} if step.op == "aten.instance_norm.default" else {1}


def _lifted(step: Step) -> bool:
    """Does an eps above 0 keep the divisor away from 0?"""
    return _eps(step) > 0


def _eps(step: Step) -> float:
    position = 7 if step.op in _WITH_FLAG else 4 if step.op == GROUP_NORM else 6
    return float(step.argument(position, "eps", 1e-5))


def _vector(ctx: ConstantPass, value: int | None, default: float, size: int) -> Tensor | None:
    if value is None:
        return torch.full((size,), default, dtype=torch.float64)
    tensor = ctx.tensor(value)
    return None if tensor is None else tensor.detach().cpu().to(torch.float64)
