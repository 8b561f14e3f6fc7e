"""What penalties refuse, and that the text names the penalty, the rule, the value, the way out."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from abscise.penalties import (
    CGES,
    L1,
    MCP,
    SCAD,
    GroupLasso,
    GroupTransformedL1,
    IntegratedTransformedL1,
    NofM,
    SparseGroupLasso,
    TransformedL1,
)
from support.penalty_cases import CASES, Case

EVERY = pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.penalty))


def name_of(case: Case) -> str:
    return type(case.penalty).__name__


@EVERY
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_weights_that_are_not_floating_point_are_refused(case: Case, dtype: torch.dtype) -> None:
    weights = torch.ones(2, 6, dtype=dtype)
    expected = f"{name_of(case)}: weights must be .*, got {dtype}"
    with pytest.raises(ValueError, match=expected):
        case.penalty.prox(weights, 0.1)
    with pytest.raises(ValueError, match=expected):
        case.penalty.value(weights)


@EVERY
@pytest.mark.parametrize("step", [-0.1, float("nan"), float("inf"), 1.5e30])
def test_a_step_outside_its_range_is_refused_with_its_value(case: Case, step: float) -> None:
    expected = re.escape(f"{name_of(case)}: step must be in [0, 2^100], got {step!r}")
    with pytest.raises(ValueError, match=expected):
        case.penalty.prox(torch.ones(2, 6), step)
    with pytest.raises(ValueError, match=expected):
        case.penalty.prox(torch.ones(2, 6), torch.tensor(step, dtype=torch.float64))


@EVERY
@pytest.mark.parametrize("step", [-0.5, float("nan"), float("inf")])
def test_one_bad_element_of_a_metric_is_refused_with_its_value(case: Case, step: float) -> None:
    steps = torch.ones(2, 6)
    steps[1, 2] = step
    with pytest.raises(ValueError, match=rf"{name_of(case)}: step must be in .*, got {step!r}"):
        case.penalty.prox(torch.ones(2, 6), steps)


@EVERY
def test_a_metric_has_the_shape_of_the_weights_and_is_floating_point(case: Case) -> None:
    weights = torch.ones(2, 6)
    for shape in ((6,), (2, 1), (3, 6)):
        expected = re.escape(f"have the weights' shape (2, 6), got the shape {shape}")
        with pytest.raises(ValueError, match=expected):
            case.penalty.prox(weights, torch.ones(shape))
    with pytest.raises(ValueError, match=r"must be a floating-point tensor, got torch\.int64"):
        case.penalty.prox(weights, torch.ones(2, 6, dtype=torch.int64))


@pytest.mark.parametrize("case", [case for case in CASES if not case.penalty.takes_metric])
def test_a_map_without_a_form_in_a_metric_says_so_instead_of_guessing(case: Case) -> None:
    expected = f"{name_of(case)}: step must be a number, got a tensor: .* no exact map"
    with pytest.raises(ValueError, match=expected):
        case.penalty.prox(torch.ones(2, 6), torch.ones(2, 6))


def test_which_penalties_have_no_map_in_a_metric() -> None:
    without = {type(case.penalty) for case in CASES if not case.penalty.takes_metric}
    assert without == {CGES, GroupTransformedL1}


@pytest.mark.parametrize("shape", [(), (6,), (2, 3, 2, 2)])
def test_penalties_of_rows_refuse_other_shapes_and_name_theirs(shape: tuple[int, ...]) -> None:
    for case in CASES:
        if case.penalty.kind == "elementwise":
            assert case.penalty.prox(torch.ones(shape), 0.1).shape == shape
            continue
        expected = re.escape(f"must have the shape (units, size), got {shape}: reshape them")
        with pytest.raises(ValueError, match=expected):
            case.penalty.prox(torch.ones(shape), 0.1)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: TransformedL1(0.0), "TransformedL1: a must be in [2^-100, 2^100], got 0.0"),
        (lambda: TransformedL1(-1.0), "TransformedL1: a must be in [2^-100, 2^100], got -1.0"),
        (lambda: TransformedL1(float("nan")), "a must be in [2^-100, 2^100], got nan: the limits"),
        (lambda: TransformedL1(float("inf")), "got inf: the limits are l0 for a -> 0 and l1 for"),
        (lambda: GroupTransformedL1(-2.0), "GroupTransformedL1: a must be in"),
        (lambda: IntegratedTransformedL1(a=0.0), "IntegratedTransformedL1: a must be in"),
        (lambda: IntegratedTransformedL1(1.5), "mu must be in [0, 1], got 1.5"),
        (lambda: IntegratedTransformedL1.at_depth(5, 4), "depth must be in [1, 4], got 5"),
        (lambda: IntegratedTransformedL1.at_depth(0, 4), "depth must be in [1, 4], got 0"),
        (lambda: SparseGroupLasso(-0.1), "SparseGroupLasso: alpha must be in [0, 1], got -0.1"),
        (lambda: SparseGroupLasso(float("nan")), "alpha must be in [0, 1], got nan"),
        (lambda: CGES(2.0), "CGES: mu must be in [0, 1], got 2.0"),
        (lambda: MCP(0.0), "MCP: lam must be > 0 and finite, got 0.0"),
        (lambda: MCP(1.0, 0.0), "MCP: gamma must be > 0 and finite, got 0.0"),
        (lambda: MCP(float("inf")), "MCP: lam must be > 0 and finite, got inf"),
        (lambda: SCAD(-1.0), "SCAD: lam must be > 0 and finite, got -1.0"),
        (lambda: SCAD(1.0, 2.0), "SCAD: a must be > 2 and finite, got 2.0"),
        (lambda: NofM(0, 4), "NofM: n and m must be 1 <= n <= m, got n=0, m=4"),
        (lambda: NofM(5, 4), "NofM: n and m must be 1 <= n <= m, got n=5, m=4"),
        (
            lambda: NofM(2, 4).prox(torch.ones(3, 6), 0.1),
            "the size of a row must be a multiple of m = 4, got 6: leave this layer out",
        ),
        (lambda: NofM(2, 4).value(torch.ones(3, 6)), "multiple of m = 4, got 6"),
    ],
)
def test_a_parameter_outside_its_range_is_refused_with_its_value(
    make: Callable[[], object], text: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(text)) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("step", [-1.0, torch.full((2, 6), -1.0), torch.ones(3)])
def test_a_refused_map_in_place_changes_nothing(step: float | Tensor) -> None:
    for penalty in (L1(), GroupLasso()):
        weights = torch.ones(2, 6)
        with pytest.raises(ValueError, match="step must"):
            penalty.prox_(weights, step)
        assert torch.equal(weights, torch.ones(2, 6))


def test_factors_refuse_what_are_no_norms_and_steps_of_another_shape() -> None:
    with pytest.raises(ValueError, match=r"weights must be .*, got torch\.int64"):
        GroupLasso().factors(torch.ones(3, dtype=torch.int64), 4, 0.1)
    with pytest.raises(ValueError, match=r"got -0\.1"):
        GroupLasso().factors(torch.ones(3), 4, -0.1)
    with pytest.raises(ValueError, match=re.escape("got the shape (2,)")):
        GroupLasso().factors(torch.ones(3), 4, torch.ones(2))


@pytest.mark.parametrize("value", [True, "1", None, [1.0]])
def test_what_is_no_number_is_refused_as_parameter_and_as_step(value: Any) -> None:
    for make in (TransformedL1, lambda one: NofM(one, 4), lambda one: MCP(one, 3.0)):
        with pytest.raises(TypeError, match=r"must be a (whole )?number, got"):
            _ = make(value)
    with pytest.raises(TypeError, match="L1: step must be a number, got"):
        _ = L1().prox(torch.ones(2, 3), value)
