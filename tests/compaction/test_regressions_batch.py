"""Traps of the batch: statistics over it, decisions by its size, groups without an eps."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import abscise
from abscise._errors import PlanError
from abscise.compaction import plan_from_json, plan_to_json
from abscise.graph._guards import same_guards
from support.compacting import noise
from support.equality import difference
from support.small import conv, flat, net, unread_

EXAMPLE, IMAGES, SEVEN = noise(2, 3, 8, 8, seed=4), noise(8, 3, 8, 8), noise(7, 3, 8, 8, seed=9)
VECTORS = noise(8, 6)
Forward = Callable[[Any, Tensor], Tensor]


def assert_exact(
    model: nn.Module, example: Tensor, *batches: Tensor, keep: tuple[str, ...] = ()
) -> abscise.Plan:
    plan = abscise.propose(model, example, keep=keep)
    assert difference(model, abscise.apply(plan, model), batches).relative < 1e-9
    return plan


def test_a_sample_that_is_thrown_away_counts_in_the_statistics_of_its_batch() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        both = torch.cat([m.p(x), m.q(m.k(x).relu())], 0)
        return m.out(m.bn(both)[: x.shape[0]].relu())

    model = flat(
        forward,
        p=nn.Linear(6, 4),
        k=nn.Linear(6, 5),
        q=nn.Linear(5, 4),
        bn=nn.BatchNorm1d(4, track_running_stats=False),
        out=nn.Linear(4, 2),
    )
    assert_exact(model, VECTORS[:3], VECTORS, VECTORS[:7])


@pytest.mark.parametrize(
    "norm", [nn.InstanceNorm2d(4), nn.BatchNorm2d(4, track_running_stats=False)]
)
def test_a_place_that_nobody_reads_counts_in_the_statistics_of_its_channel(
    norm: nn.Module,
) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        side = torch.cat([m.p(x), m.q(m.k(x).relu())], 3)
        return m.out(m.n(side)[..., : x.shape[3]].relu())

    model = net(forward, p=conv(3, 4), k=conv(3, 5), q=conv(5, 4), n=norm, out=conv(4, 2))
    assert_exact(model, EXAMPLE, IMAGES, SEVEN)


def test_without_an_eps_an_unread_group_must_not_become_even() -> None:
    model = net(
        lambda m, x: m.b(m.n(m.a(m.z(x).relu())).relu()),
        z=conv(3, 5),
        a=conv(5, 4),
        n=nn.GroupNorm(2, 4, eps=0.0),
        b=conv(4, 2),
    )
    unread_(model.b, 0, 1)
    with torch.no_grad():
        model.a.weight[:2, 1:] = 0
        model.a.weight[2:, 0] = 0
        model.a.bias[:2] = 0.3
    assert_exact(model, EXAMPLE, IMAGES, SEVEN, keep=("a",))


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: m.b(m.a(x) * 2 if x.shape[0] < m.a(x).shape[1] else m.a(x)),
        lambda m, x: m.b(m.a(x) * min(x.shape[0], m.a(x).shape[1])),
        lambda m, x: m.b(m.a(x)) * m.a(x)[:, : x.shape[0]].sum(1, keepdim=True),
        lambda m, x: m.b(m.a(x) * torch.arange(x.shape[0])[:, None]),
        lambda m, x: m.b(m.a(x).view(-1, m.a(x).shape[1]) * x.shape[0]),
    ],
    ids=["compared", "minimum", "slice", "arange", "scaled"],
)
def test_the_batch_size_may_meet_the_number_of_units(forward: Forward) -> None:
    model = flat(forward, a=nn.Linear(6, 6), b=nn.Linear(6, 2))
    unread_(model.b, 1, 3, 4)
    assert_exact(model, VECTORS[:2], VECTORS[:5], VECTORS[:4], VECTORS[:3], VECTORS[:1])


def test_a_batch_size_that_meets_no_units_pins_nothing() -> None:
    model = flat(
        lambda m, x: m.b(m.a(x).view(x.shape[0], -1)) * x.shape[0] ** 0.5,
        a=nn.Linear(6, 6),
        b=nn.Linear(6, 2),
    )
    unread_(model.b, 1, 3, 4)
    assert assert_exact(model, VECTORS[:2], VECTORS, VECTORS[:7]).removed_units == 3


def test_a_constant_times_the_batch_size_is_no_constant() -> None:
    model = flat(
        lambda m, x: m.b((m.a(x) * x.shape[0]).relu()), a=nn.Linear(6, 6), b=nn.Linear(6, 2)
    )
    with torch.no_grad():
        model.a.weight[2] = 0
        model.a.bias[2] = 0.5
    assert_exact(model, VECTORS[:2], VECTORS, VECTORS[:7])


SIZE = "L['args'][0].size()[0]"


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ((f"{SIZE} < 6",), (f"{SIZE} < 6",), True),
        ((f"{SIZE} < 6",), (f"{SIZE} <= 5",), True),
        ((f"{SIZE} < 6",), (f"{SIZE} < 3",), False),
        ((f"6 * {SIZE} == 12 * ({SIZE} // 2)",), (f"{SIZE} % 2 == 0", f"-{SIZE} != 0"), True),
        ((f"{SIZE} % ({SIZE} // 2) == 0",), (f"not ({SIZE} > 4) or {SIZE} % 2 == 0",), False),
        ((f"{SIZE} / 2 > 1 and {SIZE} - 1 < 4",), (f"{SIZE} > 2", f"{SIZE} + 1 < 6"), True),
        ((), (f"{SIZE} != 0",), True),
        ((), (f"{SIZE} != 1",), False),
        ((f"{SIZE} < 6",), (f"something({SIZE}) < 6",), False),
        ((f"{SIZE} < 6",), ("L['y'].size()[0] < 6", f"{SIZE} < 6"), False),
        ((f"{SIZE} < 6",), ("no python",), False),
    ],
)
def test_guards_are_the_same_if_they_let_the_same_batches_through(
    left: tuple[str, ...], right: tuple[str, ...], *, same: bool
) -> None:
    assert same_guards(left, right) is same
    assert same_guards(right, left) is same


def test_a_plan_that_lists_no_unit_but_cuts_is_proved_all_the_same() -> None:
    model = flat(lambda m, x: m.b(m.a(x).relu()), a=nn.Linear(6, 5), b=nn.Linear(5, 2))
    live = flat(lambda m, x: m.b(m.a(x).relu()), a=nn.Linear(6, 5), b=nn.Linear(5, 2))
    unread_(model.b, 1)
    forged = {**plan_to_json(abscise.propose(model, VECTORS)), "removals": []}
    with pytest.raises(PlanError, match="alive in this checkpoint"):
        _ = abscise.apply(plan_from_json(json.loads(json.dumps(forged))), live)


@pytest.mark.parametrize("pattern", ["a", "a.parametrizations.weight.original1", "a.bias"])
def test_a_weight_normed_layer_is_kept_by_any_of_its_names(pattern: str) -> None:
    model = flat(lambda m, x: m.b(m.a(x).relu()), a=weight_norm(nn.Linear(6, 5)), b=nn.Linear(5, 2))
    unread_(model.b, 1)
    assert abscise.propose(model, VECTORS).removals
    assert not abscise.propose(model, VECTORS, keep=(pattern,)).removals


def test_units_are_kept_by_the_name_of_their_norm() -> None:
    model = net(
        lambda m, x: m.b(m.n(m.a(x)).relu()), a=conv(3, 6), n=nn.GroupNorm(3, 6), b=conv(6, 2)
    )
    unread_(model.b, 0, 1)
    assert abscise.propose(model, EXAMPLE).removals
    assert not abscise.propose(model, EXAMPLE, keep=("n",)).removals
