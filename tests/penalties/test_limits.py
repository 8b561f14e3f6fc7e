"""Where penalties meet each other, and what happens at the ends: empty, zero, huge, long, NaN."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from abscise.penalties import (
    CGES,
    L0,
    L1,
    MCP,
    SCAD,
    ExclusiveLasso,
    GroupLasso,
    GroupTransformedL1,
    IntegratedTransformedL1,
    LHalf,
    NofM,
    Penalty,
    SparseGroupLasso,
    TransformedL1,
)
from support.effort import examples
from support.penalty_cases import CASES, Case

EVERY = pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.penalty))


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def uneven_steps(*shape: int, low: float, high: float) -> Tensor:
    """Spread evenly over the powers of ten between the two."""
    share = torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return 10 ** (low + (high - low) * share)


X = normal(5, 6) * torch.logspace(-2, 2, 5, dtype=torch.float64)[:, None]


@pytest.mark.parametrize(
    ("near", "limit"),
    [
        (TransformedL1(1e12), L1()),
        (TransformedL1(1e-12), L0()),
        (GroupTransformedL1(1e12), GroupLasso(by_size=False)),
        (SparseGroupLasso(1.0), L1()),
        (SparseGroupLasso(0.0), GroupLasso()),
        (CGES(0.0), GroupLasso(by_size=False)),
        (IntegratedTransformedL1(0.0), GroupLasso(by_size=False)),
        (IntegratedTransformedL1(0.0, exact=True), GroupLasso(by_size=False)),
        (IntegratedTransformedL1(1.0), TransformedL1()),
        (IntegratedTransformedL1(1.0, exact=True), TransformedL1()),
        (MCP(1.0, 1e12), L1()),
        (SCAD(1e6), L1()),
    ],
    ids=str,
)
def test_a_penalty_at_the_end_of_its_range_is_another_penalty(
    near: Penalty, limit: Penalty
) -> None:
    scale = near.lam if isinstance(near, SCAD) else 1.0
    for step in (1e-3, 0.1, 2.0):
        expected = limit.prox(X, step * scale)
        torch.testing.assert_close(near.prox(X, step), expected, rtol=1e-6, atol=1e-9)
    values = (near.value(X) / scale, limit.value(X))
    torch.testing.assert_close(*values, rtol=1e-6, atol=0)


@EVERY
@pytest.mark.parametrize("shape", [(0, 6), (3, 0), (0, 0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_without_elements_cost_nothing_and_stay(
    case: Case, shape: tuple[int, int], dtype: torch.dtype
) -> None:
    empty = torch.empty(shape, dtype=dtype)
    assert float(case.penalty.value(empty)) == 0
    assert case.penalty.prox(empty, 0.1).shape == shape
    if case.penalty.takes_metric:
        found = case.penalty.prox(empty, torch.empty(shape))
        assert (found.shape, found.dtype) == (shape, dtype)


@EVERY
def test_rows_of_zeros_cost_nothing_and_stay_zero(case: Case) -> None:
    zeros = torch.zeros(2, 6)
    assert float(case.penalty.value(zeros)) == 0
    assert torch.equal(case.penalty.prox(zeros, 0.1), zeros)


@EVERY
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_not_hidden_and_touches_no_other_row(case: Case, bad: float) -> None:
    weights = X.clone()
    weights[1, 2] = bad
    others = torch.tensor([0, 2, 3, 4])
    for step in (0.01, torch.full_like(X, 0.01)) if case.penalty.takes_metric else (0.01,):
        found = case.penalty.prox(weights, step)
        assert not bool(found[1, 2].isfinite())
        torch.testing.assert_close(found[others], case.penalty.prox(X, step)[others])


@EVERY
def test_the_value_in_a_loss_has_a_finite_gradient_that_is_zero_at_zero(case: Case) -> None:
    weights = X.clone()
    weights[0] = 0.0
    weights[1, ::2] = 0.0
    leaf = weights.clone().requires_grad_()
    value = case.penalty.value(leaf)
    assert value.requires_grad != isinstance(case.penalty, L0 | NofM)
    if value.requires_grad:
        value.backward()
        assert leaf.grad is not None
        assert bool(leaf.grad.isfinite().all())
        assert not bool(leaf.grad[weights == 0].any())
        assert bool((leaf.grad * weights >= 0).all())
        assert bool(leaf.grad.any())


@EVERY
def test_no_tensor_is_made_on_another_device_than_that_of_the_weights(case: Case) -> None:
    """A tensor of the CPU, unless it is a scalar, does not mix with those of `meta`."""
    weights = torch.empty(4, 6, device="meta")
    assert case.penalty.prox(weights, 0.1).is_meta
    assert case.penalty.value(weights).is_meta


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same() -> None:
    for penalty in [case.penalty for case in CASES]:
        for step in (0.1, X.abs() / 10) if penalty.takes_metric else (0.1,):
            moved = step.cuda() if isinstance(step, Tensor) else step
            found = penalty.prox(X.cuda(), moved)
            assert found.is_cuda
            torch.testing.assert_close(found.cpu(), penalty.prox(X, step), rtol=1e-6, atol=1e-6)


@EVERY
def test_a_large_step_leaves_only_what_the_penalty_never_empties(case: Case) -> None:
    found = case.penalty.prox(X, 1e6)
    if isinstance(case.penalty, NofM):
        assert found.count_nonzero() == found.numel() * case.penalty.n // case.penalty.m
    elif isinstance(case.penalty, ExclusiveLasso):
        assert bool(found.any(1).all())
    else:
        assert not bool(found.any())


@pytest.mark.parametrize("penalty", [L0(), MCP(0.5), SCAD(0.4)], ids=str)
def test_a_bounded_penalty_at_a_large_step_thresholds_at_the_root_of_its_bound(
    penalty: Penalty,
) -> None:
    bound = math.sqrt(2e3 * float(penalty.value(torch.tensor([1e9]))))
    found = penalty.prox(X, 1e3)
    assert torch.equal(found, X.masked_fill(X.abs() <= bound, 0.0))
    assert 0 < int(found.count_nonzero()) < X.numel()


@examples(30)
@given(st.floats(1e-9, 1e-3), st.floats(0.5, 2.0))
def test_the_smallest_shrinkage_is_not_lost_in_float32(step: float, weight: float) -> None:
    """Of a weight far above the threshold: the slope of the penalty times the step, relatively."""
    x = torch.tensor([[weight]])
    for a in (0.1, 100.0):
        slope = a * (a + 1) / (a + weight) ** 2
        lost = float(x - TransformedL1(a).prox(x, step))
        rounding = float(torch.finfo(torch.float32).eps) * weight
        assert abs(lost - slope * step) <= 0.05 * slope * step + rounding
    lost = float(x - LHalf().prox(x, step))
    assert abs(lost - step / (2 * weight**0.5)) <= 0.05 * step + 1.2e-7 * weight


def test_a_long_row_in_a_metric_of_twelve_orders_solves_its_equation() -> None:
    """At the norm n of the result, sum x^2 / (n + step)^2 = 1."""
    x = normal(4, 5000, seed=3) * torch.tensor([1e-3, 1.0, 1e2, 1e6], dtype=torch.float64)[:, None]
    steps = uneven_steps(4, 5000, low=-6, high=6)
    y = GroupLasso(by_size=False).prox(x, steps)
    norms = y.norm(dim=1, keepdim=True)
    alive = norms[:, 0] > 0
    assert alive.tolist() == [bool(row) for row in ((x / steps).norm(dim=1) > 1)]
    sums = (x / (norms + steps)).square().sum(1)
    torch.testing.assert_close(sums[alive], torch.ones_like(sums[alive]), rtol=1e-9, atol=0)
    assert bool(alive.any())


@examples(20)
@given(st.integers(0, 10**6))
def test_the_joint_map_is_never_worse_than_the_composition(seed: int) -> None:
    x, step = normal(4, 20, seed=seed), 0.05 + (seed % 7) / 10
    joint = IntegratedTransformedL1(0.4, 0.2, exact=True)
    composed = IntegratedTransformedL1(0.4, 0.2)

    def cost(y: Tensor) -> float:
        return float((y - x).square().sum() / (2 * step) + joint.value(y))

    assert cost(joint.prox(x, step)) <= cost(composed.prox(x, step)) * (1 + 1e-12)


def test_the_joint_map_is_the_same_for_all_rows_at_once_and_for_blocks_of_rows() -> None:
    """3,000 elements in a row are more than one block of candidates."""
    x = normal(64, 3000, dtype=torch.float32)
    penalty = IntegratedTransformedL1(0.5, 0.1, exact=True)
    whole = penalty.prox(x, 0.05)
    for row in (0, 30, 63):
        single = penalty.prox(x[row : row + 1], 0.05)
        torch.testing.assert_close(single[0], whole[row], rtol=1e-5, atol=1e-6)
    assert 0 < int(whole.count_nonzero()) < whole.numel()


def test_a_step_of_zero_holds_an_element_even_where_its_row_dies() -> None:
    x = torch.tensor([[0.3, 0.2, 5e-4]], dtype=torch.float64)
    steps = torch.tensor([[10.0, 10.0, 0.0]], dtype=torch.float64)
    for penalty in (L1(), SparseGroupLasso(), IntegratedTransformedL1(a=0.1, exact=True)):
        found = penalty.prox(x, steps)
        assert found.tolist() == [[0.0, 0.0, 5e-4]]


def test_n_of_m_keeps_the_first_of_equal_ones() -> None:
    assert NofM(2, 4).prox(torch.ones(1, 4), 0.1).tolist() == [[1, 1, 0, 0]]


def test_the_share_of_the_elements_grows_with_depth() -> None:
    shares = [IntegratedTransformedL1.at_depth(depth, 4).mu for depth in (1, 2, 3, 4)]
    assert shares == [0.2, 0.4, 0.6, 0.8]


@EVERY
def test_a_penalty_names_its_source_and_prints_its_parameters(case: Case) -> None:
    assert "Source:" in (type(case.penalty).__doc__ or "")
    assert repr(case.penalty).startswith(f"{type(case.penalty).__name__}(")
