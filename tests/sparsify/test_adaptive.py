"""The map behind a step of Adam is the minimiser in Adam's metric, by brute force."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, NAdam, Optimizer

from abscise import attach
from abscise.penalties import L1, GroupLasso, GroupTransformedL1, Penalty
from abscise.sparsify import Proximal, Rows
from support.penalty_cases import CASES, Case
from support.penalty_oracle import least, objective

EXACT = [case for case in CASES if case.penalty.takes_metric and case.penalty.exact]


def linear(width: int, seed: int = 0) -> nn.Linear:
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(width, 3, bias=False, dtype=torch.float64)
    with torch.no_grad():
        _ = layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))
    return layer


def two_steps(layer: nn.Linear, optimizer: Optimizer) -> None:
    """Two steps on random gradients."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(2):
        layer.weight.grad = torch.randn(layer.weight.shape, generator=generator).double()
        optimizer.step()


@pytest.mark.parametrize("case", EXACT, ids=lambda case: str(case.penalty))
@pytest.mark.parametrize("strength", [0.3, 5.0])
def test_behind_a_step_of_adam_the_map_minimises_in_its_metric(case: Case, strength: float) -> None:
    width = case.sizes[-1]
    plain, shrunk = linear(width), linear(width)
    optimizer, other = Adam(plain.parameters(), 0.05), Adam(shrunk.parameters(), 0.05)
    second = Proximal(case.penalty, lambda step: strength * (step == 2), groups=Rows())
    two_steps(plain, optimizer)
    with attach(second, other, shrunk):
        two_steps(shrunk, other)
    divisor = (optimizer.state[plain.weight]["exp_avg_sq"] / (1 - 0.999**2)).sqrt() + 1e-8
    steps = (0.05 * strength / divisor).numpy()
    assert strength < 1 or not torch.equal(plain.weight, shrunk.weight)
    for x, y, row in zip(plain.weight.detach(), shrunk.weight.detach(), steps, strict=True):
        reached = float(objective(case.cost, y.numpy(), x.numpy(), row))
        best = least(case.cost, x.numpy(), row)
        assert reached <= best + 1e-6 * (1 + np.abs(best))


def chosen(penalty: Penalty, optimizer: Callable[..., Optimizer], metric: str) -> bool:
    layer = linear(2)
    sparsifier = Proximal(penalty, 0.1, groups=Rows(), metric=metric)
    with attach(sparsifier, optimizer(layer.parameters(), 0.1), layer) as attachment:
        return attachment.worker.layers[0].adaptive


def test_the_metric_is_chosen_where_optimizer_and_penalty_have_it() -> None:
    assert chosen(GroupLasso(), Adam, "auto")
    assert chosen(GroupLasso(), Adam, "adaptive")
    assert not chosen(GroupLasso(), Adam, "plain")
    assert not chosen(GroupLasso(), SGD, "auto")
    assert not chosen(GroupLasso(), NAdam, "auto")
    assert not chosen(GroupTransformedL1(), Adam, "auto")


@pytest.mark.parametrize(("make", "metric"), [(Adam, "adaptive"), (SGD, "plain")])
def test_the_chosen_metric_is_seen(make: Callable[..., Optimizer], metric: str) -> None:
    layer = linear(2)
    with attach(Proximal(GroupLasso(), 0.1, groups=Rows()), make([layer.weight]), layer) as found:
        assert found.worker.metrics == {"weight": metric}
        assert f"metric {metric}; 3 groups" in repr(found.worker)


@pytest.mark.parametrize(
    ("penalty", "optimizer", "text"),
    [
        (GroupTransformedL1(), Adam, "GroupTransformedL1 has no exact map in the metric"),
        (L1(), SGD, "SGD has no metric: take"),
        (L1(), NAdam, "NAdam has no metric that is known here"),
    ],
)
def test_a_metric_that_is_not_there_is_refused(
    penalty: Penalty, optimizer: Callable[..., Optimizer], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        _ = chosen(penalty, optimizer, "adaptive")


def test_the_least_divisor_keeps_weights_that_have_hardly_seen_a_gradient() -> None:
    found = []
    for least_scale in (0.0, 0.1):
        layer = linear(2)
        optimizer = Adam(layer.parameters(), 0.05)
        sparsifier = Proximal(L1(), 0.1, least_scale=least_scale)
        layer.weight.grad = torch.tensor([[0.0, 1e-6], [1.0, 1.0], [0.0, 1.0]]).double()
        with attach(sparsifier, optimizer, layer):
            optimizer.step()
        found.append(layer.weight.detach() == 0)
    assert found[0].tolist() == [[True, True], [False, False], [True, False]]
    assert not bool(found[1].any())
