"""The metric of adaptive optimizers: by what they divide the step of each weight."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

Part = Callable[[Tensor], Tensor]
"""Takes a part of a tensor of the parameter's shape."""


_LEAST_STEP = 1e-30
"""One over it is finite in float32; over any divisor it is lost in the rounding of a weight."""


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """What the optimizer divides the step of each weight of a parameter by.

    Args:
        second: The mean, or the sum, of the squared gradients, of the parameter's shape.
        mean: Of the gradients, whose square is taken off; None for most.
        correction: By which `second` is divided.
        eps: What is added to the root.
    """

    second: Tensor
    mean: Tensor | None
    correction: Tensor | float
    eps: float

    def steps(self, part: Part, step: float, least: float) -> Tensor:
        """`step` > 0 over the divisor, at least `least`, for a part: a new tensor."""
        if self.mean is None:
            found = torch.sqrt(part(self.second))
        else:
            mean = part(self.mean)
            found = part(self.second).addcmul(mean, mean, value=-1).sqrt_()
        step = max(step, _LEAST_STEP)
        # Over the step at once, which saves a pass: (sqrt(v) / sqrt(correction) + eps) / step.
        _ = found.mul_(self.correction**-0.5 / step).add_(self.eps / step)
        if least:
            _ = found.clamp_(min=least / step)
        return found.reciprocal_()


class Metric(StrEnum):
    """How large a step the map takes at each weight.

    PLAIN: learning rate times strength. ADAPTIVE: that, divided by what the optimizer divides the
    weight's step by. AUTO: adaptive where the optimizer has such a divisor that is known here and
    the penalty has an exact map in it, else plain.
    """

    AUTO = "auto"
    PLAIN = "plain"
    ADAPTIVE = "adaptive"


def has_metric(optimizer: Optimizer) -> bool:
    """Adam, AdamW, RMSprop and Adagrad divide; of others it is not known."""
    return type(optimizer) in (Adam, AdamW, RMSprop, Adagrad)


def known_plain(optimizer: Optimizer) -> bool:
    """Is it SGD, which divides by nothing?"""
    return type(optimizer) is SGD


def scale_of(optimizer: Optimizer, group: Mapping[str, Any], parameter: Tensor) -> Scale | None:
    """The divisor of one parameter; None before the optimizer's first step of it.

    As in the optimizer's own update: sqrt(v) + eps, v corrected for its bias in Adam and AdamW (of
    AMSGrad the largest so far), centred in a centred RMSprop, the sum in Adagrad.
    """
    state = optimizer.state.get(parameter)
    if not state:
        return None
    eps = float(group["eps"])
    if "exp_avg_sq" in state:
        second = state["max_exp_avg_sq" if group.get("amsgrad") else "exp_avg_sq"]
        return Scale(second, None, _bias(state["step"], float(group["betas"][1])), eps)
    second = state["square_avg" if "square_avg" in state else "sum"]
    return Scale(second, state.get("grad_avg"), 1.0, eps)


def rate_of(optimizer: Optimizer, group: Mapping[str, Any], parameter: Tensor) -> float:
    """The learning rate that the optimizer has just used."""
    rate = float(group["lr"])
    decay = float(group.get("lr_decay", 0.0)) if type(optimizer) is Adagrad else 0.0
    state = optimizer.state.get(parameter) if decay else None
    return rate / (1 + (float(state["step"]) - 1) * decay) if state else rate


def _bias(step: Tensor | float, beta: float) -> Tensor | float:
    """1 - beta^step; on the step's device, so that nothing waits for it."""
    if isinstance(step, Tensor) and step.device.type != "cpu":
        return -torch.expm1(step * math.log(beta)) if beta > 0 else torch.ones_like(step)
    return 1 - beta ** float(step)
