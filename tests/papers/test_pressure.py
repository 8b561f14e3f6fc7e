"""Pressure: half of each cycle shrinks, half heals, and the rule makes useless weights vanish."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from abscise._errors import RecipeError
from abscise.papers._pressure import Pressure, pressure_on


def test_in_the_first_half_of_each_cycle_the_strength_is_that_of_the_cycle_then_nothing() -> None:
    found = [Pressure(0.1, 0.4, steps=12, cycles=3)(step) for step in range(1, 13)]
    assert found == pytest.approx([0.1, 0.1, 0, 0, 0.2, 0.2, 0, 0, 0.4, 0.4, 0, 0])


def test_with_one_cycle_there_is_one_strength() -> None:
    found = [Pressure(0.1, 0.1, steps=5, cycles=1)(step) for step in range(1, 6)]
    assert found == [0.1, 0.1, 0.1, 0.0, 0.0]


def test_cycles_that_do_not_divide_the_steps_never_run_past_the_last_strength() -> None:
    pressure = Pressure(0.1, 0.3, steps=10, cycles=3)
    assert {pressure(step) for step in range(1, 11)} <= {0.0, 0.1, pressure(5), 0.3}
    assert pressure(8) == pytest.approx(0.3)


def shrunk_by(pressure: Pressure, size: float, steps: int) -> float:
    for step in range(1, steps + 1):
        size *= 1 - pressure(step)
    return size


@pytest.mark.parametrize(("steps", "cycles"), [(200, 1), (200, 2), (330, 3)])
def test_by_the_rule_the_largest_weight_is_gone_after_the_first_cycle_unless_it_is_fed(
    steps: int, cycles: int
) -> None:
    torch.manual_seed(0)
    model = nn.Linear(20, 20)
    pressure = pressure_on(model, 0.02, steps, cycles, growth=4.0)
    largest = model.weight.detach().abs().max().item()
    length = steps // cycles
    assert shrunk_by(pressure, largest, length) < 0.02
    # The twin: with half the strength it is not.
    assert shrunk_by(pressure.times(0.5), largest, length) > 0.02
    assert shrunk_by(pressure, largest, length // 4) > 0.02


def test_the_strength_grows_from_cycle_to_cycle_by_the_growth_in_all() -> None:
    model = nn.Linear(20, 20)
    pressure = pressure_on(model, 0.02, 400, 4, growth=8.0)
    firsts = [pressure(1 + 100 * cycle) for cycle in range(4)]
    ratios = [later / earlier for earlier, later in pairwise(firsts)]
    assert ratios == pytest.approx([2.0, 2.0, 2.0])
    assert math.isclose(pressure_on(model, 0.02, 400, 1, growth=8.0)(1), pressure.first / 4)


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ((0.0, 0.1, 4, 1), "0 < first <= last < 1"),
        ((0.2, 0.1, 4, 1), "0 < first <= last < 1"),
        ((0.2, 1.0, 4, 1), "0 < first <= last < 1"),
        ((0.1, 0.2, 4, 5), "cycles must be in 1..steps"),
    ],
)
def test_what_is_out_of_range_is_refused(values: tuple[float, float, int, int], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        _ = Pressure(*values)


def test_a_run_that_is_too_short_for_anything_to_vanish_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"8 steps in 1 cycles are too few: .*takes at least"):
        _ = pressure_on(nn.Linear(20, 20), 1e-9, 8, 1, growth=1.0)
    with pytest.raises(RecipeError, match=r"too few: .*first <= last < 1.*more epochs"):
        _ = pressure_on(nn.Linear(20, 20), 1e-3, 40, 2, growth=50.0)


@pytest.mark.parametrize("factor", [2.5, 5.0, 0.0, -1.0])
def test_a_strength_that_leaves_nothing_of_a_weight_is_refused_with_what_would_do(
    factor: float,
) -> None:
    pressure = Pressure(0.1, 0.4, steps=12, cycles=3)
    with pytest.raises(RecipeError, match=r"take less than 2\.5 times"):
        _ = pressure.times(factor)
    assert pressure.times(2.4).last < 1
