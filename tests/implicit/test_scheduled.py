"""Times of death under schedulers meet torch's own; the same law without the schedule does not."""

import copy
import io
import math
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from rich.console import Console
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
from typing_extensions import override

from abscise.implicit import NEVER, Diagnosis, Rule, diagnose, history_of, steps_to
from abscise.implicit._diagnosis import Fate, Outcome
from abscise.implicit._rates import rates_from
from abscise.implicit._scheduled import rules_of
from abscise.report._diagnosis import parts_table
from support.diagnosing import X
from support.isolated import steps_below_in_a_run

TOLERANCE, LEEWAY = 0.03, 20  # the latter in steps, of a run of thousands
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


def law_and_torch(
    make: Callable[[list[Tensor]], Optimizer],
    schedule: Callable[[Optimizer], LRScheduler],
    run: int,
    sizes: tuple[float, float],
    past: tuple[float, int],
    since: int = 0,
) -> tuple[Rule, float, float]:
    """The rule, the steps that its law foretells, and those that torch takes."""
    optimizer = make([torch.zeros(1, requires_grad=True)])
    (rule,) = rules_of(optimizer, schedule(optimizer), run, 1)
    assert rule is not None
    history = history_of(rule, *past) if past[1] else None
    found = steps_to(rule, *sizes, history, since=since)
    return rule, found, steps_below_in_a_run(make, schedule, run, sizes, past, since)


def asked_in_a_run(optimizer: str, schedule: str, since: int = 0) -> tuple[Rule, float, float]:
    _, _, rms, run = OPTIMIZERS[optimizer]
    past = (rms, 500 if rms else 0)
    return law_and_torch(
        made(optimizer), lambda it: SCHEDULES[schedule](it, run), run, SIZES, past, since
    )


def without_schedule(rule: Rule, optimizer: str) -> float:
    _, _, rms, _ = OPTIMIZERS[optimizer]
    return steps_to(replace(rule, rates=None), *SIZES, history_of(rule, rms, 500) if rms else None)


@pytest.mark.parametrize(("optimizer", "schedule"), PAIRS)
def test_the_time_is_that_of_torch_and_without_the_schedule_it_is_not(
    optimizer: str, schedule: str
) -> None:
    rule, found, measured = asked_in_a_run(optimizer, schedule)
    assert 500 < measured < OPTIMIZERS[optimizer][3]
    assert found == pytest.approx(measured, rel=TOLERANCE, abs=LEEWAY)
    if optimizer == "SGD, momentum" or schedule == "up and down":
        wrong = without_schedule(rule, optimizer)
        assert wrong != pytest.approx(measured, rel=TOLERANCE, abs=LEEWAY)


@pytest.mark.parametrize("since", [700, 2000, 3500])
@pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
def test_a_later_silence_meets_the_later_learning_rates(optimizer: str, since: int) -> None:
    _, found, measured = asked_in_a_run(optimizer, "cosine", since)
    _, early, _ = asked_in_a_run(optimizer, "cosine")
    assert found == pytest.approx(measured, rel=TOLERANCE, abs=LEEWAY)
    assert found != pytest.approx(early, rel=TOLERANCE, abs=LEEWAY)


def adam(lr: float, decay: float, memory: float = 0.999) -> Callable[[list[Tensor]], Optimizer]:
    return lambda weights: Adam(weights, lr, (0.9, memory), weight_decay=decay)


def drops(place: int, factor: float) -> Callable[[Optimizer], LRScheduler]:
    return lambda it: MultiStepLR(it, [place], factor)


JUMPS: Mapping[str, tuple[Any, Any, int, tuple[float, float], tuple[float, int], int]] = {
    # Old gradients are forgotten before the rate falls: the weight jumps, and vanishes after it.
    **{
        f"jumps until the rate falls, {tiny:g}": (
            adam(1e-2, 1e-3, 0.99),
            drops(2500, 1e-3),
            4000,
            (0.05, tiny),
            (1e-3, 100),
            0,
        )
        for tiny in (2e-5, 1e-8, 1e-12, 1e-18)
    },
    "silent too late to jump": (
        adam(1e-2, 1e-3, 0.99),
        drops(2500, 1e-3),
        4000,
        (0.05, 2e-5),
        (1e-3, 100),
        1100,
    ),
    "a long memory keeps it from jumping": (
        adam(1e-3, 1e-3),
        drops(4500, 0.1),
        6000,
        (0.05, 1e-6),
        (1e-4, 3000),
        0,
    ),
    "a large rate and a long memory": (
        adam(0.1, 0.0015),
        drops(3000, 0.1),
        4000,
        (0.05, 1e-3),
        (2e-2, 2000),
        0,
    ),
    **{
        f"the rate starts anew, {run}": (
            adam(0.1, 0.0015),
            lambda it: CosineAnnealingWarmRestarts(it, 500),
            run,
            (0.05, 1e-3),
            (2e-2, 2000),
            0,
        )
        for run in (4000, 4001)
    },
    "the rate starts anew, and the weight jumps each time": (
        adam(0.05, 1e-2, 0.99),
        lambda it: CosineAnnealingWarmRestarts(it, 300),
        3900,
        (0.05, 1e-4),
        (1e-3, 200),
        0,
    ),
}


@pytest.mark.parametrize("name", JUMPS)
def test_a_weight_that_jumps_around_zero_vanishes_when_torchs_does(name: str) -> None:
    make, schedule, run, sizes, past, since = JUMPS[name]
    rule, found, measured = law_and_torch(make, schedule, run, sizes, past, since)
    assert rule.cycle > sizes[1] > 0
    assert found == pytest.approx(measured, rel=TOLERANCE, abs=LEEWAY)
    assert steps_to(replace(rule, rates=None), *sizes) == NEVER


MOMENTA: Mapping[str, tuple[Any, Any, int, tuple[float, int], tuple[float, float]]] = {
    "SGD, one cycle": (
        lambda it: SGD(it, 0.2, 0.9, weight_decay=1.5e-3),
        lambda it: OneCycleLR(it, 0.2, total_steps=6001),
        6000,
        (0.0, 0),
        (0.25, 1e-3),
    ),
    "SGD, one long cycle": (
        lambda it: SGD(it, 0.2, 0.9, weight_decay=1e-3),
        lambda it: OneCycleLR(it, 0.2, total_steps=12_001),
        12_000,
        (0.0, 0),
        (0.25, 1e-3),
    ),
    "SGD, up and down": (
        lambda it: SGD(it, 0.2, 0.9, weight_decay=1e-3),
        lambda it: CyclicLR(it, 0.01, 0.2, 500),
        6000,
        (0.0, 0),
        (0.25, 5e-3),
    ),
    "RMSprop, one cycle": (
        lambda it: RMSprop(it, 2e-5, 0.99, 1e-4, 1e-3, 0.9),
        lambda it: OneCycleLR(it, 2e-5, total_steps=6001),
        6000,
        (1e-3, 500),
        (0.05, 5e-3),
    ),
    "Adam, one cycle": (
        lambda it: Adam(it, 1e-3, weight_decay=1e-3),
        lambda it: OneCycleLR(it, 1e-3, total_steps=6001),
        6000,
        (1e-3, 500),
        (0.05, 5e-3),
    ),
}


@pytest.mark.parametrize("name", MOMENTA)
def test_momentum_that_the_scheduler_changes_counts(name: str) -> None:
    make, schedule, run, past, sizes = MOMENTA[name]
    rule, found, measured = law_and_torch(make, schedule, run, sizes, past)
    assert found == pytest.approx(measured, rel=TOLERANCE, abs=LEEWAY)
    assert measured < run
    optimizer = make([torch.zeros(1, requires_grad=True)])
    scheduler = schedule(optimizer)
    for _ in range(run - 1):
        _ = optimizer.step()
        scheduler.step()
    assert rule.at_end.lr == pytest.approx(optimizer.param_groups[0]["lr"])


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
    """Brute force: silent 1 % of the run earlier it vanishes, 1 % later it does not."""
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

    assert vanishes(part.silent_by - 0.01 * run)
    assert not vanishes(part.silent_by + 0.01 * run)


def test_a_rate_that_falls_too_soon_is_too_slow_and_says_what_it_takes() -> None:
    found = asked(lambda it: StepLR(it, 300, 0.1))
    part = found.parts[0]
    assert (found.outcome, part.fate) == (Outcome.TOO_SLOW, Fate.DIES_LATER)
    assert part.steps == NEVER
    assert part.steps_at_full_rate == pytest.approx(asked(None).parts[0].steps)
    assert "which the run's 6,000 do not have for long enough" in found.verdict
    assert "a learning rate that stays high for longer" in found.more
    assert not any("smaller learning rates" in line for line in found.more)
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


def locked(optimizer: Optimizer) -> LRScheduler:
    scheduler = StepLR(optimizer, 10)
    scheduler.lock = threading.Lock()  # type: ignore[attr-defined]
    return scheduler


class Decaying(StepLR):
    """It lowers the decay, too."""

    def __init__(self, optimizer: Optimizer) -> None:
        super().__init__(optimizer, 10)

    @override
    def get_lr(self) -> list[Any]:
        for group in self.optimizer.param_groups:
            group["weight_decay"] *= 0.99
        return super().get_lr()


REFUSED: Mapping[str, tuple[Callable[[Optimizer], LRScheduler], dict[str, Any], str]] = {
    "no steps": (lambda it: StepLR(it, 9), {"steps": None}, "scheduler needs steps"),
    "plateau": (plateau, {}, "ReduceLROnPlateau goes by figures"),
    "of another": (strange, {}, r"scheduler \(StepLR\) belongs to another optimizer"),
    "ends early": (
        lambda it: OneCycleLR(it, 0.1, total_steps=50),
        {},
        r"scheduler \(OneCycleLR\) ends at step 51 of 6000 to come, one for 1 of the",
    ),
    "negative": (
        lambda it: LambdaLR(it, lambda step: 1 - step / 100),
        {},
        r"scheduler \(LambdaLR\) sets a learning rate of -1e-05 at step 101, for group 0",
    ),
    "no scheduler": (
        lambda it: PolynomialLR(it, 9),
        {"scheduler": "cosine"},
        "scheduler must be of torch.optim.lr_scheduler, got str",
    ),
    "a list that is too short": (
        lambda it: LambdaLR(it, [1.0, 0.5].__getitem__),
        {},
        "ends at step 2 of 6000 to come.*list index out of range",
    ),
    "a lock": (
        locked,
        {},
        r"scheduler \(StepLR\) cannot be copied, to be run ahead: cannot pickle",
    ),
    "another decay": (
        Decaying,
        {},
        r"scheduler \(Decaying\) changes weight_decay, for which no law is known",
    ),
    "every, of none": (
        lambda it: StepLR(it, 9),
        {"scheduler": None, "scheduler_every": 9},
        "scheduler_every is 9, and no scheduler is given",
    ),
    "every 0": (lambda it: StepLR(it, 9), {"scheduler_every": 0}, "scheduler_every must be at"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_told_is_refused_with_the_reason(name: str) -> None:
    schedule, told, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        _ = asked(schedule, **told)


def test_a_rounding_error_below_0_is_0() -> None:
    def to_0(optimizer: Optimizer) -> LRScheduler:
        return LinearLR(optimizer, 1 / 3, 0.0, 5000)

    model = network()
    optimizer = SGD(model.parameters(), 1e-3, weight_decay=1e-3)
    scheduler = to_0(optimizer)
    for _ in range(5000):
        _ = optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] < 0
    found = asked(to_0)
    assert found.outcome in {Outcome.FEW, Outcome.TOO_SLOW}


def test_a_rate_that_only_rises_is_not_told_to_fall_later() -> None:
    def rises(optimizer: Optimizer) -> LRScheduler:
        return LambdaLR(optimizer, lambda step: step / 6000)

    def make(weights: Any, lr: float, weight_decay: float) -> Optimizer:
        return AdamW(weights, 10 * lr, weight_decay=120 * weight_decay)

    found = asked(rises, make=make)
    assert found.outcome is Outcome.TOO_SLOW
    assert "fall" not in found.verdict


def test_a_decay_that_would_explode_is_not_advised() -> None:
    def make(weights: Any, lr: float, weight_decay: float) -> Optimizer:
        return AdamW(weights, 10 * lr, weight_decay=120 * weight_decay)

    found = asked(lambda it: MultiStepLR(it, [500], 1e-2), 1000, make)
    assert found.outcome is Outcome.TOO_SLOW
    assert not any("weight_decay=" in line for line in found.more)


def test_a_schedule_that_keeps_a_silent_unit_from_dying_late_is_what_to_change() -> None:
    found = asked(lambda it: LinearLR(it, 1.0, 0.0, 5990))
    assert (found.outcome, asked(None).outcome) == (Outcome.FEW, Outcome.WILL_DIE)
    assert "a learning rate that stays high for longer" in found.more


def test_a_group_that_stands_still_hides_no_death_in_another() -> None:
    layers = (nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 3))
    model = nn.Sequential(*layers)
    groups: list[dict[str, Any]] = [
        {"params": layers[0].parameters(), "lr": 0.0},
        {"params": [*layers[2].parameters(), *layers[4].parameters()]},
    ]
    optimizer = Adam(groups, 1e-3, weight_decay=1e-3)
    _ = StepLR(optimizer, 5000)
    found = diagnose(model, optimizer, X, steps=6000, gradient_rms=1e-3)
    assert {part.group for part in found.parts if part.carries} == {0, 1}
    assert found.outcome is Outcome.WILL_DIE
    optimizer.param_groups[1]["lr"] = 0.0
    found = diagnose(model, optimizer, X, steps=6000, gradient_rms=1e-3)
    assert found.outcome is Outcome.UNKNOWN


def test_late_is_said_of_what_comes_after_the_run_only() -> None:
    table = Console(width=200, file=io.StringIO(), record=True)
    for schedule, late in (
        (lambda it: StepLR(it, 300, 0.1), True),
        (lambda it: LambdaLR(it, lambda _: 0.0), False),
    ):
        table.print(parts_table(asked(schedule)))
        assert ("late" in table.export_text()) == late


def test_the_last_scheduler_step_may_be_cut_short() -> None:
    def make(weights: Any, lr: float, weight_decay: float) -> Optimizer:
        return AdamW(weights, 10 * lr, weight_decay=500 * weight_decay)

    found = asked(lambda it: ExponentialLR(it, 0.9), 1000, make, scheduler_every=600)
    assert found.parts[0].steps == NEVER


def test_rates_add_up_and_are_found_again() -> None:
    rates = rates_from([0.0, 0.5, 1.0, 0.0, 0.25])
    assert (rates.steps, rates.end) == (5, 0.25)
    assert rates.between(0, 5) == rates.between(0, 99) == 1.75
    assert rates.between(1.5, 2.5) == 0.75
    assert rates.until(0, 0.5) == 2
    assert rates.until(2.5, 0.5) == 0.5
    assert rates.until(3, 0.25) == 2
    assert rates.until(3, 0.26) == math.inf
    assert rates.recent(0.25) == 0.25
    assert rates.recent(99) == pytest.approx((0.25 + 1 + 0.0625) / 1.75)
    for first in (0.0, 0.7, 1.2, 3.5):
        for worth in (0.1, 0.2, 0.25):
            steps = rates.until(first, worth)
            assert rates.between(first, first + steps) == pytest.approx(worth)
    squares = rates.through(lambda share: share**2)
    assert squares.between(0, 5) == pytest.approx(0.25 + 1 + 0.0625, rel=1e-4)
