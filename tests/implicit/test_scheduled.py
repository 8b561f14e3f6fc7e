"""Times of death under schedulers meet torch's own; the same law without the schedule does not."""

import copy
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adadelta, Adagrad, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from abscise.implicit import NEVER, Diagnosis, Rule, diagnose, history_of, steps_to
from abscise.implicit._diagnosis import Fate, Outcome
from abscise.implicit._rates import rates_from
from abscise.implicit._scheduled import rules_of
from support.diagnosing import X
from support.isolated import steps_below_in_a_run

TOLERANCE, LEEWAY = 0.03, 12  # the latter in steps, of a run of thousands
Scheduled = Callable[[Optimizer, int], LRScheduler]

SCHEDULES: Mapping[str, Scheduled] = {
    "warm-up": lambda it, run: LambdaLR(it, lambda step: min(1.0, 3 * step / run)),
    "cosine": CosineAnnealingLR,
    "drops": lambda it, run: MultiStepLR(it, [run // 8, run // 3], 0.4),
    "restarts": lambda it, run: CosineAnnealingWarmRestarts(it, run // 5),
    "straight": PolynomialLR,
    "up and down": lambda it, run: SequentialLR(
        it, [LinearLR(it, 0.01, 1.0, run // 4), CosineAnnealingLR(it, run)], [run // 4]
    ),
    "one cycle": lambda it, run: OneCycleLR(
        it, it.param_groups[0]["lr"], total_steps=run + 1, cycle_momentum=False
    ),
}

OPTIMIZERS: Mapping[str, tuple[type[Optimizer], Mapping[str, Any], float, int]] = {
    "Adam": (Adam, {"lr": 1e-3, "weight_decay": 1e-3}, 1e-3, 4000),
    "Adam, no memory to speak of": (
        Adam,
        {"lr": 4e-5, "weight_decay": 1e-3, "betas": (0.9, 0.95), "eps": 1e-5},
        0.0,
        6000,
    ),
    "AMSGrad": (Adam, {"lr": 1e-3, "weight_decay": 2e-3, "amsgrad": True}, 1e-3, 6000),
    "AdamW": (AdamW, {"lr": 1e-2, "weight_decay": 0.2}, 0.0, 6000),
    "RMSprop, momentum": (
        RMSprop,
        {"lr": 2e-5, "weight_decay": 1e-3, "alpha": 0.99, "momentum": 0.9, "eps": 1e-4},
        1e-3,
        6000,
    ),
    "Adagrad": (Adagrad, {"lr": 2e-2, "weight_decay": 1e-3}, 1e-3, 6000),
    "Adadelta": (Adadelta, {"lr": 3.0, "weight_decay": 1e-3}, 1e-3, 6000),
    "SGD": (SGD, {"lr": 0.2, "weight_decay": 1e-2}, 0.0, 6000),
    "SGD, momentum": (SGD, {"lr": 0.2, "weight_decay": 1e-3, "momentum": 0.9}, 0.0, 6000),
}
"""Optimizer, its options, size of the gradients before, and steps of the run."""

PAIRS = [
    *((name, "up and down") for name in OPTIMIZERS),
    *(("Adam", name) for name in SCHEDULES if name != "up and down"),
    *(("SGD, momentum", name) for name in SCHEDULES if name != "up and down"),
]
SIZES = (0.05, 0.005)


def made(optimizer: str) -> Callable[[list[Tensor]], Optimizer]:
    kind, options, _, _ = OPTIMIZERS[optimizer]
    return lambda weights: kind(weights, **options)


def rule_in_a_run(optimizer: str, schedule: str, run: int) -> Rule:
    opt = made(optimizer)([torch.zeros(1, requires_grad=True)])
    (rule,) = rules_of(opt, SCHEDULES[schedule](opt, run), run, 1)
    assert rule is not None
    return rule


@pytest.mark.parametrize(("optimizer", "schedule"), PAIRS)
def test_the_time_is_that_of_torch_and_without_the_schedule_it_is_not(
    optimizer: str, schedule: str
) -> None:
    _, _, rms, run = OPTIMIZERS[optimizer]
    past = (rms, 500 if rms else 0)
    rule = rule_in_a_run(optimizer, schedule, run)
    history = history_of(rule, *past) if rms else None
    measured = steps_below_in_a_run(
        made(optimizer), lambda it: SCHEDULES[schedule](it, run), run, SIZES, past
    )
    found = steps_to(rule, *SIZES, history)
    assert 500 < measured < run
    assert found == pytest.approx(measured, rel=TOLERANCE, abs=LEEWAY)
    wrong = steps_to(replace(rule, rates=None), *SIZES, history)
    if optimizer == "SGD, momentum" or schedule == "up and down":
        assert wrong != pytest.approx(measured, rel=TOLERANCE, abs=LEEWAY)


@pytest.mark.parametrize("since", [700, 2000, 3500])
@pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
def test_a_later_silence_meets_the_later_learning_rates(optimizer: str, since: int) -> None:
    _, _, rms, run = OPTIMIZERS[optimizer]
    past = (rms, 500 if rms else 0)
    rule = rule_in_a_run(optimizer, "cosine", run)
    history = history_of(rule, *past) if rms else None
    measured = steps_below_in_a_run(
        made(optimizer), lambda it: SCHEDULES["cosine"](it, run), run, SIZES, past, since
    )
    found = steps_to(rule, *SIZES, history, since=since)
    assert found == pytest.approx(measured, rel=TOLERANCE, abs=LEEWAY)
    assert found != pytest.approx(steps_to(rule, *SIZES, history), rel=TOLERANCE, abs=LEEWAY)


def test_a_weight_in_its_cycle_vanishes_once_the_learning_rate_falls() -> None:
    run, sizes = 4000, (0.05, 2e-5)

    def make(weights: list[Tensor]) -> Optimizer:
        return Adam(weights, 1e-2, (0.9, 0.99), weight_decay=1e-3)

    def drops(optimizer: Optimizer) -> LRScheduler:
        return MultiStepLR(optimizer, [2500], 1e-3)

    optimizer = make([torch.zeros(1, requires_grad=True)])
    (rule,) = rules_of(optimizer, drops(optimizer), run, 1)
    assert rule is not None
    assert rule.at_end.cycle == 0 < sizes[1] < rule.cycle
    measured = steps_below_in_a_run(make, drops, run, sizes, (1e-3, 100))
    found = steps_to(rule, *sizes, history_of(rule, 1e-3, 100))
    assert found == pytest.approx(measured, rel=TOLERANCE)
    later = steps_to(rule, *sizes, history_of(rule, 1e-3, 100), since=1000)
    assert later == pytest.approx(measured - 1000, rel=TOLERANCE)
    assert steps_to(replace(rule, rates=None), *sizes) == NEVER


def network() -> nn.Sequential:
    _ = torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))


def asked(
    schedule: Callable[[Optimizer], LRScheduler] | None,
    steps: int = 6000,
    make: Callable[..., Optimizer] = Adam,
    **told: Any,
) -> Diagnosis:
    model = network()
    optimizer = make(model.parameters(), lr=1e-3, weight_decay=1e-3)
    scheduler = None if schedule is None else schedule(optimizer)
    told = {"gradient_rms": 1e-3, "scheduler": scheduler, **told}
    return diagnose(model, optimizer, X, steps=steps, **told)


def test_a_learning_rate_that_stays_is_as_none() -> None:
    plain, constant = asked(None), asked(lambda it: LambdaLR(it, lambda _: 1.0))
    assert constant.scheduled
    assert constant.parts == plain.parts
    assert (constant.verdict, constant.more) == (plain.verdict, plain.more)


def test_half_a_rate_is_that_of_half_the_learning_rate() -> None:
    def half(weights: Any, lr: float, weight_decay: float) -> Optimizer:
        return Adam(weights, lr / 2, weight_decay=weight_decay)

    assert asked(lambda it: LambdaLR(it, lambda _: 0.5)).parts == asked(None, make=half).parts


def test_a_warm_up_from_0_is_unknown_without_its_scheduler_and_known_with_it() -> None:
    def warm_up(optimizer: Optimizer) -> LRScheduler:
        return LambdaLR(optimizer, lambda step: min(1.0, step / 500))

    without = asked(warm_up, scheduler=None)
    assert without.outcome is Outcome.UNKNOWN
    assert "give scheduler=" in without.verdict
    known, constant = asked(warm_up), asked(None)
    assert known.outcome is constant.outcome is Outcome.WILL_DIE
    assert known.parts[0].lr == constant.parts[0].lr
    assert 0 < (known.parts[0].steps or 0) - (constant.parts[0].steps or 0) < 500


def test_a_scheduler_that_is_not_given_is_said() -> None:
    found = asked(lambda it: CosineAnnealingLR(it, 6000), scheduler=None)
    assert any("give scheduler=" in line for line in found.findings)
    assert not any("give scheduler=" in line for line in asked(None).findings)


@pytest.mark.parametrize("schedule", ["cosine", "drops"])
def test_the_last_step_to_fall_silent_is_that_of_torch(schedule: str) -> None:
    """Brute force: silent 5 % of the run earlier it vanishes, 5 % later it does not."""
    run = 6000
    found = asked(lambda it: SCHEDULES[schedule](it, run), run)
    part = next(it for it in found.parts if it.carries)
    layer = part.layers[0]
    assert part.silent_by is not None
    assert part.steps is not None
    constant = asked(None, run).parts[0]
    assert constant.silent_by == pytest.approx(run - (constant.steps or 0))
    assert part.silent_by < 0.95 * (run - part.steps)

    def vanishes(since: float) -> bool:
        count = steps_below_in_a_run(
            lambda it: Adam(it, 1e-3, weight_decay=1e-3),
            lambda it: SCHEDULES[schedule](it, run),
            run,
            (layer.start, found.threshold),
            (math.hypot(1e-3, 1e-3 * layer.start), run // 2),
            round(since),
        )
        return count < math.inf

    assert vanishes(part.silent_by - 0.05 * run)
    assert not vanishes(part.silent_by + 0.05 * run)


def test_a_rate_that_falls_too_soon_is_too_slow_and_says_what_it_takes() -> None:
    found = asked(lambda it: StepLR(it, 300, 0.1))
    part = found.parts[0]
    assert (found.outcome, part.fate) == (Outcome.TOO_SLOW, Fate.DIES_LATER)
    assert part.steps == NEVER
    assert part.steps_at_full_rate == pytest.approx(asked(None).parts[0].steps)
    assert "which falls too soon in the run's 6,000" in found.verdict
    assert "a learning rate that falls later, or not as far" in found.more
    assert found.to_json()["parts"][0]["steps"] is None


def test_what_is_late_by_the_schedule_alone_says_by_when() -> None:
    found = asked(lambda it: CosineAnnealingLR(it, 6000))
    part = found.parts[0]
    assert (found.outcome, part.fate) == (Outcome.FEW, Fate.DIES_LATE)
    assert asked(None).parts[0].fate is Fate.DIES
    assert f"silent by step {part.silent_by:,.0f}" in found.verdict


def test_steps_of_the_scheduler_may_be_epochs() -> None:
    every = asked(lambda it: ExponentialLR(it, 0.5), scheduler_every=1000)
    spelled = asked(lambda it: LambdaLR(it, lambda step: 0.5 ** (step // 1000)))
    assert every.parts == spelled.parts
    assert every.parts != asked(lambda it: ExponentialLR(it, 0.5)).parts


def test_each_group_has_its_own_schedule() -> None:
    model = network()
    groups = [{"params": [it], "weight_decay": 1e-3} for it in model.parameters()]
    optimizer = Adam(groups, 1e-3)
    scheduler = LambdaLR(optimizer, [lambda _: 1.0, *[lambda step: 0.9**step] * 3])
    found = diagnose(model, optimizer, X, steps=6000, gradient_rms=1e-3, scheduler=scheduler)
    fates = {part.group: part.fate for part in found.parts if part.start > 0}
    assert fates[0] is Fate.DIES
    assert fates[3] is Fate.DIES_LATER


@pytest.mark.parametrize("schedule", [*SCHEDULES, "cyclic"])
def test_scheduler_and_optimizer_stay_as_they_are(schedule: str) -> None:
    model = network()
    optimizer = SGD(model.parameters(), torch.tensor(0.1), 0.9, weight_decay=1e-3)
    if schedule == "cyclic":
        scheduler: LRScheduler = CyclicLR(optimizer, 0.01, 0.1, 50)
    else:
        scheduler = SCHEDULES[schedule](optimizer, 500)
    rates = [group["lr"] for group in optimizer.param_groups]
    before = copy.deepcopy((scheduler.state_dict(), optimizer.state_dict(), rates))
    step = optimizer.step
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _ = diagnose(model, optimizer, X, steps=300, scheduler=scheduler)
    assert str(before) == str((scheduler.state_dict(), optimizer.state_dict(), rates))
    assert all(a is g["lr"] for a, g in zip(rates, optimizer.param_groups, strict=True))
    assert optimizer.step == step
    assert scheduler.optimizer is optimizer


def test_a_scheduler_under_way_is_run_on_from_where_it_is() -> None:
    model = network()
    optimizer = SGD(model.parameters(), 0.1, weight_decay=1e-3)
    scheduler = MultiStepLR(optimizer, [10], 0.1)
    for _ in range(10):
        _ = optimizer.step()
        scheduler.step()
    (rule,) = rules_of(optimizer, scheduler, 50, 1)
    assert rule is not None
    assert rule.lr == pytest.approx(0.01)
    assert rule.rates is None


def plateau(optimizer: Optimizer) -> LRScheduler:
    return ReduceLROnPlateau(optimizer)


def strange(_: Optimizer) -> LRScheduler:
    return StepLR(SGD(network().parameters(), 0.1), 10)


REFUSED: Mapping[str, tuple[Callable[[Optimizer], LRScheduler], dict[str, Any], str]] = {
    "no steps": (lambda it: StepLR(it, 9), {"steps": None}, "scheduler needs steps"),
    "plateau": (plateau, {}, "ReduceLROnPlateau goes by figures"),
    "of another": (strange, {}, r"scheduler \(StepLR\) belongs to another optimizer"),
    "ends early": (
        lambda it: OneCycleLR(it, 0.1, total_steps=50),
        {},
        r"scheduler \(OneCycleLR\) ends at step 51 of 6000 to come, each of 1 steps",
    ),
    "negative": (
        lambda it: LambdaLR(it, lambda step: 1 - step / 100),
        {},
        r"scheduler \(LambdaLR\) sets a learning rate of -1e-05 at step 101",
    ),
    "every 0": (lambda it: StepLR(it, 9), {"scheduler_every": 0}, "scheduler_every must be at"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_told_is_refused_with_the_reason(name: str) -> None:
    schedule, told, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        _ = asked(schedule, **told)


def test_rates_add_up_and_are_found_again() -> None:
    rates = rates_from([0.0, 0.5, 1.0, 0.0, 0.25])
    assert (rates.steps, rates.last) == (5, 0.25)
    assert rates.between(0, 5) == rates.between(0, 99) == 1.75
    assert rates.between(1.5, 2.5) == 0.75
    assert rates.until(0, 0.5) == 2
    assert rates.until(2.5, 0.5) == 0.5
    assert rates.until(3, 0.25) == 2
    assert rates.until(3, 0.26) == math.inf
    assert [rates.below(share) for share in (1.0, 0.5, 0.2)] == [0, 3, 5]
    for first in (0.0, 0.7, 1.2, 3.5):
        for worth in (0.1, 0.2, 0.25):
            steps = rates.until(first, worth)
            assert rates.between(first, first + steps) == pytest.approx(worth)
    squares = rates.through(lambda share: share**2)
    assert squares.between(0, 5) == pytest.approx(0.25 + 1 + 0.0625, rel=1e-4)
