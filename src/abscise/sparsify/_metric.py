"""The metric of adaptive optimizers: by what they divide the step of each weight."""

import math
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

Scale = Callable[[Callable[[Tensor], Tensor]], Tensor]
"""Given how to take a part of a tensor of the parameter's shape: the divisor of that part."""


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
        correction = _bias(state["step"], float(group["betas"][1]))
        return lambda part: (part(second) / correction).sqrt_().add_(eps)
    second, mean = state["square_avg" if "square_avg" in state else "sum"], state.get("grad_avg")
    if mean is None:
        return lambda part: part(second).sqrt().add_(eps)
    return lambda part: part(second).addcmul(part(mean), part(mean), value=-1).sqrt_().add_(eps)


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
