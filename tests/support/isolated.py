"""Weights without data gradient under torch's own optimizers: what the laws of death must meet."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

Make = Callable[[list[Tensor]], Optimizer]


def steps_below(make: Make, start: float, threshold: float, rms: float, past: int) -> int:
    """Steps until the weight stays below `threshold`, counted to the last crossing.

    Before, the optimizer sees `past` gradients of size `rms` and alternating sign at learning rate
    0 and without decay, so that it remembers them and the weight does not move.
    """
    weight = torch.tensor([start], dtype=torch.float64, requires_grad=True)
    optimizer = make([weight])
    _remember(optimizer, weight, rms, past)
    weight.grad = torch.zeros_like(weight)
    step = last = 0
    while step < 200 + 1.1 * last:
        _ = optimizer.step()
        step += 1
        if abs(weight.item()) >= threshold:
            last = step
    return last + 1


def _remember(optimizer: Optimizer, weight: Tensor, rms: float, past: int) -> None:
    (group,) = optimizer.param_groups
    kept: dict[str, Any] = {key: group[key] for key in ("lr", "weight_decay")}
    group.update(lr=0.0, weight_decay=0.0)
    for index in range(past):
        weight.grad = torch.tensor([rms * (-1) ** index], dtype=torch.float64)
        _ = optimizer.step()
    group.update(kept)
    for state in optimizer.state.values():
        for name in ("exp_avg", "momentum_buffer"):
            if isinstance(state.get(name), Tensor):
                _ = state[name].zero_()
