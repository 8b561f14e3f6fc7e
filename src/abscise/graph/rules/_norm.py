"""BatchNorm and InstanceNorm: each channel by itself; BatchNorm in eval mode is an affine map."""

import torch
from torch import Tensor

from abscise.graph._compact import any_to, unvector, varying
from abscise.graph._constants import CONSTANT, UNKNOWN, ConstantPass
from abscise.graph._labels import LabelPass
from abscise.graph._liveness import LivenessPass
from abscise.graph._program import Ref, Step

# Argument 5 of the first two says that the statistics are those of the input at hand.
_WITH_FLAG = frozenset({"aten.batch_norm.default", "aten.instance_norm.default"})
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
            else:
                layers.append(layer)
        for parameter in parameters:
            for own in ctx.layers(parameter) if parameter is not None else ():
                shaped = unvector(own, 1, len(ctx.program.values[x].shape))
                if channels is None:
                    ctx.pin(own, f"normalises channels that are no units in {step.where}")
                else:
                    ctx.join(
                        channels, shaped, f"normalised beside elements of no unit by {step.where}"
                    )
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
        if mask is None:
            return
        shape = ctx.program.values[x].shape
        gamma = _vector(ctx.constants, weight, 1.0, shape[1])
        if gamma is not None:
            mask = mask & unvector(gamma != 0, 1, len(shape))
        ctx.need(x, any_to(mask, shape))


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


def _eps(step: Step) -> float:
    position = 7 if step.op in _WITH_FLAG else 6
    return float(step.argument(position, "eps", 1e-5))


def _vector(ctx: ConstantPass, value: int | None, default: float, size: int) -> Tensor | None:
    if value is None:
        return torch.full((size,), default, dtype=torch.float64)
    tensor = ctx.tensor(value)
    return None if tensor is None else tensor.detach().cpu().to(torch.float64)
