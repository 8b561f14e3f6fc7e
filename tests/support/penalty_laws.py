"""The laws of penalties, each an assertion on one case, some weights and a step.

`test_laws.py` runs them on every penalty of the table, `test_twins.py` on wrong ones.
"""

from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from abscise.penalties import Elementwise, Kind, Radial
from support.penalty_cases import Case
from support.penalty_oracle import Array, least, objective

Step: TypeAlias = float | Tensor


def assert_value_is_the_formula(case: Case, weights: Tensor, _step: Step) -> None:
    expected = float(case.cost(_wide(weights)).sum())
    found = case.penalty.value(weights)
    assert found.shape == ()
    assert found.dtype == torch.promote_types(weights.dtype, torch.float32)
    torch.testing.assert_close(found.double(), torch.tensor(expected).double(), rtol=1e-5, atol=0)


def assert_prox_minimises(case: Case, weights: Tensor, step: Step) -> None:
    """No point of the brute force is better than the map by more than rounding."""
    x, y, s = (
        _rows(case, weights),
        _rows(case, case.penalty.prox(weights, step)),
        _steps(weights, step),
    )
    for old, new, row_step in zip(x, y, _rows(case, s), strict=True):
        reached = float(objective(case.cost, new, old, row_step))
        best = least(case.cost, old, row_step)
        slack = _slack(weights.dtype, best, old, row_step)
        assert reached <= best + slack, f"{case.penalty}: {old} -> {new}: {reached} > {best}"


def assert_rows_are_independent(case: Case, weights: Tensor, step: Step) -> None:
    """Rows permuted, taken alone, or with turned signs give the same results, likewise changed."""
    whole = case.penalty.prox(weights, step)
    order = torch.arange(weights.shape[0]).flip(0)
    permuted = case.penalty.prox(weights[order], _pick(step, order))
    _assert_near(permuted[order], whole, weights, case.accuracy)
    first = torch.tensor([0])
    alone = case.penalty.prox(weights[first], _pick(step, first))
    _assert_near(alone, whole[first], weights, case.accuracy)
    assert torch.equal(case.penalty.prox(-weights, step), -whole)


def assert_order_in_rows_does_not_matter(case: Case, weights: Tensor, step: Step) -> None:
    whole = case.penalty.prox(weights, step)
    turned = case.penalty.prox(weights.flip(1), step.flip(1) if isinstance(step, Tensor) else step)
    _assert_near(turned.flip(1), whole, weights, case.accuracy)


def assert_zeros_stay_and_nothing_grows(case: Case, weights: Tensor, step: Step) -> None:
    found = case.penalty.prox(weights, step)
    assert found.dtype == weights.dtype
    assert found.shape == weights.shape
    assert bool(torch.isfinite(found).all()), f"{case.penalty}: {weights} -> {found}"
    assert bool((found[weights == 0] == 0).all())
    assert not bool(torch.signbit(found[found == 0]).any()), "-0.0"
    assert bool((found.abs() <= weights.abs()).all()), f"{case.penalty}: {weights} -> {found}"
    assert bool((found * weights.sign() >= 0).all())
    assert not bool(case.penalty.value(weights).isnan())


def assert_prox_is_pure(case: Case, weights: Tensor, step: Step) -> None:
    leaf = weights.clone().requires_grad_()
    found, again = case.penalty.prox(leaf, step), case.penalty.prox(leaf, step)
    assert torch.equal(leaf, weights)
    assert torch.equal(found, again)
    assert not found.requires_grad
    assert weights.numel() == 0 or found.data_ptr() != leaf.data_ptr()


def assert_step_zero_is_the_identity(case: Case, weights: Tensor, step: Step) -> None:
    assert torch.equal(case.penalty.prox(weights, 0.0), weights)
    if case.penalty.takes_metric:
        some = torch.full(weights.shape, 0.3) if not isinstance(step, Tensor) else step.clone()
        some.view(-1)[::2] = 0.0
        found = case.penalty.prox(weights, some)
        assert torch.equal(found[some == 0], weights[some == 0])


def assert_nonexpansive(case: Case, weights: Tensor, step: Step) -> None:
    """Two points are not farther from each other after the map, in the metric of the step."""
    other = weights.roll(1, 0) * 0.7
    scale = torch.as_tensor(step, dtype=torch.float64).clamp(min=1e-30).sqrt()
    before = float(((weights - other).double() / scale).norm())
    moved = case.penalty.prox(weights, step).double() - case.penalty.prox(other, step).double()
    rounding = 8 * torch.finfo(weights.dtype).eps * float((weights.double() / scale).norm())
    assert float((moved / scale).norm()) <= before + rounding


def assert_moreau_gradient(case: Case, weights: Tensor, step: Step) -> None:
    """(x - prox(x)) / step is the gradient of the least objective, by central differences."""
    x, s = weights.double(), torch.as_tensor(step, dtype=torch.float64).expand(weights.shape)

    def envelope(point: Tensor) -> float:
        y = case.penalty.prox(point, step)
        return float(((y - point).square() / (2 * s)).sum() + case.penalty.value(y))

    gradient = (x - case.penalty.prox(x, step)) / s
    direction = torch.linspace(0.5, 1.5, x.numel(), dtype=torch.float64).reshape(x.shape)
    reach = 1e-5 * float(1 + x.abs().max())
    slope = (envelope(x + reach * direction) - envelope(x - reach * direction)) / (2 * reach)
    expected = float((gradient * direction).sum())
    # The map may turn within the reach; it is continuous, so the gradient moves by reach / step.
    slack = 1e-4 * (1 + abs(expected)) + 8 * reach * float((direction.square() / s).sum())
    assert abs(slope - expected) <= slack, f"{case.penalty}: {slope} is not {expected}"


def assert_constant_metric_is_the_number(case: Case, weights: Tensor, step: Step) -> None:
    number = float(step.flatten()[0]) if isinstance(step, Tensor) else step
    constant = torch.full(weights.shape, number, dtype=torch.float64)
    found = case.penalty.prox(weights, constant)
    _assert_near(found, case.penalty.prox(weights, number), weights, 1e-6)


def assert_in_place_is_the_map(case: Case, weights: Tensor, step: Step) -> None:
    penalty = case.penalty
    assert isinstance(penalty, Elementwise | Radial)
    expected = penalty.prox(weights, step)
    changed = weights.clone()
    assert penalty.prox_(changed, step) is changed
    assert torch.equal(changed, expected)
    inside = torch.zeros(weights.shape[1], 2, weights.shape[0], dtype=weights.dtype)
    view = inside[:, 1].t()
    view.copy_(weights)
    same_strides = penalty.prox(view, step)
    penalty.prox_(view, step)
    assert torch.equal(view, same_strides)
    _assert_near(view, expected, weights, 1e-6)
    assert not bool(inside[:, 0].any()), "changed what is beside the weights"


def assert_factors_are_the_map(case: Case, weights: Tensor, step: Step) -> None:
    penalty = case.penalty
    assert isinstance(penalty, Radial)
    number = 0.1 if isinstance(step, Tensor) else step
    norms = torch.linalg.vector_norm(weights, dim=1, dtype=torch.float64)
    factors = penalty.factors(norms, weights.shape[1], number)
    scaled = (weights.double() * factors[:, None]).to(weights.dtype)
    _assert_near(scaled, penalty.prox(weights, number), weights, 1e-6)
    assert bool(((factors >= 0) & (factors <= 1)).all())


def random_case_inputs(case: Case, seed: int) -> tuple[Tensor, float, Tensor]:
    """Weights in float64, a step and a step per element, spread over four orders of magnitude."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    shape = (3, case.sizes[-1])
    weights = torch.randn(shape, generator=generator, dtype=torch.float64) * 10 ** (
        2 * uniform() - 1
    )
    return weights, float(10 ** (3 * uniform() - 2)), 10 ** (3 * uniform(*shape) - 2)


def _slack(dtype: torch.dtype, best: float, x: Array, step: Array) -> float:
    """What rounding the result to `dtype` can cost; a factor above that of the arithmetic."""
    eps = 8 * torch.finfo(dtype).eps
    moved = np.where(step > 0, (eps * x) ** 2 / np.where(step > 0, step, 1), 0)
    return float(eps * best + moved.sum())


def _assert_near(found: Tensor, expected: Tensor, weights: Tensor, share: float) -> None:
    """Equal up to a share of the largest weight, and up to the rounding of the dtype."""
    share = max(share, 8 * float(torch.finfo(weights.dtype).eps))
    gap = (found.double() - expected.double()).abs()
    assert bool((gap <= share * weights.double().abs().max()).all()), f"{found} is not {expected}"


def _rows(case: Case, values: Any) -> Array:
    """The parts that the penalty judges by themselves: elements or rows."""
    wide = values if isinstance(values, np.ndarray) else _wide(values)
    return wide.reshape(-1, 1) if case.penalty.kind is Kind.ELEMENTWISE else wide


def _wide(values: Tensor) -> Array:
    return np.asarray(values.double().numpy(), dtype=np.float64)


def _steps(weights: Tensor, step: Step) -> Array:
    return np.broadcast_to(np.asarray(torch.as_tensor(step).double()), tuple(weights.shape))


def _pick(step: Step, rows: Tensor) -> Step:
    return step[rows] if isinstance(step, Tensor) else step
