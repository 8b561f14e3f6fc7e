"""The laws of death meet torch's own optimizers; laws with a wrong number in them do not."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adadelta, Adagrad, Adam, AdamW, RMSprop

from abscise.implicit import NEVER, Decay, Family, History, Rule, history_of, read_rule, steps_to
from abscise.implicit._recursion import decay_rate
from support.effort import examples
from support.isolated import Make, steps_below

# The coverage tracer would double their time; other tests run the same code.
pytestmark = pytest.mark.no_cover

LONGEST = 4_000  # steps of torch's optimizer in one example
TOLERANCE = 0.03


@dataclass(frozen=True)
class Row:
    """One optimizer: how to make it, what is drawn for it, and a wrong law of it."""

    make: Callable[..., Any]
    draws: Mapping[str, Any]
    wrong: Callable[[Rule], Rule]


def power(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high).map(lambda exponent: 10**exponent)


DECAY = {"lr": power(-5, -2), "weight_decay": power(-5, -2)}
MEMORY = st.sampled_from([0.98, 0.99, 0.995, 0.999])
EPS = st.sampled_from([1e-12, 1e-8, 1e-5, 1e-3])
BETAS = {"betas": st.tuples(st.sampled_from([0.0, 0.5, 0.9]), MEMORY), "eps": EPS}


def forgets_faster(rule: Rule) -> Rule:
    return replace(rule, memory=1 - 2 * (1 - rule.memory))


def without_momentum(rule: Rule) -> Rule:
    return replace(rule, momentum=0.0)


def stronger(rule: Rule) -> Rule:
    return replace(rule, strength=1.2 * rule.strength)


ROWS = {
    "Adam": Row(Adam, DECAY | BETAS, forgets_faster),
    "AMSGrad": Row(Adam, DECAY | BETAS | {"amsgrad": st.just(value=True)}, stronger),
    "AdamW": Row(AdamW, {"lr": power(-3, -1), "weight_decay": power(-2, 0)}, stronger),
    "Adam, decoupled": Row(
        Adam,
        {"lr": power(-3, -1), "weight_decay": power(-2, 0)}
        | {"decoupled_weight_decay": st.just(value=True)},
        stronger,
    ),
    "RMSprop": Row(RMSprop, DECAY | {"alpha": MEMORY, "eps": EPS}, forgets_faster),
    "RMSprop, momentum": Row(
        RMSprop,
        DECAY | {"alpha": MEMORY, "eps": EPS, "momentum": st.sampled_from([0.5, 0.9])},
        without_momentum,
    ),
    "Adagrad": Row(Adagrad, {"lr": power(-3, -1), "weight_decay": power(-4, -2)}, stronger),
    "Adagrad, falling rate": Row(
        Adagrad,
        {"lr": power(-3, -1), "weight_decay": power(-4, -2), "lr_decay": st.just(1e-4)},
        stronger,
    ),
    "Adadelta": Row(
        Adadelta,
        {"lr": power(-1, 0.5), "weight_decay": power(-4, -2), "rho": st.sampled_from([0.9, 0.99])},
        stronger,
    ),
    "SGD": Row(SGD, {"lr": power(-2, 0), "weight_decay": power(-4, -2)}, stronger),
    "SGD, momentum": Row(
        SGD,
        {"lr": power(-3, -1), "weight_decay": power(-4, -2)}
        | {"momentum": st.sampled_from([0.5, 0.9, 0.95]), "dampening": st.sampled_from([0.0, 0.5])},
        without_momentum,
    ),
}


def rule_of(make: Make) -> Rule:
    optimizer = make([torch.zeros(1, requires_grad=True)])
    rule = read_rule(optimizer, optimizer.param_groups[0])
    assert rule is not None
    return rule


@pytest.mark.parametrize("name", ROWS)
@settings(examples(3), suppress_health_check=[HealthCheck.filter_too_much])
@given(data=st.data())
def test_the_time_to_death_is_within_3_percent_of_torch_above_2000_steps(
    name: str, data: st.DataObject
) -> None:
    row = ROWS[name]
    options = {key: data.draw(values, key) for key, values in row.draws.items()}
    start, far = (
        data.draw(power(-2, 0), "start"),
        data.draw(st.floats(1, 12), "ln(start/threshold)"),
    )
    rms, past = data.draw(power(-5, -1), "rms"), data.draw(st.sampled_from([0, 300]), "past")
    threshold = start * math.exp(-far)

    def make(weights: list[torch.Tensor]) -> torch.optim.Optimizer:
        return row.make(weights, **options)

    rule = rule_of(make)
    predicted = steps_to(rule, start, threshold, history_of(rule, rms, past) if past else None)
    _ = assume(2000 < predicted < LONGEST)
    _ = assume(threshold > 50 * rule.cycle)  # below, peaks of the cycle come back above it
    measured = steps_below(make, start, threshold, rms, past)
    assert predicted == pytest.approx(measured, rel=TOLERANCE)


KNOWN: dict[str, tuple[dict[str, Any], float]] = {
    "Adam": ({"lr": 1e-3, "weight_decay": 1e-3}, 1e-3),
    "AMSGrad": ({"lr": 1e-3, "weight_decay": 1e-3, "amsgrad": True}, 1e-3),
    "AdamW": ({"lr": 1e-2, "weight_decay": 0.2}, 0.0),
    "Adam, decoupled": ({"lr": 1e-2, "weight_decay": 0.2, "decoupled_weight_decay": True}, 0.0),
    "RMSprop": ({"lr": 1e-3, "weight_decay": 1e-4, "alpha": 0.998}, 1e-3),
    "RMSprop, momentum": (
        {"lr": 1e-5, "weight_decay": 1e-3, "alpha": 0.99, "momentum": 0.9, "eps": 1e-4},
        1e-3,
    ),
    "Adagrad": ({"lr": 1e-2, "weight_decay": 1e-3}, 1e-3),
    "Adagrad, falling rate": ({"lr": 1e-2, "weight_decay": 1e-3, "lr_decay": 1e-4}, 3e-4),
    "Adadelta": ({"lr": 1.0, "weight_decay": 1e-3}, 1e-3),
    "SGD": ({"lr": 0.1, "weight_decay": 1e-2}, 0.0),
    "SGD, momentum": ({"lr": 0.1, "weight_decay": 1e-3, "momentum": 0.9}, 0.0),
}


@pytest.mark.parametrize("name", ROWS)
def test_the_law_holds_where_its_wrong_twin_fails(name: str) -> None:
    options, rms = KNOWN[name]

    def make(weights: list[torch.Tensor]) -> torch.optim.Optimizer:
        return ROWS[name].make(weights, **options)

    rule, past = rule_of(make), 500 if rms else 0
    twin = ROWS[name].wrong(rule)
    threshold = 0.01 if name.startswith("Ad") and "Adam" not in name else 1e-3
    measured = steps_below(make, 0.05, threshold, rms, past)
    history = history_of(rule, rms, past) if past else None
    assert measured > 1000
    assert steps_to(rule, 0.05, threshold, history) == pytest.approx(measured, rel=TOLERANCE)
    assert steps_to(twin, 0.05, threshold, history) != pytest.approx(measured, rel=TOLERANCE)


def test_the_closed_form_holds_while_the_memory_of_gradients_decides() -> None:
    rule = rule_of(lambda it: Adam(it, 1e-3, weight_decay=1e-4))
    found = steps_to(rule, 0.05, 1e-3, history_of(rule, 1e-3, 20_000))
    half = (1 - 0.999) / 2
    closed = math.log1p(half * 1e-3 * math.log(0.05 / 1e-3) / (1e-3 * 1e-4)) / half
    assert found == pytest.approx(closed, rel=0.02)


CYCLES: dict[str, Make] = {
    "Adam": lambda it: Adam(it, 1e-3, (0.9, 0.99), weight_decay=1e-3),
    "Adam, no momentum": lambda it: Adam(it, 1e-2, (0.0, 0.9), weight_decay=1e-3),
    "RMSprop": lambda it: RMSprop(it, 1e-3, weight_decay=1e-3),
    "RMSprop, momentum": lambda it: RMSprop(it, 1e-3, alpha=0.9, momentum=0.9, weight_decay=1e-2),
}


@pytest.mark.parametrize("name", CYCLES)
def test_above_the_stability_bound_a_weight_ends_in_a_cycle_of_the_predicted_size(
    name: str,
) -> None:
    weight = torch.tensor([0.05], dtype=torch.float64, requires_grad=True)
    optimizer = CYCLES[name]([weight])
    rule = rule_of(CYCLES[name])
    weight.grad = torch.zeros_like(weight)
    squares = []
    for step in range(8000):
        _ = optimizer.step()
        if step >= 4000:
            squares.append(weight.item() ** 2)
    size = (sum(squares) / len(squares)) ** 0.5
    assert rule.ceiling > rule.stability_bound
    assert rule.cycle == pytest.approx(size, rel=0.2)
    assert steps_to(rule, 0.05, rule.cycle / 2) == NEVER


@pytest.mark.parametrize("share", [0.8, 1.25])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_adam_vanishes_below_the_bound_and_explodes_above_it(momentum: float, share: float) -> None:
    rule = rule_of(lambda it: Adam(it, 1e-3, (momentum, 0.99), weight_decay=1e-3))
    assert (decay_rate(rule, share * rule.stability_bound) > 0) == (share < 1)


def test_without_decay_a_weight_stays() -> None:
    assert steps_to(rule_of(lambda it: Adam(it, 1e-3)), 0.05, 1e-3) == NEVER


def test_a_weight_that_is_small_already_needs_no_step() -> None:
    assert steps_to(rule_of(lambda it: Adam(it, 1e-3, weight_decay=1e-4)), 1e-4, 1e-3) == 0


@pytest.mark.parametrize("start", [0.0, -1.0, float("nan"), float("inf")])
def test_a_start_that_is_no_size_is_refused(start: float) -> None:
    with pytest.raises(ValueError, match="start must be > 0"):
        _ = steps_to(rule_of(lambda it: Adam(it, 1e-3, weight_decay=1e-4)), start, 1e-3)


def test_a_silenced_unit_of_a_network_dies_when_its_optimizers_state_says() -> None:
    _ = torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = Adam(model.parameters(), 1e-3, weight_decay=5e-3)
    inputs, labels = torch.randn(256, 10), torch.arange(256) % 3

    def step() -> None:
        chosen = torch.randint(256, (32,))
        optimizer.zero_grad()
        cross_entropy(model(inputs[chosen]), labels[chosen]).backward()
        _ = optimizer.step()

    for _ in range(300):
        step()
    weight, rule = model.get_parameter("0.weight"), read_rule(optimizer, optimizer.param_groups[0])
    assert rule is not None
    with torch.no_grad():
        model.get_parameter("0.bias")[0] = -100  # from here on it never fires
    second = optimizer.state[weight]["exp_avg_sq"][0]
    pairs = zip(weight[0].detach().abs().tolist(), second.tolist(), strict=True)
    expected = max(
        steps_to(rule, max(size, 1e-6), 1e-4, History(moment, 0.0, 300)) for size, moment in pairs
    )
    last = 0
    for count in range(1, int(1.1 * expected)):
        step()
        if float(weight[0].detach().abs().max()) >= 1e-4:
            last = count
    assert expected > 2000
    assert expected == pytest.approx(last + 1, rel=TOLERANCE)


@pytest.mark.parametrize("memory", [0.9, 0.99])
@pytest.mark.parametrize("square", [0.0, 1e-8, 1e-4, 1.0])
def test_adadeltas_updates_are_those_of_its_loop(memory: float, square: float) -> None:
    rule = Rule(
        family=Family.ADADELTA,
        decay=Decay.COUPLED,
        lr=1.0,
        strength=1e-4,
        memory=memory,
        eps=1e-6,
    )
    second = update = 0.0
    for step in range(1, 20_001):
        second += (1 - memory) * (square - second)
        moved = (update + rule.eps) / (second + rule.eps) * square
        update += (1 - memory) * (moved - update)
        if step in {1, 100, 5000, 20_000}:
            found = history_of(rule, math.sqrt(square), step).update
            assert found == pytest.approx(update, rel=1e-3, abs=1e-15)
