"""Forwards that use a weight twice, return it, or compute with the number of units."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from support.compacting import Checked, check, noise, trained
from support.small import Calls, constant_, flat, silent_, unread_

VECTORS = noise(8, 6)
ONE = noise(1, 6, seed=1)
SEVEN = noise(7, 6, seed=2)


def checked(model: nn.Module) -> Checked:
    return check(model, VECTORS, VECTORS, ONE, SEVEN)


class IgnoresItsBias(nn.Linear):
    @override
    def forward(self, input: Tensor) -> Tensor:
        return functional.linear(input, self.weight)


BARE: dict[str, tuple[nn.Linear, Callable[[Calls, Tensor], Tensor]]] = {
    "functional call": (
        nn.Linear(5, 3, bias=False),
        lambda m, h: functional.linear(h, m.b.weight),
    ),
    "layer that ignores its bias": (
        IgnoresItsBias(5, 3, bias=False),
        lambda m, h: m.b(h),
    ),
}


@pytest.mark.parametrize("case", BARE)
def test_no_bias_is_created_that_the_forward_never_adds(case: str) -> None:
    layer, read = BARE[case]
    model = flat(lambda m, x: read(m, m.a(x).relu()), a=nn.Linear(6, 5), b=layer)
    constant_(model.a, {1: 0.9, 2: 0.0})
    result = checked(model)
    assert result.removed("a") == {2}
    assert result.plan.folds == ()


def test_a_constant_before_a_last_layer_without_bias_goes_into_a_new_bias() -> None:
    model = trained(
        nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3, bias=False)), noise(16, 6)
    )
    constant_(model[0], {2: 0.9})
    result = checked(model)
    assert result.removed("0") == {2}
    assert [(fold.into, fold.target) for fold in result.plan.folds] == [("new_bias", "2.bias")]


TWICE: dict[str, Callable[[Calls, Tensor, Tensor], Any]] = {
    "once before a norm": lambda m, p, q: (m.bn(m.b(p)), m.b(q)),
    "once by a tied layer": lambda m, p, q: (m.b(p), m.tied(q)),
    "once by a functional call": lambda m, p, q: (m.b(p), functional.linear(q, m.b.weight)),
}


@pytest.mark.parametrize("case", TWICE)
def test_a_weight_without_bias_that_is_used_in_two_ways_stays_exact(case: str) -> None:
    outputs = TWICE[case]
    model = Calls(
        lambda m, x: outputs(m, m.a(x).relu(), m.a(x.flip(1)).relu()),
        a=nn.Linear(6, 5),
        b=nn.Linear(5, 3, bias=False),
        tied=nn.Linear(5, 3, bias=False),
        bn=nn.BatchNorm1d(3),
    )
    model.tied.weight = model.b.weight
    _ = trained(model, noise(16, 6))
    constant_(model.a, {1: 0.9, 2: 0.0})
    assert {2} <= checked(model).removed("a") <= {1, 2}


def test_a_layer_that_is_called_twice_takes_the_constants_of_both_calls() -> None:
    def forward(m: Calls, x: Tensor) -> tuple[Tensor, Tensor]:
        return m.b(m.a(x).relu()), m.b(m.a(x.flip(1)).relu())[:, :2]

    model = flat(forward, a=nn.Linear(6, 5), b=nn.Linear(5, 4))
    constant_(model.a, {2: 0.9, 3: 0.6})
    with torch.no_grad():
        model.b.weight[:2, 2] = 0  # the second call reads unit 2 in rows that are thrown away
    assert checked(model).removed("a") == {2, 3}


PENALTIES: dict[str, Callable[[Tensor], Tensor]] = {
    "squares": lambda weight: weight.pow(2).sum(),
    "norm": lambda weight: weight.norm(),
    "sum": lambda weight: weight.sum(),
}


@pytest.mark.parametrize("penalty", PENALTIES)
def test_units_whose_weights_are_summed_into_an_output_stay(penalty: str) -> None:
    function = PENALTIES[penalty]

    def forward(m: Calls, x: Tensor) -> tuple[Tensor, Tensor]:
        y = m.c(m.b(m.a(x).relu()).relu())
        return y + function(m.a.weight), function(m.a.weight)

    model = flat(forward, a=nn.Linear(6, 5), b=nn.Linear(5, 4), c=nn.Linear(4, 2))
    unread_(model.b, 2)
    unread_(model.c, 1)
    result = checked(model)
    assert result.removed("a") == set()
    assert result.removed("b") == {1}


def test_a_bias_that_is_an_output_takes_no_constants() -> None:
    model = flat(lambda m, x: (m.b(m.a(x).relu()), m.b.bias), a=nn.Linear(6, 5), b=nn.Linear(5, 3))
    _ = model.b.requires_grad_(requires_grad=False)
    constant_(model.a, {1: 0.4, 2: 0.0})
    result = checked(model)
    assert result.removed("a") == {2}
    assert result.plan.folds == ()


SIZES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "number": lambda h, n: h / n,
    "tensor": lambda h, n: h / torch.tensor(float(n), dtype=h.dtype),
    "root of a tensor": lambda h, n: h / torch.sqrt(torch.tensor(n, dtype=h.dtype)),
    "fill": lambda h, n: h / torch.full((1,), n),
    "fill with a type": lambda h, n: h / torch.full((1,), n, dtype=h.dtype),
    "count of ones": lambda h, n: h / torch.ones(n, dtype=h.dtype).sum(),
    "range": lambda h, n: h / (torch.arange(n).sum() + 1),
}


@pytest.mark.parametrize("size", SIZES)
def test_no_unit_goes_where_the_forward_computes_with_the_number_of_units(size: str) -> None:
    function = SIZES[size]

    def forward(m: Calls, x: Tensor) -> Tensor:
        h = m.a(x).relu()
        return m.b(function(h, h.shape[1]))

    model = flat(forward, a=nn.Linear(6, 5), b=nn.Linear(5, 3))
    unread_(model.b, 2)
    assert checked(model).removed("a") == set()


@pytest.mark.parametrize("size", SIZES)
def test_units_go_where_the_forward_computes_with_another_number(size: str) -> None:
    function = SIZES[size]
    model = flat(lambda m, x: m.b(function(m.a(x).relu(), 5)), a=nn.Linear(6, 5), b=nn.Linear(5, 3))
    unread_(model.b, 2)
    assert checked(model).removed("a") == {2}


def doubled_when_narrow(m: Calls, x: Tensor) -> Tensor:
    h = m.a(x).relu()
    y: Tensor = m.b(h)
    return y * 2 if h.shape[1] < 5 else y


def one_of_two(m: Calls, x: Tensor) -> Tensor:
    h = m.a(x).relu()
    return (m.b(h), m.b(h) * 2)[h.shape[1] % 2]


@pytest.mark.parametrize("forward", [doubled_when_narrow, one_of_two])
def test_no_unit_goes_where_the_number_of_units_decides_what_is_returned(
    forward: Callable[[Calls, Tensor], Tensor],
) -> None:
    model = flat(forward, a=nn.Linear(6, 5), b=nn.Linear(5, 3))
    unread_(model.b, 2)
    assert checked(model).removed("a") == set()


def both(m: Calls, x: Tensor) -> Tensor:
    return torch.cat([m.a(x).relu(), m.b(x).relu()], 1)


@pytest.mark.parametrize("shift", [1, 2, -2])
def test_the_last_units_of_two_layers_keep_their_order_in_a_roll(shift: int) -> None:
    model = flat(
        lambda m, x: m.c(both(m, x).roll(shift, 1)),
        a=nn.Linear(6, 2),
        b=nn.Linear(6, 2),
        c=nn.Linear(4, 3),
    )
    silent_(model.a, 1)
    silent_(model.b, 1)
    _ = checked(model)


SLICES: dict[str, Callable[[Tensor], Tensor]] = {
    "slice": lambda h: h[:, 1:2],
    "slice from the end": lambda h: h[:, -5:-4],
    "select": lambda h: h[:, 1].unsqueeze(1),
    "narrow": lambda h: h.narrow(1, 1, 1),
}


@pytest.mark.parametrize("kind", SLICES)
def test_a_slice_of_two_joined_layers_never_takes_the_unit_of_the_other(kind: str) -> None:
    function = SLICES[kind]
    model = flat(
        lambda m, x: m.c(function(both(m, x))),
        a=nn.Linear(6, 3),
        b=nn.Linear(6, 3),
        c=nn.Linear(1, 3),
    )
    silent_(model.a, 0, 2)
    silent_(model.b, 0, 2)
    assert 1 not in checked(model).removed("a")
