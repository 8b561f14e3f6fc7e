"""An operation without a rule pins what it touches, and says so with its name and source line."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from typing_extensions import override

import abscise
from support.compacting import check, noise, trained
from support.small import Calls, constant_, conv, flat, net, silent_, unread_

IMAGES = noise(8, 3, 8, 8)
EXAMPLE = noise(2, 3, 8, 8, seed=4)
VECTORS = noise(8, 6)

UNKNOWN: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "fft": ("fft", lambda y: torch.fft.rfft(y, dim=1).abs()[:, :5].repeat(1, 2, 1, 1)[:, :6]),
    "cumsum": ("cumsum", lambda y: y.cumsum(1)),
    "einsum over channels": ("", lambda y: torch.einsum("nchw,ndhw->ncd", y, y)[..., None]),
    "unique": ("gather", lambda y: y.gather(1, y.argsort(1))),
    "nonzero index": ("index", lambda y: y[:, torch.tensor([5, 4, 3, 2, 1, 0])]),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_operation_without_a_rule_is_never_wrong(name: str) -> None:
    function = UNKNOWN[name][1]
    model = net(lambda m, x: m.b(function(m.a(x))), a=conv(3, 6), b=conv(6, 2))
    silent_(model.a, 4)
    assert check(model, EXAMPLE, IMAGES).removed("a") <= {4}


class Sums(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 6), conv(6, 2)

    @override
    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).cumsum(1))


def test_the_reason_names_the_operation_and_the_line() -> None:
    model = trained(Sums(), IMAGES)
    silent_(model.a, 4)
    checked = check(model, EXAMPLE, IMAGES)
    assert checked.removed("a") == set()
    assert "cumsum" in checked.reasons("a")
    line = Sums.forward.__code__.co_firstlineno + 2  # behind the decorator and the def
    assert f"test_pins.py:{line} " in checked.reasons("a")
    assert any("cumsum" in reason for reason in checked.plan.pinned)
    assert sum(checked.plan.pinned.values()) == checked.plan.pinned_units


def test_an_operation_without_a_rule_pins_only_what_it_touches() -> None:
    def forward(m: Calls, x: Tensor) -> Tensor:
        result: Tensor = m.c(m.b(m.a(x).relu()).cumsum(1))
        return result

    model = net(forward, a=conv(3, 6), b=conv(6, 4), c=conv(4, 2))
    silent_(model.a, 4)
    silent_(model.b, 1)
    checked = check(model, EXAMPLE, IMAGES)
    assert checked.removed("a") == {4}
    assert checked.removed("b") == set()


def test_a_constant_does_not_pass_an_operation_without_a_rule() -> None:
    model = flat(
        lambda m, x: m.b(torch.special.bessel_j0(m.a(x))), a=nn.Linear(6, 4), b=nn.Linear(4, 2)
    )
    constant_(model.a, {1: 0.0, 2: 3.0})
    assert check(model, VECTORS).removed("a") <= {1, 2}


def test_nan_signals_nothing() -> None:
    """A zero divided by a zero channel is not a known zero."""
    model = flat(
        lambda m, x: m.c(torch.nan_to_num(m.a(x) / m.b(x), nan=0.7)),
        a=nn.Linear(6, 4),
        b=nn.Linear(6, 4),
        c=nn.Linear(4, 2),
    )
    silent_(model.a, 1)
    silent_(model.b, 1)
    assert check(model, VECTORS).removed("a") <= {1}


def test_a_division_by_a_dead_unit_is_not_made_away_with() -> None:
    model = flat(
        lambda m, x: m.c(m.a(x) / (m.b(x).relu() + 1)),
        a=nn.Linear(6, 4),
        b=nn.Linear(6, 4),
        c=nn.Linear(4, 2),
    )
    silent_(model.b, 1)
    checked = check(model, VECTORS)
    assert checked.removed("a") == set()
    silent_(model.a, 1)
    checked = check(model, VECTORS)
    assert checked.removed("a") == checked.removed("b") == {1}


ACTIVATIONS = [
    nn.ReLU(),
    nn.ReLU6(),
    nn.LeakyReLU(0.1),
    nn.PReLU(),
    nn.PReLU(6),
    nn.ELU(),
    nn.SELU(),
    nn.CELU(),
    nn.GELU(),
    nn.GELU(approximate="tanh"),
    nn.SiLU(),
    nn.Mish(),
    nn.Hardswish(),
    nn.Hardtanh(),
    nn.Tanh(),
    nn.Tanhshrink(),
    nn.Softsign(),
    nn.Softshrink(),
    nn.Hardshrink(),
    nn.Threshold(0.1, 0.0),
    nn.Identity(),
]


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=str)
def test_zeros_pass_every_activation_that_keeps_zero(layer: nn.Module) -> None:
    model = net(
        lambda m, x: m.b(m.act(m.bn(m.a(x)))),
        a=conv(3, 6),
        bn=nn.BatchNorm2d(6),
        act=layer,
        b=conv(6, 2, 3, padding=1),
    )
    constant_(model.bn, {1: 0.0, 4: 0.0})
    assert check(model, EXAMPLE, IMAGES).removed("a") == {1, 4}


@pytest.mark.parametrize(
    "layer",
    [nn.Sigmoid(), nn.Hardsigmoid(), nn.Softplus(), nn.LogSigmoid(), nn.Threshold(0.5, 2.0)],
    ids=str,
)
def test_constants_pass_every_activation(layer: nn.Module) -> None:
    model = net(
        lambda m, x: m.b(m.act(m.bn(m.a(x)))),
        a=conv(3, 6),
        bn=nn.BatchNorm2d(6),
        act=layer,
        b=conv(6, 2, 3),
    )
    constant_(model.bn, {1: 0.0, 4: 0.3})
    assert check(model, EXAMPLE, IMAGES).removed("a") == {1, 4}


ARITHMETIC: dict[str, Callable[[Tensor], Tensor]] = {
    "functions of torch": lambda y: (y.exp() + y.abs().sqrt() + y.square()).clamp(-3, 3),
    "trigonometry": lambda y: y.sin() - y.cos() + y.atan() + y.erf(),
    "numbers": lambda y: (2 * y - 1) / 3 + y**2 - (1 - y),
    "where": lambda y: torch.where(y > 0, y, 0.1 * y),
    "maximum": lambda y: torch.maximum(y, -y / 2),
    "minimum": lambda y: torch.minimum(y, torch.zeros_like(y)),
    "masked_fill": lambda y: y.masked_fill(y < 0, 0.25),
    "addcmul": lambda y: torch.addcmul(y, y, y, value=0.5),
    "lerp": lambda y: torch.lerp(y, y.relu(), 0.3),
    "in place": lambda y: y.clone().mul_(2).add_(1).relu_(),
    "casts": lambda y: y.float().double(),
    "clone and contiguous": lambda y: y.clone().contiguous().detach(),
}


@pytest.mark.parametrize("name", ARITHMETIC)
def test_constants_pass_element_wise_operations_exactly(name: str) -> None:
    function = ARITHMETIC[name]
    model = net(
        lambda m, x: m.b(function(m.bn(m.a(x)))),
        a=conv(3, 6),
        bn=nn.BatchNorm2d(6),
        b=conv(6, 2, 3),
    )
    constant_(model.bn, {1: 0.0, 4: 0.3})
    assert check(model, EXAMPLE, IMAGES).removed("a") <= {1, 4}


def test_a_unit_is_explained_and_listed() -> None:
    model = net(lambda m, x: m.b(m.a(x).relu()), a=conv(3, 6), b=conv(6, 2))
    silent_(model.a, 4)
    unread_(model.b, 1)
    constant_(model.a, {2: 0.5})
    plan = abscise.propose(model, EXAMPLE)
    found = {(item.layer, item.index): item.why for item in plan.removals}
    assert set(found) == {("a", 1), ("a", 2), ("a", 4)}
    assert found["a", 1] == "unread"
    assert found["a", 2] == "constant"
    row = next(row for row in plan.layers if row.layer == "a")
    assert (row.units, row.removed, row.pinned) == (6, 3, 0)
    last = next(row for row in plan.layers if row.layer == "b")
    assert last.pinned == last.units == 2
