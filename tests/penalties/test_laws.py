"""Laws of penalties: one table, a row per public penalty, and the laws that hold for each row."""

import inspect

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from abscise import penalties
from abscise.penalties import Elementwise, Penalty, Radial
from support import penalty_laws as laws
from support.effort import examples
from support.penalty_cases import CASES, Case

# The coverage tracer would double their time; other tests run the same code.
pytestmark = pytest.mark.no_cover

DTYPES = (torch.float32, torch.float64, torch.bfloat16)
EXTREMES = (0.0, -0.0, 1e-45, 1e-40, 1e-38, 1e-30, 1e-20, 1e-7, 1.0, 1e4, 1e20, 1e30, 3e38)


def names(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[str(case.penalty) for case in cases])


EVERY = names(list(CASES))
EXACT = names([case for case in CASES if case.penalty.exact])
METRIC = names([case for case in CASES if case.penalty.takes_metric])
EXACT_METRIC = names([case for case in CASES if case.penalty.exact and case.penalty.takes_metric])
CONVEX = names([case for case in CASES if case.penalty.exact and case.penalty.convex])
SMOOTH = names([case for case in CASES if case.penalty.exact and case.continuous_below > 0])
ORDERLESS = names([case for case in CASES if case.orderless])
IN_PLACE = names([case for case in CASES if isinstance(case.penalty, Elementwise | Radial)])
RADIAL = names([case for case in CASES if isinstance(case.penalty, Radial)])


def elements(*, extreme: bool = False) -> st.SearchStrategy[float]:
    if extreme:
        return st.builds(
            lambda size, sign: size * sign, st.sampled_from(EXTREMES), st.sampled_from((1, -1))
        )
    usual = st.builds(
        lambda size, exponent, sign: sign * size * 10.0**exponent,
        st.floats(0.1, 1.0),
        st.integers(-3, 1),
        st.sampled_from((1, -1)),
    )
    return st.one_of(usual, usual, usual, st.sampled_from((0.0, -0.0, 0.5, 1.0)))


def steps() -> st.SearchStrategy[float]:
    return st.builds(
        lambda size, exponent: size * 10.0**exponent, st.floats(0.1, 1.0), st.integers(-3, 1)
    )


def weights_of(
    data: st.DataObject,
    case: Case,
    dtypes: tuple[torch.dtype, ...] = DTYPES,
    *,
    extreme: bool = False,
) -> Tensor:
    units, size = data.draw(st.integers(1, 3)), data.draw(st.sampled_from(case.sizes))
    values = data.draw(
        st.lists(elements(extreme=extreme), min_size=units * size, max_size=units * size)
    )
    limit = torch.finfo(dtype := data.draw(st.sampled_from(dtypes))).max
    return (
        torch.tensor(values, dtype=torch.float64)
        .clamp(-limit, limit)
        .to(dtype)
        .reshape(units, size)
    )


def metric_of(data: st.DataObject, weights: Tensor) -> Tensor:
    values = data.draw(
        st.lists(
            st.one_of(steps(), steps(), st.just(0.0)),
            min_size=weights.numel(),
            max_size=weights.numel(),
        )
    )
    return torch.tensor(values).reshape(weights.shape)


def test_every_public_penalty_has_a_row_in_the_table() -> None:
    public = {getattr(penalties, name) for name in penalties.__all__}
    concrete = {
        value for value in public if issubclass(value, Penalty) and not inspect.isabstract(value)
    }
    assert {type(case.penalty) for case in CASES} == concrete


@EVERY
@given(data=st.data())
@examples(8)
def test_the_value_is_the_formula(case: Case, data: st.DataObject) -> None:
    laws.assert_value_is_the_formula(case, weights_of(data, case), 0.0)


@EXACT
@given(data=st.data())
@examples(12)
def test_prox_minimises_its_objective(case: Case, data: st.DataObject) -> None:
    laws.assert_prox_minimises(case, weights_of(data, case), data.draw(steps()))


@EXACT_METRIC
@given(data=st.data())
@examples(12)
def test_prox_in_a_metric_minimises_its_objective(case: Case, data: st.DataObject) -> None:
    weights = weights_of(data, case)
    laws.assert_prox_minimises(case, weights, metric_of(data, weights))


@METRIC
@given(data=st.data())
@examples(8)
def test_a_constant_metric_is_the_number(case: Case, data: st.DataObject) -> None:
    weights = weights_of(data, case, (torch.float64,))
    laws.assert_constant_metric_is_the_number(case, weights, data.draw(steps()))


@EVERY
@given(data=st.data())
@examples(8)
def test_zeros_stay_and_nothing_grows_turns_or_overflows(case: Case, data: st.DataObject) -> None:
    weights = weights_of(data, case, (*DTYPES, torch.float16), extreme=True)
    step = data.draw(st.sampled_from([0.0, 1e-45, 1e-30, 1e-3, 1.0, 1e5, 1e30]))
    laws.assert_zeros_stay_and_nothing_grows(case, weights, step)
    if case.penalty.takes_metric:
        mixed = data.draw(
            st.lists(
                st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e30]),
                min_size=weights.numel(),
                max_size=weights.numel(),
            )
        )
        laws.assert_zeros_stay_and_nothing_grows(
            case, weights, torch.tensor(mixed).reshape(weights.shape)
        )


@EVERY
@given(data=st.data())
@examples(8)
def test_rows_are_independent_and_signs_are_carried_along(case: Case, data: st.DataObject) -> None:
    weights = weights_of(data, case)
    laws.assert_rows_are_independent(case, weights, data.draw(steps()))
    if case.penalty.takes_metric:
        laws.assert_rows_are_independent(case, weights, metric_of(data, weights))


@ORDERLESS
@given(data=st.data())
@examples(8)
def test_the_order_in_a_row_does_not_matter(case: Case, data: st.DataObject) -> None:
    weights = weights_of(data, case, (torch.float64,))
    laws.assert_order_in_rows_does_not_matter(case, weights, data.draw(steps()))


@EVERY
@given(data=st.data())
@examples(5)
def test_prox_is_pure(case: Case, data: st.DataObject) -> None:
    laws.assert_prox_is_pure(
        case, weights_of(data, case), data.draw(st.one_of(steps(), st.just(0.0)))
    )


@EVERY
@given(data=st.data())
@examples(5)
def test_step_zero_is_the_identity(case: Case, data: st.DataObject) -> None:
    laws.assert_step_zero_is_the_identity(case, weights_of(data, case), 0.1)


@CONVEX
@given(data=st.data())
@examples(8)
def test_the_map_of_a_convex_penalty_is_nonexpansive(case: Case, data: st.DataObject) -> None:
    weights = weights_of(data, case)
    laws.assert_nonexpansive(case, weights, data.draw(steps()))
    if case.penalty.takes_metric:
        laws.assert_nonexpansive(case, weights, metric_of(data, weights) + 1e-3)


@SMOOTH
@given(data=st.data())
@examples(8)
def test_a_continuous_map_gives_the_gradient_of_the_moreau_envelope(
    case: Case, data: st.DataObject
) -> None:
    weights = weights_of(data, case, (torch.float64,))
    step = min(data.draw(steps()), 0.5 * case.continuous_below)
    laws.assert_moreau_gradient(case, weights, step)
    if case.penalty.takes_metric:
        metric = (metric_of(data, weights).double() + 1e-3).clamp(max=0.5 * case.continuous_below)
        laws.assert_moreau_gradient(case, weights, metric)


@IN_PLACE
@given(data=st.data())
@examples(8)
def test_the_map_in_place_is_the_map(case: Case, data: st.DataObject) -> None:
    weights = weights_of(data, case)
    laws.assert_in_place_is_the_map(case, weights, data.draw(steps()))
    if case.penalty.takes_metric:
        laws.assert_in_place_is_the_map(case, weights, metric_of(data, weights))


@RADIAL
@given(data=st.data())
@examples(8)
def test_factors_of_the_norms_are_the_map(case: Case, data: st.DataObject) -> None:
    laws.assert_factors_are_the_map(
        case, weights_of(data, case, (torch.float64,)), data.draw(steps())
    )
