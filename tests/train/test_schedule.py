"""The learning rate of every step: drops, warm-up, cosine."""

from dataclasses import replace
from itertools import pairwise

import pytest

from abscise._errors import RecipeError
from abscise.train import Recipe, Schedule
from abscise.train._schedule import rate_at

RECIPE = Recipe(
    name="r", data="digits", model="mlp", hidden=(4,), epochs=1, batch_size=1, learning_rate=0.8
)


def rates(recipe: Recipe, steps: int = 10) -> list[float]:
    return [rate_at(recipe, step, steps) for step in range(1, steps + 1)]


def test_without_a_schedule_the_rate_stays() -> None:
    assert rates(RECIPE) == [0.8] * 10


def test_the_rate_drops_at_shares_of_the_training() -> None:
    dropped = rates(replace(RECIPE, drops=(0.3, 0.8), drop_factor=0.5))
    assert dropped == [0.8, 0.8, 0.4, 0.4, 0.4, 0.4, 0.4, 0.2, 0.2, 0.2]


def test_shares_that_round_to_one_step_are_one_drop_and_to_none_are_none() -> None:
    recipe = replace(RECIPE, drops=(0.01, 0.5, 0.51), drop_factor=0.5)
    assert rates(recipe) == [0.8] * 4 + [0.4] * 6


def test_the_rate_rises_during_the_warm_up() -> None:
    assert rates(replace(RECIPE, warmup=4), 6) == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])


def test_a_cosine_begins_at_the_full_rate_and_falls_towards_zero() -> None:
    found = rates(replace(RECIPE, schedule=Schedule.COSINE, warmup=2), 12)
    assert found[2] == 0.8
    assert found[7] == pytest.approx(0.4)
    assert found[2:] == sorted(found[2:], reverse=True)
    assert 0 < found[-1] < 0.03


def test_a_cosine_has_no_drops() -> None:
    with pytest.raises(RecipeError, match="drops must be empty for the schedule cosine"):
        _ = replace(RECIPE, schedule=Schedule.COSINE, drops=(0.5,))


def test_a_cosine_in_cycles_is_the_short_cosine_again_and_again() -> None:
    once = replace(RECIPE, schedule=Schedule.COSINE)
    found = rates(replace(once, cycles=3), 12)
    assert found == pytest.approx(rates(once, 4) * 3)
    assert found != pytest.approx(rates(once, 12))


def test_cycles_that_do_not_divide_the_steps_begin_at_the_full_rate_once_each() -> None:
    found = rates(replace(RECIPE, schedule=Schedule.COSINE, cycles=3), 10)
    rises = [later > earlier for earlier, later in pairwise(found)]
    assert sum(rises) == 2
    assert found[0] == 0.8


def test_drops_have_no_cycles() -> None:
    with pytest.raises(RecipeError, match="cycles must be 1 for the schedule drops"):
        _ = replace(RECIPE, cycles=2)
