"""NetworkSlimming: l1 on the scales of BatchNorm, in both forms, and nothing else."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from typing_extensions import override

import abscise
from abscise import attach
from abscise.sparsify import NetworkSlimming, WarmUp
from support.sparsifying import (
    OPTIMIZERS,
    batch,
    same,
    small_network,
    state_of,
    train,
    train_scaled,
)

SCALES = ("1.weight", "4.weight")


def written_out(optimizer_name: str, strength: float, form: str, steps: int) -> dict[str, Tensor]:
    """The same by a loop that does it by hand."""
    model = small_network()
    optimizer = OPTIMIZERS[optimizer_name](model.parameters())
    scales = [model.get_parameter(name) for name in SCALES]
    for step in range(steps):
        inputs, labels = batch(step)
        optimizer.zero_grad()
        loss = cross_entropy(model(inputs), labels)
        if form == "subgradient":
            loss = loss + strength * torch.stack([scale.abs().sum() for scale in scales]).sum()
        loss.backward()
        optimizer.step()
        rate = optimizer.param_groups[0]["lr"]
        for scale in scales if form == "prox" else ():
            shrunk = scale.data.sign() * (scale.data.abs() - rate * strength).clamp(min=0)
            _ = scale.data.copy_(shrunk)
    return state_of(model)


@pytest.mark.parametrize("optimizer_name", ["sgd", "momentum", "adam", "fused", "rmsprop"])
@pytest.mark.parametrize("form", ["prox", "subgradient"])
def test_a_step_is_that_of_the_penalised_loss_or_the_plain_one_and_a_soft_threshold(
    form: str, optimizer_name: str
) -> None:
    model = small_network()
    optimizer = OPTIMIZERS[optimizer_name](model.parameters())
    _ = attach(NetworkSlimming(0.5, form), optimizer, model)
    train(model, optimizer, 4)
    expected = written_out(optimizer_name, 0.5, form, 4)
    wrong = written_out(optimizer_name, 0.45, form, 4)
    for name, value in state_of(model).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-9, atol=1e-11)
    seen = model.get_parameter(SCALES[0])
    assert not torch.allclose(seen, wrong[SCALES[0]], rtol=0, atol=1e-7), "the twin"


def test_the_two_forms_differ_where_an_optimizer_has_moments() -> None:
    prox, subgradient = (written_out("adam", 0.5, form, 4) for form in ("prox", "subgradient"))
    assert not torch.allclose(prox[SCALES[0]], subgradient[SCALES[0]], atol=1e-3)


@pytest.mark.parametrize("form", ["prox", "subgradient"])
def test_everything_but_the_scales_is_left_bit_for_bit(form: str) -> None:
    models = [small_network(), small_network()]
    for model, strength in zip(models, (0.0, 0.7), strict=True):
        optimizer = OPTIMIZERS["adam"](model.parameters())
        _ = attach(NetworkSlimming(strength, form), optimizer, model)
        train(model, optimizer, 1)
    one, two = (state_of(model) for model in models)
    assert [name for name in one if not torch.equal(one[name], two[name])] == list(SCALES)


def test_a_channel_switched_off_is_removed() -> None:
    model = small_network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    with attach(NetworkSlimming(0.8), optimizer, model) as attachment:
        train(model, optimizer, 12)
        assert 0 < attachment.worker.sparsity < 1
        off = attachment.worker.sparsity * 10
    inputs = batch()[0]
    result = abscise.compact(model.eval(), inputs)
    assert result.certificate.passed
    assert result.plan.removed_units >= off - 1  # one may have to stay, to carry the constants


@pytest.mark.parametrize("form", ["prox", "subgradient"])
@pytest.mark.parametrize("fused", [False, True])
def test_under_a_scaler_the_strength_is_that_of_unscaled_gradients(fused: bool, form: str) -> None:
    found = []
    for scaled in (False, True):
        model = small_network().float()
        optimizer = torch.optim.Adam(model.parameters(), 0.01, fused=fused)
        attachment = attach(NetworkSlimming(0.3, form), optimizer, model)
        train_scaled(model, optimizer, 3, scaled=scaled)
        assert attachment.worker.step == 3
        found.append(state_of(model))
    for name in SCALES:
        torch.testing.assert_close(found[0][name], found[1][name], rtol=1e-3, atol=1e-4)


def test_pruning_takes_the_smallest_scales_of_all_layers_and_holds_them() -> None:
    model = small_network()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    attachment = attach(NetworkSlimming(0.3, "subgradient"), optimizer, model)
    train(model, optimizer, 5)
    scales = torch.cat([model.get_parameter(name).detach().abs() for name in SCALES])
    attachment.worker.prune(0.4)
    dead = torch.cat([model.get_parameter(name).detach() == 0 for name in SCALES])
    assert torch.equal(dead, scales <= scales.sort().values[3])
    assert attachment.worker.strength == 0
    train(model, optimizer, 5, 5)
    assert torch.equal(
        torch.cat([model.get_parameter(name).detach() == 0 for name in SCALES]), dead
    )
    attachment.worker.prune(0.99)
    each = [int((model.get_parameter(name) != 0).sum()) for name in SCALES]
    assert each == [1, 1], "the largest of each layer stays"
    with pytest.raises(ValueError, match=r"share must be in \[0, 1\), got 1\.0"):
        attachment.worker.prune(1.0)


def test_the_strength_follows_a_schedule() -> None:
    model = small_network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    attachment = attach(NetworkSlimming(WarmUp(1.0, steps=2)), optimizer, model)
    seen = []
    for step in range(3):
        seen.append(attachment.worker.strength)
        train(model, optimizer, 1, step)
    assert seen == [0.5, 1.0, 1.0]


def loss_of(model: nn.Module, optimizer: Optimizer) -> float:
    optimizer.zero_grad()
    inputs, labels = batch()
    loss = cross_entropy(model(inputs), labels)
    loss.backward()
    return loss.item()


def test_a_closure_is_refused_only_where_gradients_are_changed_before_the_step() -> None:
    for form, refused in (("prox", False), ("subgradient", True)):
        model = small_network()
        optimizer = OPTIMIZERS["sgd"](model.parameters())
        attachment = attach(NetworkSlimming(0.3, form), optimizer, model)
        before = state_of(model)
        closure = partial(loss_of, model, optimizer)
        if not refused:
            _ = optimizer.step(closure)
            assert attachment.worker.step == 1
            continue
        with pytest.raises(ValueError, match=r"NetworkSlimming acts on .* call backward"):
            _ = optimizer.step(closure)
        with pytest.raises(ValueError, match=r"NetworkSlimming acts on .* call backward"):
            _ = optimizer.step(closure=closure)
        assert same(before, state_of(model))
        assert attachment.worker.step == 0


def test_an_optimizer_that_runs_its_hooks_twice_gets_the_gradient_once() -> None:
    class Outer(torch.optim.SGD):
        @override
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    plain = small_network()
    _ = torch.optim.SGD(plain.parameters(), 0.1)  # from now on the inner step has hooks, too
    model = small_network()
    optimizer = Outer(model.parameters(), 0.1)
    _ = attach(NetworkSlimming(0.5, "subgradient"), optimizer, model)
    train(model, optimizer, 2)
    expected = written_out("sgd", 0.5, "subgradient", 2)
    torch.testing.assert_close(state_of(model)[SCALES[0]], expected[SCALES[0]])


def test_a_network_without_batch_norm_and_impossible_options_are_refused_in_one_line() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.BatchNorm1d(4, affine=False))
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    with pytest.raises(ValueError, match="the model has no BatchNorm with scales: use Proximal"):
        _ = attach(NetworkSlimming(0.1), optimizer, model)
    network = small_network()
    _ = network[1].requires_grad_(requires_grad=False)
    _ = network[4].requires_grad_(requires_grad=False)
    with pytest.raises(ValueError, match="NetworkSlimming: no parameter to act on"):
        _ = attach(NetworkSlimming(0.1), OPTIMIZERS["sgd"](network[:1].parameters()), network)
    for options, text in (
        ({"strength": -1.0}, "strength must be >= 0 and finite, got -1"),
        ({"form": "l1"}, "form must be one of prox, subgradient, got 'l1'"),
    ):
        with pytest.raises(ValueError, match=text):
            _ = NetworkSlimming(**{"strength": 0.1, **options})  # type: ignore[arg-type]
