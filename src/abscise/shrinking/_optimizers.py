"""What an optimizer will do to weights that get no gradient: which zeros and signs last.

Only for optimizers that treat every element by itself; others change the rest when a part goes.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim import (
    ASGD,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    NAdam,
    Optimizer,
    RAdam,
    RMSprop,
)

KNOWN = (SGD, Adam, AdamW, NAdam, RAdam, Adamax, RMSprop, Adagrad, Adadelta, ASGD)

# States that scale a step, or average the weights, and never move a weight by themselves.
_STILL = frozenset(
    {"exp_avg_sq", "max_exp_avg_sq", "exp_inf", "square_avg", "grad_avg", "sum", "acc_delta", "ax"}
)


def check_known(optimizer: Optimizer) -> None:
    """Refuse an optimizer for which a weight matters to others than itself.

    Raises:
        TypeError: Its type is not on the list.
    """
    if not isinstance(optimizer, KNOWN):
        names = ", ".join(kind.__name__ for kind in KNOWN)
        message = (
            f"ShrinkWhileTraining does not know what {type(optimizer).__name__} does to the rest "
            f"when a part goes: use one of {names}, or compact(..., optimizer=) between two runs"
        )
        raise TypeError(message)


def moving(optimizer: Optimizer, parameter: Tensor) -> Tensor:
    """Where momentum moves the parameter although it gets no gradient."""
    found = torch.zeros_like(parameter, dtype=torch.bool)
    for key, value in optimizer.state.get(parameter, {}).items():
        plain = not isinstance(value, Tensor) or value.shape != parameter.shape
        if plain or key in _STILL or (parameter.ndim == 0 and key == "step"):
            continue
        found |= value.detach() != 0
    return found


def keeps_signs(optimizer: Optimizer, group: dict[str, Any]) -> bool:
    """Do weights without gradient and momentum stay on their side of 0, at the present rates?

    Decay inside the gradient of an adaptive optimizer overshoots: it takes steps of the size of the
    learning rate, however small the weight.
    """
    decay, rate = float(group.get("weight_decay", 0.0)), float(group["lr"])
    if decay == 0 and not isinstance(optimizer, ASGD):
        return True
    if group.get("decoupled_weight_decay", isinstance(optimizer, AdamW)):
        return rate * decay < 1
    if isinstance(optimizer, SGD):
        # Two real roots: a heavy ball that starts at rest creeps to 0 and does not swing through.
        momentum = float(group.get("momentum", 0.0))
        slow = ((1 - momentum) / (1 + momentum)) ** 2 if group.get("nesterov") else None
        limit = (1 - math.sqrt(momentum)) ** 2 if slow is None else slow
        return rate * decay <= limit
    return False


def groups_of(optimizer: Optimizer) -> dict[int, dict[str, Any]]:
    """Id of a parameter -> its group."""
    return {id(it): group for group in optimizer.param_groups for it in group["params"]}
