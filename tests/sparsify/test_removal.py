"""Units that `Proximal` makes 0 are removed exactly: the way from the loop to the smaller model."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam, Optimizer

import abscise
from abscise import UnitMap, attach
from abscise.penalties import GroupLasso, GroupTransformedL1, Penalty
from abscise.sparsify import Proximal
from support.sparsifier_cases import unit_map
from support.sparsifying import batch, small_network, train
from support.torchvision_shim import torchvision_models


def dead_units(model: nn.Module, units: UnitMap) -> set[int]:
    """Units that are not pinned and whose rows, in every layer that writes them, are all 0."""
    alive: set[int] = set(units.pinned)
    for layer, ids in units.layers.items():
        rows = model.get_submodule(layer).get_parameter("weight").detach().flatten(1)
        alive |= set(ids[rows.abs().amax(1).numpy() > 0].tolist())
    return set(units.units - alive)


def weaken_(
    model: nn.Module, units: UnitMap, layers: tuple[str, ...], norms: tuple[str, ...]
) -> None:
    """Make every other unit of these layers, with its norm, so small that it dies first."""
    with torch.no_grad():
        for layer in layers:
            width = len(units.layers[layer])
            for name in (layer, *norms):
                for parameter in model.get_submodule(name).parameters():
                    if len(parameter) == width:
                        _ = parameter[::2].mul_(0.02)


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("penalty", [GroupLasso(), GroupTransformedL1(0.1)], ids=str)
def test_compact_removes_exactly_the_units_that_became_zero(
    penalty: Penalty, adaptive: bool
) -> None:
    model, units = small_network(), unit_map()
    weaken_(model, units, ("0", "3", "7"), ("1", "4"))
    make = Adam if adaptive else SGD
    optimizer: Optimizer = make(model.parameters(), 1e-3)
    strength = 0.05 if adaptive and penalty.takes_metric else 2.0
    with attach(Proximal(penalty, strength, groups=units), optimizer, model) as attachment:
        train(model, optimizer, 20)
        share = attachment.worker.sparsity
    dead = dead_units(model, units)
    assert len(dead) == round(share * (len(units.units) - len(units.pinned)))
    for layer, ids in units.layers.items():
        died = dead & set(ids.tolist())
        assert 0 < len(died) < len(ids) or layer == "9"
    inputs = batch()[0]
    result = abscise.compact(model.eval(), inputs)
    assert {removal.unit for removal in result.plan.removals} == dead
    assert result.certificate.passed
    torch.testing.assert_close(result.model(inputs), model(inputs), rtol=1e-12, atol=1e-12)
    for names in (("0.weight", "1.weight", "1.bias"), ("3.weight", "3.bias", "4.weight", "4.bias")):
        count = len(model.get_parameter(names[1]))
        zero = [(model.get_parameter(n).reshape(count, -1) == 0).all(1).tolist() for n in names]
        assert all(one == zero[0] for one in zero)


@pytest.mark.slow
def test_units_of_a_residual_network_vanish_in_all_their_layers_and_are_removed() -> None:
    with torch.random.fork_rng():
        _ = torch.manual_seed(0)
        model: nn.Module = torchvision_models().resnet18(num_classes=3).double()
        inputs: Tensor = torch.randn(8, 3, 32, 32, dtype=torch.float64)
    units = abscise.find_units(model, inputs)
    norms = tuple(name for name, part in model.named_modules() if isinstance(part, nn.BatchNorm2d))
    convolutions = tuple(name for name in units.layers if name != "fc")
    for layer, norm in zip(convolutions, norms, strict=True):
        weaken_(model, units, (layer,), (norm,))
    optimizer = SGD(model.parameters(), 1e-3)
    with attach(Proximal(GroupLasso(), 2.0, groups=units), optimizer, model) as attachment:
        for _ in range(10):
            optimizer.zero_grad()
            cross_entropy(model(inputs), torch.arange(8) % 3).backward()
            optimizer.step()
        share = attachment.worker.sparsity
    dead = dead_units(model, units)
    assert 0.05 < share < 1
    assert len(dead) == round(share * (len(units.units) - len(units.pinned)))
    result = abscise.compact(model.eval(), inputs)
    assert {removal.unit for removal in result.plan.removals} == dead
    assert result.certificate.passed
    torch.testing.assert_close(result.model(inputs), model(inputs), rtol=1e-9, atol=1e-9)
