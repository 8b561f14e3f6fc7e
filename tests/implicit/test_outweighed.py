"""What leaks through below a bend against L2: the law, on torch's own optimizers."""

import math
from collections.abc import Callable
from dataclasses import astuple
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, MultiStepLR
from typing_extensions import override

from abscise.implicit import Diagnosis, Leak, Outcome, diagnose, read_rule, sgd_wd
from abscise.implicit._outweighed import HELD, KEPT, Against, against
from abscise.implicit._rates import rates_from
from abscise.implicit._rule import SHRINK

L2, LR = 1e-3, 1e-3
UNITS, WEIGHTS, START, STEPS = 48, 16, 0.02, 3000
GAINS = {"momentum": 2.0}
KINDS: dict[str, Callable[..., Optimizer]] = {  # with eps above what makes dead weights jump
    "Adam": partial(Adam, eps=1e-7),
    "RMSprop": partial(RMSprop, eps=1e-6),
    "momentum": partial(RMSprop, eps=1e-6, momentum=0.5),
}
X = torch.zeros(2, 6)


def below_the_bend(
    kind: str, written: float, read: float, share: Callable[[int], float] = lambda _: 1.0
) -> tuple[Tensor, Tensor]:
    """What writes and what reads some units, after steps with noise as large as the other side."""
    _ = torch.manual_seed(0)
    sides = [(torch.randn(UNITS, WEIGHTS) * START).requires_grad_() for _ in range(2)]
    optimizer = KINDS[kind](sides, lr=LR, weight_decay=L2)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = LR * share(step)
        sizes = [it.detach().square().mean(1, keepdim=True).sqrt() for it in sides]
        sides[0].grad = written * sizes[1] * torch.randn(UNITS, WEIGHTS)
        sides[1].grad = read * sizes[0] * torch.randn(UNITS, WEIGHTS)
        _ = optimizer.step()
    return sides[0].detach(), sides[1].detach()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("skew", [1.0, 2.0])
def test_where_l2_is_outweighed_both_sides_rest_at_the_floor(kind: str, skew: float) -> None:
    leak = 1.5 * HELD * L2
    written, read = leak * skew, leak / skew
    expected = [
        GAINS.get(kind, 1.0) * LR * math.cbrt(one**2 * other) / (2 * L2)
        for one, other in ((written, read), (read, written))
    ]
    sides = below_the_bend(kind, written, read)
    found = [it.square().mean().sqrt().item() for it in sides]
    assert found == pytest.approx(expected, rel=0.25)
    lost = [(it.abs().amax(1) < 0.1 * it.abs().max()).float().mean().item() for it in sides]
    assert max(lost) < 0.2


FALLS: dict[str, tuple[Callable[[int], float], bool]] = {
    "at the last step": (lambda step: 1.0 if step < STEPS - 1 else 0.01, True),
    "too fast to follow": (lambda step: 1.0 if step < STEPS - 300 else 0.01, True),
    "early": (lambda step: 1.0 if step < 500 else 0.3, False),
    "by a cosine": (lambda step: (1 + math.cos(math.pi * step / STEPS)) / 2, False),
}


@pytest.mark.parametrize("fall", FALLS)
@pytest.mark.parametrize("kind", ["Adam", "RMSprop"])
def test_the_floor_stays_up_unless_l2_has_the_steps_to_follow_the_learning_rate(
    kind: str, fall: str
) -> None:
    share, stays = FALLS[fall]
    leak = 1.5 * HELD * L2
    floor = LR * leak / (2 * L2)
    relaxes = leak * floor / (2 * LR * L2)
    rates = rates_from(share(step) for step in range(STEPS))
    assert (rates.recent(relaxes) >= KEPT) is stays
    for side in below_the_bend(kind, leak, leak, share):
        assert (side.square().mean().sqrt() > KEPT * floor).item() is stays


def test_a_schedule_that_lets_the_floor_fall_holds_no_unit() -> None:
    """The same network: at a constant rate, at one that falls too late to matter, by a cosine."""
    run = 20_000
    found = []
    for schedule in (
        lambda it: LambdaLR(it, lambda _: 1.0),
        lambda it: MultiStepLR(it, [run - 100], 0.01),
        lambda it: CosineAnnealingLR(it, run),
    ):
        model = Leaking(nn.LeakyReLU(0.3))
        optimizer = Adam(model.parameters(), LR, weight_decay=L2)
        scheduler = schedule(optimizer)
        said = diagnose(model, optimizer, X, steps=run, gradient_rms=0.03, scheduler=scheduler)
        found.append(said.outcome)
    assert found == [Outcome.UNLIKELY, Outcome.UNLIKELY, Outcome.DEPENDS]


@pytest.mark.parametrize("kind", ["Adam", "RMSprop"])
def test_where_l2_outweighs_the_leak_every_unit_is_lost(kind: str) -> None:
    for side in below_the_bend(kind, L2, L2):
        assert (side.abs().amax(1) < 1e-6).all()


class Leaking(nn.Module):
    """A function between two layers, as a module or not."""

    def __init__(self, function: Callable[[Tensor], Tensor], *, norm: bool = False) -> None:
        super().__init__()
        _ = torch.manual_seed(0)
        self.one, self.two = nn.Linear(6, 20), nn.Linear(20, 3)
        self.norm: nn.Module = nn.BatchNorm1d(20) if norm else nn.Identity()
        self.function = function

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        return self.two(self.function(self.norm(self.one(inputs))))


FORMS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "leaky": (nn.LeakyReLU(), 0.01),
    "steeper": (nn.LeakyReLU(0.3), 0.3),
    "the other way round": (nn.LeakyReLU(-0.2), 0.2),
    "random": (nn.RReLU(0.1, 0.3), 0.2),
    "random of both signs": (nn.RReLU(-0.3, 0.3), 0.15),
    "learned": (nn.PReLU(3, init=0.25), 0.25),
    "function": (lambda it: functional.leaky_relu(it, 0.05), 0.05),
    "function by name": (lambda it: functional.leaky_relu(it, negative_slope=0.05), 0.05),
    "function in place": (lambda it: functional.leaky_relu_(it, 0.07), 0.07),
    "random function": (lambda it: functional.rrelu(it, 0.1, upper=0.3), 0.2),
    "learned function": (lambda it: functional.prelu(it, torch.tensor([-0.4])), 0.4),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_slope_below_the_bend_is_found(form: str) -> None:
    function, slope = FORMS[form]
    if form == "learned":
        function = nn.PReLU(20, init=0.5)
        with torch.no_grad():
            function.weight[7] = -slope  # the smallest counts
    model = Leaking(function)
    found = diagnose(model, Adam(model.parameters(), LR, weight_decay=L2), X)
    assert found.network.leaks
    assert all(it.slope == pytest.approx(slope) for it in found.network.leaks)
    seen = diagnose(model, Adam(model.parameters(), LR, weight_decay=L2)).network.leaks
    assert bool(seen) is isinstance(function, nn.Module)


def test_what_is_called_counts_and_not_what_is_there() -> None:
    model = Leaking(nn.GELU())
    model.unused = nn.LeakyReLU(1e-4)
    optimizer = Adam(model.parameters(), LR, weight_decay=L2)
    assert diagnose(model, optimizer, X).network.leaks == ()
    assert diagnose(model, optimizer).network.leaks == (Leak(1e-4, "leakyrelu"),)


def test_a_function_that_is_only_named_has_torchs_slope() -> None:
    model = Leaking(torch.tanh)
    optimizer = Adam(model.parameters(), LR, weight_decay=L2)
    (leak,) = diagnose(model, optimizer, activations=["leaky_relu"]).network.leaks
    assert leak.slope == nn.LeakyReLU().negative_slope
    assert diagnose(model, optimizer, X, activations=["elu"]).network.leaks == ()
    model = Leaking(nn.LeakyReLU(0.3))
    optimizer = Adam(model.parameters(), LR, weight_decay=L2)
    (leak,) = diagnose(model, optimizer, X, activations=["leaky_relu"]).network.leaks
    assert leak.slope == 0.3  # a name adds nothing to what is seen


class Mine(nn.LeakyReLU):
    """A subclass, whose own name tells nothing."""


def test_a_subclass_is_seen_without_inputs() -> None:
    model = Leaking(Mine(0.2))
    found = diagnose(model, Adam(model.parameters(), LR, weight_decay=L2)).network
    assert found.leaks == (Leak(0.2, "leakyrelu"),)
    assert found.living == ("leakyrelu",)


@pytest.mark.parametrize("slope", [math.nan, math.inf])
def test_what_is_no_number_is_no_slope(slope: float) -> None:
    model = Leaking(nn.LeakyReLU(slope))
    optimizer = Adam(model.parameters(), LR, weight_decay=L2)
    assert diagnose(model, optimizer).network.leaks == ()
    model.function = nn.PReLU(0)
    assert diagnose(model, optimizer).network.leaks == ()
    model.function = nn.LeakyReLU(3.0)  # above the bend it is 1
    assert diagnose(model, optimizer).network.leaks == (Leak(1.0, "leakyrelu"),)


def size_of(model: nn.Module) -> float:
    weights = [it.detach().flatten() for it in model.parameters() if it.dim() > 1]
    return float(torch.cat(weights).square().mean().sqrt())


def asked(
    slope: float,
    ratio: float | None,
    *,
    steps: int | None = 10**7,
    kind: Callable[..., Optimizer] = Adam,
    threshold: float = 1e-3,
    **options: Any,
) -> Diagnosis:
    """What is said where what leaks is `ratio` times what L2 takes."""
    model = Leaking(nn.LeakyReLU(slope))
    rms = None if ratio is None else ratio * L2 * size_of(model) / slope
    optimizer = kind(model.parameters(), **{"lr": LR, "weight_decay": L2, **options})
    return diagnose(model, optimizer, X, steps=steps, gradient_rms=rms, threshold=threshold)


@pytest.mark.parametrize("slope", [0.01, 0.1, 0.3])
def test_the_verdict_follows_the_ratio_of_leak_and_l2_whatever_the_slope(slope: float) -> None:
    below = asked(slope, 0.8 * HELD)
    assert below.outcome is Outcome.DEPENDS
    assert f"lets {slope:g} of a gradient through, 8 times what L2 adds" in below.verdict
    held = asked(slope, 1.2 * HELD)
    assert held.outcome is Outcome.UNLIKELY
    assert f"noise of that size keeps weights at about {1.2 * HELD * LR / 2:.1g}" in held.verdict
    assert not held.less
    assert below.less


def test_a_floor_below_the_threshold_keeps_nothing() -> None:
    assert asked(0.1, 1.2 * HELD, threshold=0.1).outcome is Outcome.DEPENDS
    assert asked(0.1, 1.2 * HELD, threshold=1.1 * HELD * LR / 2 / 5).outcome is Outcome.UNLIKELY
    assert asked(0.1, 1.2 * HELD, threshold=1.3 * HELD * LR / 2 / 5).outcome is Outcome.DEPENDS
    assert asked(0.1, 1.2 * HELD, lr=1e-5).outcome is Outcome.DEPENDS


def test_an_eps_as_large_as_the_gradient_takes_the_law_away() -> None:
    assert asked(0.3, 1.2 * HELD, eps=1e-4).outcome is Outcome.DEPENDS


def test_no_unit_goes_faster_than_one_without_any_gradient() -> None:
    for ratio in (0.1, 1.0, 100.0):
        found = asked(0.01, ratio, steps=20)
        assert found.outcome is Outcome.TOO_SLOW
        assert found.verdict.startswith("No unit will die in time")
    assert asked(0.01, 0.9, steps=None).outcome is Outcome.DEPENDS
    assert asked(0.01, None).outcome is Outcome.DEPENDS


COUPLED: dict[str, dict[str, Any]] = {
    "SGD": {"kind": SGD, "momentum": 0.9},
    "AMSGrad": {"amsgrad": True},
    "Adagrad": {"kind": Adagrad, "lr": 1.0},
}


@pytest.mark.parametrize("name", COUPLED)
def test_where_the_law_does_not_reach_nobody_is_said_to_stay(name: str) -> None:
    assert asked(0.01, 2 * HELD, **COUPLED[name]).outcome is Outcome.DEPENDS
    assert asked(0.01, 2 * HELD, steps=20, **COUPLED[name]).outcome is Outcome.TOO_SLOW


def test_decay_apart_from_the_gradient_does_not_outweigh_it() -> None:
    assert asked(0.01, 0.5, kind=AdamW).outcome is Outcome.UNLIKELY
    assert asked(0.01, None, kind=AdamW).outcome is Outcome.UNLIKELY
    assert asked(0.01, 0.5, kind=AdamW, steps=20).outcome is Outcome.TOO_SLOW


def test_a_decay_after_the_update_shrinks_whatever_the_gradient_is() -> None:
    model = Leaking(nn.LeakyReLU(0.01))
    found = diagnose(model, sgd_wd(model, lr=0.01, wd=1e-2), X, steps=10_000, gradient_rms=1e-3)
    assert found.outcome is Outcome.DEPENDS


def test_the_part_that_goes_first_decides() -> None:
    model = Leaking(nn.LeakyReLU(0.01))
    (one, two) = (it for it in model.parameters() if it.dim() > 1)
    groups: list[dict[str, Any]] = [{"params": [one], SHRINK: 1e-2}, {"params": [two]}]
    optimizer = SGD(groups, lr=0.1, weight_decay=1e-6)
    found = diagnose(model, optimizer, X, steps=10_000, gradient_rms=1e-3)
    assert found.outcome is Outcome.DEPENDS


def test_a_slope_that_is_learned_may_go_first() -> None:
    model = Leaking(nn.PReLU(init=0.3))
    optimizer = Adam(model.parameters(), LR, weight_decay=L2)
    found = diagnose(model, optimizer, X, steps=10**7, gradient_rms=1.0)
    assert found.outcome is Outcome.DEPENDS
    model.function = nn.Sequential(nn.LeakyReLU(0.1), nn.PReLU(init=0.3))  # not only the smallest
    found = diagnose(model, optimizer, X, steps=10**7, gradient_rms=1.0)
    assert found.outcome is Outcome.DEPENDS
    model.function = nn.LeakyReLU(0.1)
    found = diagnose(model, optimizer, X, steps=10**7, gradient_rms=1.0)
    assert found.outcome is Outcome.UNLIKELY


def test_a_single_number_comes_near_zero_by_chance() -> None:
    model = Leaking(nn.LeakyReLU(0.3), norm=True)
    optimizer = Adam(model.parameters(), LR, weight_decay=L2)
    found = diagnose(model, optimizer, X, steps=10**7, gradient_rms=1.0)
    assert found.outcome is Outcome.DEPENDS


@pytest.mark.parametrize("kind", [Adam, SGD, AdamW])
def test_a_slope_of_zero_is_a_relu(kind: Callable[..., Optimizer]) -> None:
    found = []
    for function in (nn.LeakyReLU(0.0), nn.ReLU()):
        model = Leaking(function)
        optimizer = kind(model.parameters(), lr=LR, weight_decay=1.0)
        found.append(diagnose(model, optimizer, X, steps=100_000, gradient_rms=1e-3))
    assert found[0].outcome is found[1].outcome is Outcome.WILL_DIE
    assert found[0].verdict == found[1].verdict
    assert found[0].network.dying == ("leakyrelu",)
    assert not found[0].network.living
    assert not found[0].network.leaks


def test_a_network_that_also_rectifies_goes_by_its_silent_units() -> None:
    model = Leaking(lambda it: functional.leaky_relu(it, 0.3).relu())
    optimizer = Adam(model.parameters(), LR, weight_decay=L2)
    found = diagnose(model, optimizer, X, steps=10_000, gradient_rms=1e-3)
    assert "silent unit" in found.verdict


def test_each_part_is_weighed_against_what_reads_it() -> None:
    """Two groups and a scale, each with gradients of its own: written down by hand."""
    model = Leaking(nn.LeakyReLU(0.1), norm=True)
    with torch.no_grad():
        _ = model.norm.get_parameter("weight").fill_(2.0)
    rest = [it for name, it in model.named_parameters() if not name.startswith("norm")]
    scale: dict[str, Any] = {
        "params": model.norm.parameters(),
        "weight_decay": 4 * L2,
        "lr": 2 * LR,
    }
    groups: list[dict[str, Any]] = [{"params": rest}, scale]
    optimizer = RMSprop(groups, lr=LR, weight_decay=L2, momentum=0.5)
    sizes = {name: 0.3 if "norm" in name else 0.05 for name, _ in model.named_parameters()}
    found = diagnose(model, optimizer, X, steps=100, gradient_rms=sizes)
    rules = [read_rule(optimizer, group) for group in optimizer.param_groups]
    told = against(Leak(0.1, "leakyrelu"), found.parts, rules)
    size = size_of(model)

    def weighed(one: float, other: float, lam: float, lr: float, *, many: bool = True) -> Against:
        floor = 2 * lr * math.cbrt(one**2 * other) / (2 * lam)
        opposite = 2 * lr * math.cbrt(other**2 * one) / (2 * lam)
        return Against(math.sqrt(one * other) / lam, floor, one * opposite, 1e-8, many)

    wanted = (
        weighed(0.1 * 0.05 / size, 0.1 * 0.05 / size, L2, LR),
        weighed(0.1 * 0.3 / size, 0.1 * 0.05 / 2.0, 4 * L2, 2 * LR, many=False),
    )
    assert told is not None
    for got, expected in zip(told, wanted, strict=True):
        assert astuple(got) == pytest.approx(astuple(expected))
    smaller = against(Leak(0.05, "leakyrelu"), found.parts, rules)
    assert smaller is not None
    assert [it.ratio for it in smaller] == pytest.approx([it.ratio / 2 for it in wanted])


def test_one_part_of_which_nothing_is_known_leaves_all_open() -> None:
    model = Leaking(nn.LeakyReLU(0.3))
    (one, two) = (it for it in model.parameters() if it.dim() > 1)
    groups: list[dict[str, Any]] = [{"params": [one]}, {"params": [two], "centered": True}]
    optimizer = RMSprop(groups, lr=1e-5, weight_decay=1e-3)
    found = diagnose(model, optimizer, X, steps=10**7, gradient_rms=1.0)
    assert found.outcome is Outcome.DEPENDS
    optimizer = RMSprop([groups[0], {"params": [two]}], lr=1e-2, weight_decay=1e-6, eps=1e-12)
    named = {"one.weight": 1.0}
    assert "times what" not in diagnose(model, optimizer, X, gradient_rms=named).verdict


def test_of_two_leaks_the_smaller_decides() -> None:
    function = nn.Sequential(nn.LeakyReLU(0.9), nn.LeakyReLU(0.01))
    model = Leaking(function)
    optimizer = Adam(model.parameters(), LR, weight_decay=L2)
    rms = 2 * HELD * L2 * size_of(model)
    found = diagnose(model, optimizer, X, steps=10**7, gradient_rms=rms)
    assert [it.slope for it in found.network.leaks] == [0.01, 0.9]
    assert found.outcome is Outcome.DEPENDS
    assert "lets 0.01 of a gradient through, 0.2 times" in found.verdict


def test_of_several_layers_the_quietest_decides() -> None:
    model = Leaking(nn.LeakyReLU(0.1))
    optimizer = Adam(model.parameters(), LR, weight_decay=L2)
    loud = 3 * HELD * L2 * size_of(model) / 0.1
    names = [name for name, _ in model.named_parameters()]
    same = diagnose(model, optimizer, X, steps=10**7, gradient_rms=dict.fromkeys(names, loud))
    assert same.outcome is Outcome.UNLIKELY
    for quiet in [name for name in names if name.endswith("weight")]:
        sizes = dict.fromkeys(names, loud) | {quiet: loud / 100}
        found = diagnose(model, optimizer, X, steps=10**7, gradient_rms=sizes)
        assert found.outcome is Outcome.DEPENDS, quiet
