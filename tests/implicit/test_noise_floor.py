"""A weight whose gradients stay noisy settles as far from zero as predicted."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from abscise.implicit import noise_floor, read_rule

SIGMA = 0.1
MAKERS: dict[str, Callable[[list[Tensor]], Optimizer]] = {
    "Adam": lambda it: Adam(it, 1e-3, weight_decay=0.5),
    "AdamW": lambda it: AdamW(it, 1e-3, weight_decay=5.0),
    "RMSprop, momentum": lambda it: RMSprop(it, 1e-3, 0.999, weight_decay=0.1, momentum=0.5),
    "SGD": lambda it: SGD(it, 0.01, weight_decay=0.5),
    "SGD, momentum": lambda it: SGD(it, 0.002, momentum=0.9, weight_decay=0.5),
}


@pytest.mark.parametrize("name", MAKERS)
def test_the_noise_floor_is_where_weights_settle(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.zeros(4000, dtype=torch.float64, requires_grad=True)
    optimizer = MAKERS[name]([weights])
    rule = read_rule(optimizer, optimizer.param_groups[0])
    assert rule is not None
    for _ in range(1500):
        weights.grad = SIGMA * torch.randn(4000, generator=generator, dtype=torch.float64)
        _ = optimizer.step()
    assert noise_floor(rule, SIGMA) == pytest.approx(float(weights.detach().std()), rel=0.08)
