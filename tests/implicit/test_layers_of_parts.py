"""Each layer dies in its own time: held to torch's Adam, and what is no layer has none."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from abscise.implicit import Diagnosis, Fate, Kind, Outcome, Part, diagnose

THRESHOLD = 1e-3
L2: dict[str, Any] = {"lr": 1e-3, "weight_decay": 1e-3}
SIZES = {"0.weight": 3e-4, "2.weight": 3e-2, "4.weight": 3e-3}
"""Of the gradients, layer by layer."""


def net() -> nn.Sequential:
    """Every weight of a layer has the same size, so that its root mean square is that of each."""
    layers = [nn.Linear(6, 8, bias=False), nn.Linear(8, 900, bias=False)]
    last = nn.Linear(900, 3, bias=False)
    for layer, size in ((layers[0], 0.1), (layers[1], 0.05), (last, 0.02)):
        with torch.no_grad():
            _ = layer.weight.fill_(size)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), last)


def weights_of(found: Diagnosis) -> Part:
    (part,) = (it for it in found.parts if it.kind is Kind.WEIGHT)
    return part


def trained(model: nn.Module, sizes: Mapping[str, float] = SIZES, steps: int = 3000) -> Optimizer:
    """Adam that has seen gradients of these sizes, and has not moved."""
    optimizer = Adam(model.parameters(), **L2 | {"lr": 0.0})
    for step in range(steps):
        for name, parameter in model.named_parameters():
            parameter.grad = torch.full_like(parameter, sizes[name] * (-1) ** step)
        _ = optimizer.step()
    optimizer.param_groups[0]["lr"] = L2["lr"]
    return optimizer


def falls_in(model: nn.Module, optimizer: Optimizer, longest: int) -> dict[str, int]:
    """The oracle: steps without data gradients until a layer is below the threshold."""
    fallen: dict[str, int] = {}
    for step in range(1, longest + 1):
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        _ = optimizer.step()
        for name, parameter in model.named_parameters():
            if name not in fallen and float(parameter.detach().abs().max()) < THRESHOLD:
                fallen[name] = step
    return fallen


def test_every_layer_has_the_time_that_adam_takes_for_it() -> None:
    model = net()
    optimizer = trained(model)
    layers = weights_of(diagnose(model, optimizer, steps=3000)).layers
    assert [it.name for it in layers] == ["0.weight", "4.weight", "2.weight"]
    for layer in layers:
        assert layer.gradient_rms == pytest.approx(SIZES[layer.name], rel=0.1)
    fallen = falls_in(model, optimizer, 13_000)
    assert [*fallen] == [it.name for it in layers]
    for layer in layers:
        assert layer.steps == pytest.approx(fallen[layer.name], rel=0.03, abs=60)


@pytest.mark.parametrize("quiet", [0.0, 1e-5, 1e-4, 1e-3])
def test_given_gradients_count_together_with_the_decay_that_came_with_them(quiet: float) -> None:
    model = net()
    sizes = SIZES | {"0.weight": quiet}
    optimizer = trained(model, sizes)
    fresh = Adam(model.parameters(), **L2)
    layers = weights_of(diagnose(model, fresh, steps=6000, gradient_rms=sizes)).layers
    assert layers[0].name == "0.weight"
    steps, least = layers[0].steps, layers[0].steps_at_least
    assert steps is not None
    fallen = falls_in(model, optimizer, 3000)["0.weight"]
    assert steps == pytest.approx(fallen, rel=0.03, abs=60)
    assert least <= steps + 1e-9
    assert (least == pytest.approx(steps)) is (quiet == 0.0)


def test_a_quiet_layer_dies_although_the_loud_one_does_not() -> None:
    model = net()
    found = diagnose(model, Adam(model.parameters(), **L2), steps=3000, gradient_rms=SIZES)
    assert found.outcome is Outcome.WILL_DIE
    assert "(0.weight) of the run's 3,000 steps; 2 of 3 layers need more" in found.verdict
    part = weights_of(found)
    assert part.gradient_rms is not None
    # The twin: all numbers together would need more steps than the run has.
    pooled = diagnose(
        model, Adam(model.parameters(), **L2), steps=3000, gradient_rms=part.gradient_rms
    )
    assert pooled.outcome is Outcome.TOO_SLOW


def test_first_and_last_are_named_where_they_differ_and_all_get_there() -> None:
    model = net()
    found = diagnose(model, Adam(model.parameters(), **L2), steps=50_000, gradient_rms=SIZES)
    first, *_, last = weights_of(found).layers
    assert first.steps is not None
    assert last.steps is not None
    told = f"{first.steps:,.0f} (0.weight) to {last.steps:,.0f} (2.weight) of the run's 50,000"
    assert told in found.verdict
    alike = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        for name in ("0.weight", "2.weight"):
            _ = alike.get_parameter(name).fill_(0.1)
    same = diagnose(alike, Adam(alike.parameters(), **L2), steps=50_000, gradient_rms=1e-3)
    assert ".weight" not in same.verdict


@pytest.mark.parametrize("kind", [AdamW, SGD])
def test_where_gradients_do_not_count_the_smallest_layer_is_the_first(kind: Any) -> None:
    model = net()
    options = {"lr": 1e-2, "weight_decay": 1e-2}
    part = weights_of(diagnose(model, kind(model.parameters(), **options), steps=1000))
    assert part.fate is Fate.DIES_LATER
    assert [it.name for it in part.layers] == ["4.weight", "2.weight", "0.weight"]
    assert part.steps == part.layers[0].steps
    assert "(4.weight), the run has 1,000" in part.why


def test_without_gradients_the_layers_have_the_least_of_steps() -> None:
    model = net()
    part = weights_of(diagnose(model, Adam(model.parameters(), **L2), steps=3000))
    assert part.steps is None
    assert {it.steps for it in part.layers} == {None}
    assert part.steps_at_least == part.layers[0].steps_at_least
    assert [it.start for it in part.layers] == sorted(it.start for it in part.layers)


class Odd(nn.Module):
    """Parameters that are no layers: a table, tokens, a scale near 0; and a fused projection."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 6)
        self.tokens = nn.Parameter(torch.full((1, 4, 6), 0.02))
        self.layer_scale = nn.Parameter(torch.full((6, 1, 1), 1e-6))
        self.mix = nn.MultiheadAttention(6, 2)
        self.norm = nn.LayerNorm(6)
        self.faint = nn.Linear(6, 6)
        with torch.no_grad():
            _ = self.faint.weight.fill_(1e-5)


def test_tables_tokens_and_what_is_below_the_threshold_are_no_layers() -> None:
    model = Odd()
    found = diagnose(model, Adam(model.parameters(), **L2), steps=3000, gradient_rms=1e-3)
    layers = {it.name for part in found.parts for it in part.layers}
    assert layers == {"mix.in_proj_weight", "mix.out_proj.weight", "norm.weight"}
    assert not any(part.layers for part in found.parts if part.kind in {Kind.BIAS, Kind.BETA})


class Bare(nn.Module):
    """Nothing is called a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.full((4, 4), 0.1))
        self.other = nn.Parameter(torch.full((4, 4), 0.2))


def test_where_nothing_is_called_a_weight_all_that_have_rows_are_layers() -> None:
    model = Bare()
    found = diagnose(model, Adam(model.parameters(), **L2), steps=3000, gradient_rms=1e-3)
    assert {it.name for it in weights_of(found).layers} == {"kernel", "other"}


def test_the_layers_are_in_the_json() -> None:
    model = net()
    found = diagnose(model, Adam(model.parameters(), **L2), steps=3000, gradient_rms=SIZES)
    (part,) = found.to_json()["parts"]
    assert [it["name"] for it in part["layers"]] == ["0.weight", "4.weight", "2.weight"]
    assert part["layers"][0]["steps"] == part["steps"]
