"""What leaks through below a bend against L2: the law, on torch's own optimizers."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from typing_extensions import override

from abscise.implicit import Outcome, diagnose
from abscise.implicit._outweighed import HELD, LOST

L2, LR = 1e-3, 1e-3
UNITS, WEIGHTS, START, STEPS = 48, 16, 0.02, 3000
KINDS: dict[str, Callable[..., Optimizer]] = {  # with eps above what makes dead weights jump
    "Adam": partial(Adam, eps=1e-7),
    "RMSprop": partial(RMSprop, eps=1e-6),
}
X = torch.zeros(2, 6)


def below_the_bend(kind: str, written: float, read: float) -> tuple[Tensor, Tensor]:
    """What writes and what reads some units, after steps with noise as large as the other side."""
    _ = torch.manual_seed(0)
    sides = [(torch.randn(UNITS, WEIGHTS) * START).requires_grad_() for _ in range(2)]
    optimizer = KINDS[kind](sides, lr=LR, weight_decay=L2)
    for _ in range(STEPS):
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
        LR * math.cbrt(one**2 * other) / (2 * L2)
        for one, other in ((written, read), (read, written))
    ]
    found = [it.square().mean().sqrt().item() for it in below_the_bend(kind, written, read)]
    assert found == pytest.approx(expected, rel=0.25)


@pytest.mark.parametrize("kind", KINDS)
def test_where_l2_outweighs_the_leak_every_unit_is_lost(kind: str) -> None:
    for side in below_the_bend(kind, LOST * L2, LOST * L2):
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


def test_a_function_that_is_only_named_has_torchs_slope() -> None:
    model = Leaking(torch.tanh)
    optimizer = Adam(model.parameters(), LR, weight_decay=L2)
    (leak,) = diagnose(model, optimizer, activations=["leaky_relu"]).network.leaks
    assert leak.slope == nn.LeakyReLU().negative_slope
    assert diagnose(model, optimizer, X, activations=["elu"]).network.leaks == ()


def size_of(model: nn.Module) -> float:
    weights = [it.detach() for it in model.parameters() if it.dim() > 1]
    return float(torch.cat([it.flatten() for it in weights]).square().mean().sqrt())


def asked(slope: float, ratio: float | None, steps: int | None = 10_000, **more: Any) -> Any:
    """What is said where what leaks is `ratio` times what L2 takes."""
    model = Leaking(nn.LeakyReLU(slope), norm=more.pop("norm", False))
    rms = None if ratio is None else ratio * L2 * size_of(model) / slope
    kind = more.pop("kind", Adam)
    optimizer = kind(model.parameters(), lr=LR, weight_decay=L2, **more)
    return diagnose(model, optimizer, X, steps=steps, gradient_rms=rms)


def test_the_verdict_follows_the_ratio_of_leak_and_l2_whatever_the_slope() -> None:
    for slope in (0.01, 0.1, 0.3):
        lost = asked(slope, 0.9 * LOST, steps=10**6)
        assert lost.outcome is Outcome.WILL_DIE
        assert f"lets {slope:g} of a gradient through, and L2 outweighs that" in lost.verdict
        between = asked(slope, (LOST + HELD) / 2)
        assert between.outcome is Outcome.DEPENDS
        assert "5.5 times what L2 adds, so that chance decides" in between.verdict
        held = asked(slope, 1.2 * HELD)
        assert held.outcome is Outcome.WILL_NOT
        assert f"noise keeps weights at about {1.2 * HELD * LR / 2:.1g}" in held.verdict


def test_units_below_a_bend_need_time_too() -> None:
    assert asked(0.01, 0.9, steps=20).outcome is Outcome.TOO_SLOW
    assert asked(0.01, 0.9, steps=None).outcome is Outcome.DEPENDS


def test_unknown_gradients_are_said_to_matter_and_up_to_which_size() -> None:
    found = asked(0.01, None)
    assert found.outcome is Outcome.DEPENDS
    limit = float(found.verdict.rpartition("below about ")[2].rstrip("."))
    assert limit == pytest.approx(LOST * L2 * size_of(Leaking(torch.tanh)) / 0.01, rel=0.5)


@pytest.mark.parametrize(
    "options",
    [{"kind": AdamW}, {"kind": SGD, "momentum": 0.9}, {"kind": Adagrad}, {"amsgrad": True}],
    ids=["AdamW", "SGD", "Adagrad", "AMSGrad"],
)
def test_where_l2_is_not_divided_by_recent_gradients_no_unit_dies(options: dict[str, Any]) -> None:
    assert asked(0.01, 0.5, **options).outcome is Outcome.WILL_NOT
    assert asked(0.01, None, **options).outcome is Outcome.WILL_NOT


def test_with_batch_norm_the_scale_counts_too() -> None:
    assert asked(0.01, 0.1, norm=True).outcome is Outcome.WILL_DIE
    assert asked(0.3, 1000.0, norm=True).outcome is Outcome.WILL_NOT


def test_a_slope_of_zero_is_a_relu() -> None:
    model = Leaking(nn.LeakyReLU(0.0))
    optimizer = Adam(model.parameters(), LR, weight_decay=L2)
    found = diagnose(model, optimizer, X, steps=10_000, gradient_rms=1e-3)
    assert found.outcome is Outcome.WILL_DIE
    assert any("below its bend gets 0 of the gradient" in line for line in found.findings)


def test_a_network_that_also_rectifies_goes_by_its_silent_units() -> None:
    model = Leaking(lambda it: functional.leaky_relu(it, 0.3).relu())
    optimizer = Adam(model.parameters(), LR, weight_decay=L2)
    found = diagnose(model, optimizer, X, steps=10_000, gradient_rms=1e-3)
    assert "silent unit" in found.verdict
