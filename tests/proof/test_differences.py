"""Differences: the yardstick is robust, and nothing hides behind it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from abscise.proof import largest_difference, predictions_equal, yardstick
from abscise.proof._outputs import Leaves


def runs(*values: list[float]) -> list[Leaves]:
    return [{"": torch.tensor(row, dtype=torch.float64)} for row in values]


def test_the_spread_is_the_root_mean_square_of_the_ranges() -> None:
    yard = yardstick(runs([0.0, 1.0], [3.0, 5.0]), 1e-3)
    assert yard.divisors[""] == pytest.approx(((9 + 16) / 2) ** 0.5)
    assert yard.blind == ()


def test_elements_that_never_vary_do_not_dilute_the_spread() -> None:
    few = yardstick(runs([0.0, 1.0], [3.0, 5.0]), 1e-3)
    many = yardstick(runs([0.0, 1.0, *[1e9] * 99], [3.0, 5.0, *[1e9] * 99]), 1e-3)
    assert few == many


@given(st.floats(1e-250, 1e250))
def test_the_scale_of_the_outputs_does_not_matter(scale: float) -> None:
    one = yardstick(runs([1.0, 2.0], [1.5, 2.5]), 1e-3)
    other = yardstick(runs([scale, 2 * scale], [1.5 * scale, 2.5 * scale]), 1e-3)
    assert other.spread == pytest.approx(one.spread)
    assert other.divisors[""] == pytest.approx(one.divisors[""] * scale)


@pytest.mark.parametrize(("step", "blind"), [(0.0, True), (9e-4, True), (2e-3, False)])
def test_a_small_spread_is_blind(step: float, blind: bool) -> None:
    yard = yardstick(runs([1.0], [1.0 + step]), 1e-3)
    assert yard.blind == (("",) if blind else ())
    assert yard.divisors[""] == pytest.approx((1.0 + step) if blind else step)


@pytest.mark.parametrize("found", [float("nan"), float("inf"), 1e300])
def test_what_is_not_finite_is_a_difference(found: float) -> None:
    yard = yardstick(runs([0.0], [1.0]), 1e-3)
    difference = largest_difference(runs([0.0]), runs([found]), yard)
    assert difference.relative >= 1e100
    assert difference.absolute >= 1e100


@pytest.mark.parametrize("other", [{}, {"": 3}, {"": torch.ones(2)}])
def test_what_does_not_fit_is_an_error(other: Leaves) -> None:
    with pytest.raises(ValueError, match="output"):
        _ = largest_difference(runs([0.0]), [other], yardstick(runs([0.0], [1.0]), 1e-3))


PREDICTIONS: list[tuple[Leaves, Leaves, bool | None]] = [
    ({"": torch.tensor([[0.0, 1.0]])}, {"": torch.tensor([[0.5, 0.6]])}, True),
    ({"": torch.tensor([[0.0, 1.0]])}, {"": torch.tensor([[0.7, 0.6]])}, False),
    ({"": torch.tensor([[1.0]])}, {"": torch.tensor([[2.0]])}, None),
    ({"": torch.tensor([1, 2])}, {"": torch.tensor([1, 2])}, None),
    ({}, {}, None),
]


@pytest.mark.parametrize(("before", "after", "expected"), PREDICTIONS)
def test_predictions(before: Leaves, after: Leaves, expected: bool | None) -> None:
    assert predictions_equal(before, after) is expected


def test_complex_and_empty_outputs_are_measured() -> None:
    values: list[Tensor] = [torch.tensor([1 + 1j]), torch.tensor([3 - 1j])]
    yard = yardstick([{"": value, "e": torch.ones(0)} for value in values], 1e-3)
    assert yard.divisors == {"": pytest.approx(2.0)}
    assert yardstick([{"e": torch.ones(0)}], 1e-3).divisors == {}
