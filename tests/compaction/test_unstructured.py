"""Units that are dead only because single weights are 0, in chains: they go, and no other."""

import copy
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

import abscise
from abscise import UnitMap
from support.compacting import noise, trained
from support.torchvision_shim import torchvision_models

Network = tuple[nn.Sequential, Tensor]


def thin_(model: nn.Module, share: float, seed: int) -> None:
    """Set this share of the weights, drawn one by one, to 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                zero = torch.rand(weight.shape, generator=generator) < share
                _ = weight.masked_fill_(zero, 0.0)


def perceptron(seed: int) -> Network:
    sizes = (20, 120, 100, 80, 60, 3)
    with torch.random.fork_rng():
        _ = torch.manual_seed(seed)
        layers = [nn.Linear(*pair) for pair in pairwise(sizes)]
    parts = [part for layer in layers for part in (layer, nn.ReLU())]
    return nn.Sequential(*parts[:-1]).double(), noise(16, 20, seed=seed)


def convolutional(seed: int) -> Network:
    with torch.random.fork_rng():
        _ = torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(3, 24, 3, bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.Conv2d(24, 32, 3),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 32, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(32, 30),
            nn.ReLU(),
            nn.Linear(30, 3),
        )
    inputs = noise(16, 3, 10, 10, seed=seed)
    return trained(model, inputs, seed).eval(), inputs


def needed(weights: list[Tensor]) -> list[list[int]]:
    """Per hidden layer of a chain the units that depend on the inputs and reach an output.

    By reachability in the weight matrices alone: forward, then backward.
    """
    depends, before = [], torch.ones(weights[0].shape[1], dtype=torch.bool)
    for weight in weights[:-1]:
        before = (weight[:, before] != 0).any(1)
        depends.append(before)
    reaches, found = torch.ones(len(weights[-1]), dtype=torch.bool), []
    for weight, depending in zip(reversed(weights[1:]), reversed(depends), strict=True):
        reaches = (weight[reaches] != 0).any(0) & depending
        found.append(reaches.nonzero().flatten().tolist())
    return found[::-1]


def matrices(model: nn.Sequential) -> list[Tensor]:
    """The weights of each layer as `(outputs, inputs)`: of a kernel its largest element."""
    layers = [part for part in model if isinstance(part, nn.Linear | nn.Conv2d)]
    return [layer.weight.detach().flatten(2).abs().amax(2) if layer.weight.ndim > 2
            else layer.weight.detach() for layer in layers]  # fmt: skip


@pytest.mark.parametrize("share", [0.95, 0.97, 0.99])
@pytest.mark.parametrize("make", [perceptron, convolutional])
def test_of_a_thin_chain_exactly_the_units_between_inputs_and_outputs_stay(
    make: Callable[[int], Network], share: float
) -> None:
    model, inputs = make(1)
    thin_(model, share, 1)
    kept = needed(matrices(model))
    result = abscise.compact(model, inputs)
    rows = result.plan.layers[: len(kept)]
    # A layer of which nothing is needed keeps one unit: no tensor may become empty.
    assert [row.units - row.removed for row in rows] == [max(1, len(units)) for units in kept]
    assert sum(row.removed for row in rows) > 0.3 * sum(row.units for row in rows)
    torch.testing.assert_close(result.model(inputs), model(inputs), rtol=1e-12, atol=1e-12)
    assert result.certificate.passed or result.certificate.inconclusive


def test_one_weight_brings_a_whole_chain_back() -> None:
    model = nn.Sequential(
        nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(),
        nn.Linear(4, 2),
    ).double()  # fmt: skip
    with torch.no_grad():
        for index in (0, 2, 4, 6):
            _ = model.get_parameter(f"{index}.weight").abs_().add_(0.1)
        _ = model.get_parameter("2.weight")[0].zero_()  # [0] reads 5 only, which nobody else does
        _ = model.get_parameter("2.weight")[1:, 5].zero_()
        _ = model.get_parameter("4.weight")[1:, 0].zero_()  # and only [0] of the next reads it
        _ = model.get_parameter("4.weight")[0, 1:].zero_()
    revived = copy.deepcopy(model)
    with torch.no_grad():
        revived.get_parameter("2.weight")[0, 5] = 0.3
    inputs = noise(16, 4)
    for network, expected in ((model, [1, 1, 1]), (revived, [0, 0, 0])):
        result = abscise.compact(network, inputs)
        assert [row.removed for row in result.plan.layers[:3]] == expected
        assert result.certificate.passed
        torch.testing.assert_close(result.model(inputs), network(inputs), rtol=1e-12, atol=1e-12)


def test_units_without_incoming_weights_become_the_bias_of_their_readers() -> None:
    model, inputs = perceptron(0)
    with torch.no_grad():
        _ = model.get_parameter("0.weight")[::2].zero_()
        _ = model.get_parameter("0.bias").fill_(0.5)
    result = abscise.compact(model, inputs)
    assert result.plan.layers[0].removed == 60
    assert not torch.equal(result.model.get_parameter("2.bias"), model.get_parameter("2.bias"))
    torch.testing.assert_close(result.model(inputs), model(inputs), rtol=1e-12, atol=1e-12)
    assert result.certificate.passed


def test_inspect_counts_the_zeros_that_removal_leaves() -> None:
    for make in (perceptron, convolutional):
        model, inputs = make(0)
        thin_(model, 0.95, 0)
        found = abscise.inspect(model, inputs)
        left = dict(abscise.compact(model, inputs).model.named_parameters())
        zeros = {
            name.removesuffix(".weight"): int((weight == 0).sum())
            for name, weight in left.items()
            if weight.ndim > 1
        }
        assert {layer.layer: layer.stray_zeros for layer in found.layers} == zeros
        assert (
            0
            < found.stray_zeros
            == sum(zeros.values())
            < sum(int((weight == 0).sum()) for weight in model.parameters())
        )


def _unchanged(values: Tensor) -> Tensor:
    return values


def skeleton_units(model: nn.Module, inputs: Tensor, units: UnitMap) -> set[int]:
    """The units on a path from inputs to outputs, by values and gradients of the model's skeleton.

    Weights are 1 where not 0, there is no bias, norms and activations change nothing: a unit's
    value counts the paths to it, its gradient those from it.
    """
    skeleton = copy.deepcopy(model)
    seen: dict[str, Tensor] = {}
    for name, part in skeleton.named_modules():
        if isinstance(part, nn.ReLU6 | nn.BatchNorm2d):
            vars(part)["forward"] = _unchanged
        elif isinstance(part, nn.Conv2d | nn.Linear):
            part.weight.data = (part.weight != 0).to(part.weight.dtype)
            if part.bias is not None:
                part.bias.data.zero_()

            def keep(_: nn.Module, __: object, values: Tensor, name: str = name) -> None:
                values.retain_grad()
                seen[name] = values

            _ = part.register_forward_hook(keep)
    skeleton(torch.ones_like(inputs[:1])).sum().backward()
    found: set[int] = set()
    for layer, values in seen.items():
        assert values.grad is not None
        others = [axis for axis in range(values.ndim) if axis != 1]
        paths = [it.amax(others) > 0 if others else it > 0 for it in (values, values.grad)]
        found |= set(units.layers[layer][(paths[0] & paths[1]).numpy()].tolist())
    return found


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.8, 0.95])
def test_of_a_thin_mobilenet_exactly_the_units_on_a_path_stay(share: float) -> None:
    with torch.random.fork_rng():
        _ = torch.manual_seed(0)
        model = torchvision_models().mobilenet_v2(weights=None, width_mult=0.25, num_classes=10)
    inputs = noise(2, 3, 128, 128)
    model = trained(model, inputs).eval()
    thin_(model, share, 0)
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):  # so that what is constant is 0: before a zero
                _ = part.bias.zero_()  # padding, other constants cannot be folded
                _ = part.running_mean.zero_()  # type: ignore[union-attr]
    units = abscise.find_units(model, inputs)
    dead = set(units.units) - set(units.pinned) - skeleton_units(model, inputs, units)
    result = abscise.compact(model, inputs)
    removed = {removal.unit for removal in result.plan.removals}
    assert removed <= dead
    last = [row for row in result.plan.layers if any("last unit" in why for why in row.reasons)]
    assert len(dead - removed) <= len(last)  # such a unit may lie in several layers
    assert len(removed) > (0.1 if share < 0.9 else 0.6) * len(units.units)
    torch.testing.assert_close(result.model(inputs), model(inputs), rtol=1e-9, atol=1e-9)
