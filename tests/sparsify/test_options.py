"""Schedules, depth, regrowing, healing, a budget, and what options are refused."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam, Optimizer
from typing_extensions import override

import abscise
from abscise import attach
from abscise.penalties import L0, L1, GroupLasso, GroupTransformedL1, IntegratedTransformedL1
from abscise.sparsify import Cubic, PerDepth, Proximal, Rows, WarmUp
from abscise.sparsify._budget import Budget, Control
from support.sparsifier_cases import unit_map
from support.sparsifying import same, small_network, state_of, train


def test_the_strength_follows_the_schedule_step_by_step() -> None:
    model = small_network()
    optimizer = SGD(model.parameters(), 0.1)
    seen = []
    with attach(Proximal(L1(), WarmUp(1.0, steps=4, after=1)), optimizer, model) as attachment:
        for step in range(6):
            seen.append(attachment.worker.strength)
            train(model, optimizer, 1, step)
    assert seen == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]


def test_each_layer_has_its_penalty_and_its_factor() -> None:
    model, plain = small_network(), small_network()
    factors = PerDepth((1.0, 0.5, 0.0))
    penalty = IntegratedTransformedL1.at_depth
    sparsifier = Proximal(penalty, 2.0, groups=unit_map(), depth_factor=factors)
    optimizer = SGD(model.parameters(), 0.1)
    worker = attach(sparsifier, optimizer, model).worker
    expected = [IntegratedTransformedL1.at_depth(depth, 3) for depth in (1, 2, 3)]
    assert [layer.penalty for layer in worker.layers] == expected
    train(model, optimizer, 1)
    train(plain, SGD(plain.parameters(), 0.1), 1)
    for depth, factor, names in (
        (0, 1.0, ("0.weight", "1.weight", "1.bias")),
        (1, 0.5, ("3.weight", "3.bias", "4.weight", "4.bias")),
        (2, 0.0, ("7.weight", "7.bias")),
    ):
        rows = len(plain.get_parameter(names[0]))
        parts = [plain.get_parameter(name).detach().reshape(rows, -1) for name in names]
        matrix = expected[depth].prox(torch.cat(parts, 1), 0.2 * factor)
        found = [model.get_parameter(name).detach().reshape(rows, -1) for name in names]
        assert torch.equal(torch.cat(found, 1), matrix)


def zeros(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value == 0 for name, value in state_of(model).items() if value.ndim > 1}


@pytest.mark.parametrize("regrow", [True, False])
def test_zeros_grow_again_only_if_they_may(regrow: bool) -> None:
    model = small_network()
    optimizer = Adam(model.parameters(), 0.01)
    strength = {1: 20.0, 2: 20.0}
    sparsifier = Proximal(
        L1(), lambda step: strength.get(step, 1e-4), regrow=regrow, metric="plain"
    )
    with attach(sparsifier, optimizer, model):
        train(model, optimizer, 2)
        before = zeros(model)
        train(model, optimizer, 4, 2)
    after = zeros(model)
    stayed = all(bool(after[name][mask].all()) for name, mask in before.items())
    assert sum(int(mask.sum()) for mask in before.values()) > 100
    assert stayed is not regrow


def test_units_of_two_layers_behind_one_norm_are_all_held() -> None:
    """Their scales lie in one parameter, of which each layer's units have a part."""

    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 3), nn.Linear(4, 5)
            self.norm, self.out = nn.BatchNorm1d(8), nn.Linear(8, 2)

        @override
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.norm(torch.cat([self.one(x), self.two(x)], 1)).relu())

    with torch.random.fork_rng():
        _ = torch.manual_seed(0)
        model, inputs = Joined(), torch.randn(8, 4)
    units = abscise.find_units(model, inputs)
    optimizer = Adam(model.parameters(), 0.01)
    strength = {1: 200.0}
    sparsifier = Proximal(
        GroupLasso(), lambda step: strength.get(step, 1e-9), units, regrow=False, metric="plain"
    )
    with attach(sparsifier, optimizer, model):
        for _ in range(3):
            optimizer.zero_grad()
            model(inputs).square().sum().backward()
            optimizer.step()
    assert not model.norm.weight.any()


def test_what_was_zero_from_the_start_may_grow() -> None:
    """A bias that begins at 0 was not killed by anybody."""
    model = small_network()
    for index in (1, 4):
        torch.nn.init.zeros_(model.get_parameter(f"{index}.bias"))
    optimizer = SGD(model.parameters(), 0.1)
    with attach(Proximal(GroupLasso(), 1e-3, groups=unit_map(), regrow=False), optimizer, model):
        train(model, optimizer, 2)
    assert bool(model.get_parameter("1.bias").ne(0).all())


@pytest.mark.parametrize("by_units", [False, True])
def test_healing_keeps_the_zeros_and_shrinks_no_more(by_units: bool) -> None:
    options: dict[str, Any] = {"groups": unit_map(), "metric": "plain"} if by_units else {}
    penalty, strength = (GroupLasso(), 0.4) if by_units else (L1(), 0.01)
    model, other = small_network(), small_network()
    optimizer, its = Adam(model.parameters(), 0.01), Adam(other.parameters(), 0.01)
    by_step = attach(Proximal(penalty, strength, heal_at=30, **options), optimizer, model)
    by_call = attach(Proximal(penalty, strength, **options), its, other)
    train(model, optimizer, 30)
    train(other, its, 30)
    by_call.worker.heal()
    assert by_step.worker.healing
    before, weights = zeros(model), state_of(model)
    share = by_step.worker.sparsity
    assert 0 < share < 1
    train(model, optimizer, 5, 30)
    train(other, its, 5, 30)
    assert same(state_of(model), state_of(other))
    assert same(zeros(model), before)
    assert by_step.worker.sparsity == share
    assert not same(state_of(model), weights)


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    data = load_digits()
    return torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)


Made = Callable[[Iterable[torch.Tensor]], Optimizer]


def momentum(weights: Iterable[torch.Tensor]) -> Optimizer:
    return SGD(weights, 0.1, momentum=0.9)


def adam(weights: Iterable[torch.Tensor]) -> Optimizer:
    return Adam(weights, 1e-3)


# Penalty, options, optimizer, and a strength that is about right.
BUDGETS: dict[str, tuple[Any, dict[str, Any], Made, float]] = {
    "l1, sgd": (L1(), {}, momentum, 1e-3),
    "l1, adam": (L1(), {}, adam, 1e-4),
    "l0, sgd": (L0(), {}, momentum, 1e-3),
    "units, sgd": (GroupLasso(), {"groups": "units"}, momentum, 1e-3),
    "units, adam": (GroupLasso(), {"groups": "units"}, adam, 1e-3),
    "units, transformed": (GroupTransformedL1(0.1), {"groups": "units"}, momentum, 1e-3),
}


def trained_to_a_budget(case: str, factor: float) -> tuple[float, float, float]:
    """Share wanted and reached, and the accuracy, from a start that is wrong by a factor."""
    penalty, options, make, strength = BUDGETS[case]
    inputs, labels = digits()
    with torch.random.fork_rng():
        _ = torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(64, 200), nn.ReLU(), nn.Linear(200, 100), nn.ReLU(), nn.Linear(100, 10)
        )
        order = torch.randint(0, 1500, (400, 64))
    if options:
        options = {"groups": abscise.find_units(model, inputs[:2])}
    target = 0.7 if options else 0.9
    optimizer = make(model.parameters())
    start = strength * factor
    sparsifier = Proximal(penalty, start, target_sparsity=target, target_by=400, **options)
    with attach(sparsifier, optimizer, model) as attachment:
        for chosen in order:
            optimizer.zero_grad()
            cross_entropy(model(inputs[chosen]), labels[chosen]).backward()
            optimizer.step()
        share = attachment.worker.sparsity
    accuracy = (model(inputs[1500:]).argmax(1) == labels[1500:]).float().mean()
    return target, share, float(accuracy)


@pytest.mark.parametrize("case", BUDGETS)
@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_a_budget_is_reached_within_one_percent_at_its_step_from_any_start_and_the_network_learns(
    case: str, factor: float
) -> None:
    target, share, accuracy = trained_to_a_budget(case, factor)
    assert abs(share - target) <= 0.01
    assert accuracy > 0.7


def test_a_budget_that_is_not_steered_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsteered(_self: Budget, control: Control, *_: float) -> Control:
        return control

    monkeypatch.setattr(Budget, "steered_by_wait", unsteered)
    target, share, _ = trained_to_a_budget("units, adam", 0.01)
    assert abs(share - target) > 0.1


def test_a_budget_of_few_steps_comes_near_from_a_start_that_is_far_too_weak() -> None:
    model = small_network()
    optimizer = SGD(model.parameters(), 0.1)
    sparsifier = Proximal(L1(), 0.01, target_sparsity=0.7, target_by=30)
    with attach(sparsifier, optimizer, model) as attachment:
        train(model, optimizer, 30)
        assert 0.45 < attachment.worker.sparsity < 0.95


def test_a_budget_of_groups_that_is_reached_is_held_and_nothing_shrinks_any_more() -> None:
    model = small_network()
    optimizer = SGD(model.parameters(), 0.1)
    sparsifier = Proximal(GroupLasso(), 1.0, groups=Rows(), target_sparsity=0.5, target_by=30)
    with attach(sparsifier, optimizer, model) as attachment:
        train(model, optimizer, 60)
        shares = [attachment.worker.sparsity]
        assert attachment.worker.healing
        train(model, optimizer, 10)
        shares.append(attachment.worker.sparsity)
    assert shares[0] == shares[1]
    assert abs(shares[0] - 0.5) <= 1 / 15


REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "penalty": ({"penalty": "l1"}, TypeError, "penalty must be one of abscise.penalties"),
    "type": ({"penalty": L1}, TypeError, "penalty must be one of"),
    "negative": ({"strength": -0.1}, ValueError, r"strength must be >= 0 and finite, got -0\.1"),
    "nan": ({"strength": float("nan")}, ValueError, "strength must be >= 0 and finite, got nan"),
    "groups": ({"groups": 3}, TypeError, "groups must be a UnitMap, Rows"),
    "class": ({"groups": Rows}, TypeError, "groups must be a UnitMap, Rows"),
    "metric": ({"metric": "adam"}, ValueError, "must be one of auto, plain, adaptive, got 'adam'"),
    "where": ({"where": "0"}, TypeError, "where must be a tuple of name patterns, got '0'"),
    "scale": ({"least_scale": -1.0}, ValueError, "least_scale must be >= 0"),
    "heal": ({"heal_at": -1}, ValueError, "heal_at must be >= 0, got -1"),
    "above": ({"target_sparsity": 1.5, "target_by": 9}, ValueError, r"in \(0, 1\), got 1\.5"),
    "below": ({"target_sparsity": -0.1, "target_by": 9}, ValueError, r"in \(0, 1\), got -0\.1"),
    "alone": (
        {"target_sparsity": 0.5},
        ValueError,
        "target_sparsity and target_by belong together",
    ),
    "never": (
        {"target_sparsity": 0.5, "target_by": 0},
        ValueError,
        "target_by must be a step >= 1",
    ),
    "from zero": (
        {"target_sparsity": 0.5, "target_by": 9, "strength": 0.0},
        ValueError,
        "strength is where it starts: > 0, got 0",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_impossible_option_is_refused_in_one_line(case: str) -> None:
    options, kind, text = REFUSED[case]
    with pytest.raises(kind, match=text) as refused:
        _ = Proximal(**{"penalty": L1(), "strength": 0.1, **options})
    assert "\n" not in str(refused.value)


def test_what_a_function_of_depth_or_step_gives_is_checked() -> None:
    model = small_network()
    optimizer = SGD(model.parameters(), 0.1)
    with pytest.raises(TypeError, match="penalty gives 'l1' for layer 1, which is no penalty"):
        _ = attach(Proximal(lambda *_: "l1", 0.1), optimizer, model)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one factor for each of the 4 layers, got 2"):
        _ = attach(Proximal(L1(), 0.1, depth_factor=PerDepth((1, 2))), optimizer, model)
    attachment = attach(Proximal(L1(), lambda step: 2.0 - step), optimizer, model)
    train(model, optimizer, 2)
    with pytest.raises(ValueError, match=r"step 3: strength must be >= 0 and finite, got -1\.0"):
        train(model, optimizer, 1)
    assert attachment.worker.step == 2


def test_a_cubic_strength_is_reached_at_its_end() -> None:
    assert Cubic(2.0, 10, after=5)(5) == 0
    assert Cubic(2.0, 10, after=5)(15) == 2.0
