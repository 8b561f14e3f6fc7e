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
from abscise.report import plain, plan_view
from support.compacting import noise
from support.equality import difference
from support.small import constant_, conv, flat, net, silent_, unread_

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
        ((f"{SIZE} % ({SIZE} // 2) == 0",), (f"not ({SIZE} > 4) or {SIZE} % 2 == 0",), True),
        ((f"{SIZE} / 2 > 1 and {SIZE} - 1 < 4",), (f"{SIZE} > 2", f"{SIZE} + 1 < 6"), True),
        ((), (f"{SIZE} != 0",), True),
        ((), (f"{SIZE} != 1",), True),  # torch.export leaves one row out anyway
        ((), (f"{SIZE} != 2",), False),
        ((f"{SIZE} < 2400",), (f"{SIZE} < 1200",), False),
        ((f"{SIZE} < 2147483648",), (f"{SIZE} <= 2147483647 // 3",), True),
        ((f"{SIZE} < 100000",), (f"{SIZE} < 200000",), False),
        ((f"{SIZE} ** 2 < 9",), (f"{SIZE} < 3",), False),
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


def branches(then: Forward, otherwise: Forward, takes: Callable[[int, Any], bool]) -> Any:
    """Forward is one or the other, by the number of rows."""
    model = flat(
        lambda m, x: then(m, x) if takes(x.shape[0], m) else otherwise(m, x),
        a=nn.Linear(6, 6),
        b=nn.Linear(6, 2),
    )
    unread_(model.b, 1, 3, 4)
    return model


def test_a_plan_says_for_which_batches_it_holds() -> None:
    model = branches(lambda m, x: m.b(m.a(x)), lambda m, x: m.a(x)[:, :2], lambda n, _: n < 4)
    plan = abscise.propose(model, VECTORS[:2])
    assert plan.conditions == ("rows < 4",)
    compacted = abscise.apply(plan, model)
    assert difference(model, compacted, [VECTORS[:3], VECTORS[:1]]).relative < 1e-9
    assert "holds where rows < 4" in plain(plan_view(plan))
    assert abscise.propose(model, VECTORS[:5]).conditions == ("rows > 1", "rows >= 4")


def test_a_batch_of_one_is_looked_at_by_itself() -> None:
    model = branches(lambda m, x: m.b(m.a(x)), lambda m, x: m.a(x)[:, :2], lambda n, _: n > 1)
    plan = abscise.propose(model, VECTORS)
    assert plan.conditions == ("rows > 1",)
    assert difference(model, abscise.apply(plan, model), [VECTORS]).relative < 1e-9
    alone = abscise.propose(model, VECTORS[:1])
    assert alone.conditions == ("input 0 has 1 rows",)
    gap = difference(model, abscise.apply(alone, model), [VECTORS[:1]])
    assert gap.relative < 1e-9


def test_one_row_that_changes_nothing_sets_no_condition() -> None:
    model = branches(lambda m, x: m.b(m.a(x)), lambda m, x: m.b(m.a(x)), lambda n, _: n > 1)
    plan = abscise.propose(model, VECTORS)
    assert plan.conditions == ()
    assert plan.removed_units == 3


@pytest.mark.parametrize("most", [11, 2400])
def test_a_decision_by_rows_times_units_is_seen(most: int) -> None:
    # 11: it holds for every batch before, and is no condition; but not after the removal.
    model = branches(
        lambda m, x: m.b(m.a(x) * 2),
        lambda m, x: m.b(m.a(x)),
        lambda n, m: n * m.a.weight.shape[0] > most,
    )
    assert_exact(model, VECTORS, VECTORS, VECTORS[:3], VECTORS[:2], noise(600, 6))


def test_a_decision_by_rows_times_inputs_is_seen_by_a_selection() -> None:
    model = flat(
        lambda m, x: m.b(m.a(x) * (2 if x.shape[0] * m.a.in_features > 11 else 1)),
        a=nn.Linear(6, 96),
        b=nn.Linear(96, 2),
    )
    unread_(model.a, 0, 1, 2)
    assert_exact(model, VECTORS, VECTORS, VECTORS[:3], VECTORS[:2])


@pytest.mark.parametrize(
    "factor",
    [
        lambda m, x: torch.ones(min(x.shape[0], m.a.weight.shape[0]), dtype=x.dtype).sum(),
        lambda m, x: x.new_ones(min(x.shape[0], m.a.weight.shape[0])).sum(),
        lambda m, x: x[:1].expand(min(x.shape[0], m.a.weight.shape[0]), 6).sum(),
    ],
    ids=["ones", "new_ones", "expand"],
)
def test_a_size_made_of_rows_and_units_is_seen(factor: Forward) -> None:
    model = flat(lambda m, x: m.b(m.a(x)) * factor(m, x), a=nn.Linear(6, 6), b=nn.Linear(6, 2))
    unread_(model.b, 1, 3, 4)
    assert_exact(model, VECTORS[:2], VECTORS[:2], VECTORS[:5])


def test_inputs_that_disagree_about_the_rows_are_a_condition() -> None:
    model = flat(
        lambda m, x, _t=None: m.b((m.a(x) * x.shape[0]).relu()),
        a=nn.Linear(6, 6),
        b=nn.Linear(6, 2),
    )
    plan = abscise.propose(model, (VECTORS[:1], noise(4, 4)))
    assert plan.conditions == ("input 0 has 1 rows",)


def test_a_product_that_sums_over_the_rows_is_no_constant() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        table = m.w.weight.expand(x.shape[0], 2)
        return m.b((m.a(x).relu().t() @ table).t()).sum(0, keepdim=True) + m.c(x)

    model = flat(
        forward,
        a=nn.Linear(6, 8),
        b=nn.Linear(8, 2),
        c=nn.Linear(6, 2),
        w=nn.Linear(2, 1),
    )
    constant_(model.a, dict.fromkeys(range(8), 0.5))
    assert_exact(model, VECTORS[:2], VECTORS[:2], VECTORS)


def test_constants_go_through_a_cut_by_the_batch() -> None:
    model = flat(
        lambda m, x: m.b(torch.cat([m.a(x), m.a(x.flip(1))]).relu()[: x.shape[0]]),
        a=nn.Linear(6, 8),
        b=nn.Linear(8, 2),
    )
    silent_(model.a, 1, 2)
    assert assert_exact(model, VECTORS[:2], VECTORS, VECTORS[:7]).removed_units == 2
