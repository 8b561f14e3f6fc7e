"""DecoupledDecay and Lobster: what a step takes away, and the strength to vanish in time."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam, SparseAdam

from abscise import attach
from abscise.sparsify import (
    DecoupledDecay,
    Lobster,
    WarmUp,
    strength_to_vanish,
    typical_size,
)
from support.sparsifying import OPTIMIZERS, batch, small_network, state_of, train, train_scaled

LAM = 0.03
Rule = Callable[[Tensor, Tensor], Tensor]
RULES: dict[str, tuple[Any, Rule]] = {
    "decay": (DecoupledDecay, lambda w, _: w - LAM * w),
    "lobster": (Lobster, lambda w, g: w - LAM * w * (1 - g.abs()).clamp(min=0)),
}


def steps(optimizer_name: str, make: Any) -> tuple[nn.Module, dict[str, Tensor], dict[str, Tensor]]:
    """The network after two plain steps and one with the sparsifier; the same without; gradients.

    Inputs are large, so that some gradients exceed 1.
    """
    networks = []
    for sparsifier in (make(LAM), None):
        model = small_network()
        optimizer = OPTIMIZERS[optimizer_name](model.parameters())
        train(model, optimizer, 2)
        if sparsifier is not None:
            _ = attach(sparsifier, optimizer, model)
        inputs, labels = batch(2)
        optimizer.zero_grad()
        (20 * cross_entropy(model(inputs), labels)).backward()
        optimizer.step()
        networks.append(model)
    gradients = {name: p.grad for name, p in networks[1].named_parameters() if p.grad is not None}
    return networks[0], state_of(networks[1]), gradients


@pytest.mark.parametrize("optimizer_name", OPTIMIZERS)
@pytest.mark.parametrize("kind", RULES)
def test_a_step_is_the_plain_step_and_then_the_formula_whatever_the_optimizer(
    kind: str, optimizer_name: str
) -> None:
    make, rule = RULES[kind]
    model, plain, gradients = steps(optimizer_name, make)
    other = RULES["decay" if kind == "lobster" else "lobster"][1]
    felt = differ = 0
    for name, parameter in model.named_parameters():
        expected = rule(plain[name], gradients[name])
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-14, atol=1e-17)
        wrong = other(plain[name], gradients[name])
        differ += not torch.allclose(parameter, wrong, rtol=1e-6, atol=0)
        felt += int((gradients[name].abs() > 1).sum())
    assert differ == 10, "the twin; a bias before a norm has no gradient"
    assert felt > 5, "some weights are spared wholly"
    assert len(gradients) == len(list(model.parameters())) == 11  # norms and biases, too


@pytest.mark.parametrize("rate", [0.0, 1e-3, 1.0])
def test_the_learning_rate_is_not_in_the_decay(rate: float) -> None:
    found = []
    for strength in (0.0, LAM):
        model = small_network()
        optimizer = SGD(model.parameters(), rate)
        _ = attach(DecoupledDecay(strength), optimizer, model)
        train(model, optimizer, 1)
        found.append(state_of(model))
    for name in dict(small_network().named_parameters()):
        torch.testing.assert_close(found[1][name], (1 - LAM) * found[0][name])


def test_a_small_strength_is_not_lost_in_the_rounding_of_one_minus_it() -> None:
    model = nn.Linear(100, 100).float()
    before = model.weight.detach().double()
    optimizer = SGD(model.parameters(), 0.0)
    _ = attach(DecoupledDecay(1e-5), optimizer, model)
    for _ in range(1000):
        model.weight.grad = torch.zeros_like(model.weight)
        optimizer.step()
    shrunk = (model.weight.detach().double().norm() / before.norm()).item()
    assert 1 - shrunk == pytest.approx(1 - (1 - 1e-5) ** 1000, rel=5e-3)
    rounded = torch.tensor(1 - 1e-5, dtype=torch.float32).double().item()
    assert 1 - rounded**1000 != pytest.approx(1 - (1 - 1e-5) ** 1000, rel=5e-4), "the twin"


@pytest.mark.parametrize("fused", [False, True])
def test_under_a_scaler_lobster_sees_unscaled_gradients(fused: bool) -> None:
    found = []
    for scaled in (False, True):
        model = small_network().float()
        optimizer = Adam(model.parameters(), 0.01, fused=fused)
        attachment = attach(Lobster(0.3), optimizer, model)
        train_scaled(model, optimizer, 2, scaled=scaled)
        assert attachment.worker.step == 2
        found.append(model.get_parameter("7.weight").detach())
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)


def test_weights_that_no_gradient_reached_or_that_are_not_trained_are_left() -> None:
    model = small_network()
    _ = model[0].requires_grad_(requires_grad=False)
    before = state_of(model)
    optimizer = SGD(model[:8].parameters(), 0.0)
    attachment = attach(DecoupledDecay(0.5, exclude=("4",)), optimizer, model)
    model.get_parameter("7.weight").sum().backward()
    optimizer.step()
    after = state_of(model)
    assert [name for name in before if not torch.equal(before[name], after[name])] == ["7.weight"]
    assert attachment.worker.names == (
        "1.weight", "1.bias", "3.weight", "3.bias", "7.weight", "7.bias",
    )  # fmt: skip


def test_rows_of_an_embedding_that_a_sparse_gradient_leaves_out_feel_no_loss() -> None:
    model = nn.Embedding(4, 3, sparse=True)
    before = model.weight.detach().clone()
    optimizer = SparseAdam(list(model.parameters()), 1e-12)
    _ = attach(Lobster(0.5), optimizer, model)
    (5 * model(torch.tensor([1])).sum()).backward()
    optimizer.step()
    expected = before * torch.tensor([0.5, 1.0, 0.5, 0.5])[:, None]
    torch.testing.assert_close(model.weight.detach(), expected)


def test_tied_weights_decay_once() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    before = state_of(model)["0.weight"]
    optimizer = SGD(model.parameters(), 0.0)
    _ = attach(DecoupledDecay(0.5), optimizer, model)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert torch.equal(state_of(model)["0.weight"], before / 2)


def test_the_strength_follows_a_schedule_and_is_checked_at_every_step() -> None:
    model = small_network()
    optimizer = SGD(model.parameters(), 0.1)
    attachment = attach(Lobster(WarmUp(2.0, steps=4, after=1)), optimizer, model)
    seen = []
    for step in range(2):
        seen.append(attachment.worker.strength)
        train(model, optimizer, 1, step)
    assert seen == [0.0, 0.5]
    with pytest.raises(ValueError, match=r"Lobster: step 3: strength must be < 1, got 1\.0"):
        train(model, optimizer, 1)
    assert attachment.worker.step == 2


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize(
    ("strength", "text"),
    [
        (-0.1, r"strength must be >= 0 and finite, got -0\.1"),
        (float("nan"), "strength must be >= 0 and finite, got nan"),
        (1.0, r"strength must be < 1, got 1\.0: it is the share"),
    ],
)
def test_an_impossible_strength_is_refused(kind: str, strength: float, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        _ = RULES[kind][0](strength)


@given(
    size=st.floats(1e-3, 10.0),
    ratio=st.floats(1.001, 1e6),
    steps=st.integers(20, 3000),
)
def test_a_weight_without_gradient_is_below_the_threshold_after_that_many_steps_and_not_long_before(
    size: float, ratio: float, steps: int
) -> None:
    threshold = size / ratio
    if not threshold < size:
        return
    strength = strength_to_vanish(size, threshold, steps)
    left = torch.tensor(size, dtype=torch.float64)
    assert left * (1 - strength) ** steps < threshold
    assert left * (1 - strength) ** (steps * 0.6) > threshold  # slower than twice as fast


def test_a_decay_of_that_strength_takes_a_network_below_the_threshold_in_time() -> None:
    model = nn.Linear(30, 20, bias=False).double()
    size = typical_size(model, quantile=0.9)
    optimizer = SGD(model.parameters(), 0.1)
    strength = strength_to_vanish(size, 1e-3, steps=200)
    with attach(DecoupledDecay(strength), optimizer, model):
        for step in range(200):
            model.weight.grad = torch.zeros_like(model.weight)
            optimizer.step()
            if step == 190:
                assert (model.weight.abs() < 1e-3).double().mean() < 0.9
    assert (model.weight.abs() < 1e-3).double().mean() >= 0.9


def test_the_typical_size_is_of_weights_that_are_not_zero() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with torch.no_grad():
        weight = torch.tensor([[3.0, -4.0], [0.0, 0.0]])
        _ = model.get_parameter("0.weight").copy_(weight)
        _ = model.get_parameter("1.weight").fill_(1.0)
        _ = model.get_parameter("0.bias").fill_(100.0)
    assert typical_size(model, where=("0",)) == pytest.approx(12.5**0.5)
    assert typical_size(nn.DataParallel(model), where=("0",)) == pytest.approx(12.5**0.5)
    assert typical_size(model) == pytest.approx((29 / 6) ** 0.5)
    assert typical_size(model, quantile=0.5) == 1.0
    assert typical_size(model, quantile=1.0) == 4.0
    with pytest.raises(ValueError, match="typical_size: 2 names no weight that is not 0"):
        _ = typical_size(model, where=("2",))
    with pytest.raises(ValueError, match=r"quantile must be in \(0, 1\], got 0"):
        _ = typical_size(model, quantile=0)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0.05, 0.05, 9), r"threshold must be > 0 and below the size 0\.05, got 0\.05"),
        ((0.05, 0.0, 9), "threshold must be > 0"),
        ((0.05, 0.001, 3), r"from 0\.05 to 0\.001 takes at least 4 steps, got 3"),
    ],
)
def test_what_cannot_vanish_is_refused(arguments: tuple[float, float, int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        _ = strength_to_vanish(*arguments)
