"""Schedules: what they give at each step, and what is refused."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abscise._schedules import Constant, Cubic, PerDepth, Schedule, WarmUp

RISING: dict[str, Callable[[float, int, int], Schedule]] = {"warm-up": WarmUp, "cubic": Cubic}
STEPS = st.integers(1, 1000)


@pytest.mark.parametrize("kind", RISING)
@given(strength=st.floats(0, 1e3), steps=STEPS, after=st.integers(0, 100), step=STEPS)
def test_a_strength_rises_from_nothing_to_its_end_and_stays(
    kind: str, strength: float, steps: int, after: int, step: int
) -> None:
    schedule = RISING[kind](strength, steps, after)
    assert schedule(after) == 0
    assert 0 <= schedule(step) <= schedule(step + 1) <= strength
    assert schedule(after + steps) == schedule(after + steps + step) == strength


@given(step=STEPS)
def test_a_constant_is_one(step: int) -> None:
    assert Constant(0.25)(step) == 0.25


def test_each_layer_has_its_factor() -> None:
    factors = PerDepth((1.0, 0.5, 0.0))
    assert [factors(depth, 3) for depth in (1, 2, 3)] == [1.0, 0.5, 0.0]
    with pytest.raises(ValueError, match="one factor for each of the 2 layers, got 3"):
        _ = factors(1, 2)


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "negative": (lambda: Constant(-1.0), r"Constant: strength must be >= 0 and finite, got -1\.0"),
    "infinite": (
        lambda: Cubic(float("inf"), 3),
        "Cubic: strength must be >= 0 and finite, got inf",
    ),
    "steps": (lambda: WarmUp(1.0, 0), "WarmUp: steps must be >= 1, got 0"),
    "after": (lambda: Cubic(1.0, 1, -1), "Cubic: after must be >= 0, got -1"),
    "factor": (lambda: PerDepth((1.0, -2.0)), r"PerDepth: a factor must be >= 0 .*, got -2\.0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_impossible_schedule_is_refused(case: str) -> None:
    make, text = REFUSED[case]
    with pytest.raises(ValueError, match=text):
        _ = make()
