"""Weights without data gradient under torch's own optimizers: what the laws of death must meet."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

Make = Callable[[list[Tensor]], Optimizer]
Schedule = Callable[[Optimizer], LRScheduler]


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


def steps_below_in_a_run(
    make: Make,
    schedule: Schedule,
    run: int,
    sizes: tuple[float, float],
    past: tuple[float, int],
    since: int = 0,
) -> float:
    """The same in a run of so many steps, whose learning rates a scheduler sets; infinite: never.

    `sizes` are start and threshold, `past` size and number of the gradients before; `since` steps
    of the run come before the weight loses its gradient, and move nothing but the learning rate.
    """
    weight = torch.tensor([sizes[0]], dtype=torch.float64, requires_grad=True)
    optimizer = make([weight])
    _remember(optimizer, weight, *past)
    weight.grad = None
    scheduler = schedule(optimizer)
    last = since
    for step in range(1, run + 1):
        if step > since:
            weight.grad = torch.zeros_like(weight)
        _ = optimizer.step()
        scheduler.step()
        if abs(weight.item()) >= sizes[1]:
            last = step
    return last + 1 - since if last < run else math.inf


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
