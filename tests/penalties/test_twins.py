"""Every law can fail: wrong twins of the penalties break it, where the penalties keep it."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

import pytest
import torch
from torch import Tensor

from abscise.penalties import (
    L0,
    MCP,
    SCAD,
    Elementwise,
    ExclusiveLasso,
    GroupLasso,
    IntegratedTransformedL1,
    LHalf,
    NofM,
    Penalty,
    Radial,
    SparseGroupLasso,
    TransformedL1,
)
from support import penalty_laws as laws
from support import penalty_oracle as oracle
from support.penalty_cases import CASES, Case

# The coverage tracer would double their time; other tests run the same code.
pytestmark = pytest.mark.no_cover

Law: TypeAlias = Callable[[Case, Tensor, laws.Step], None]
Mistake: TypeAlias = dict[str, Callable[..., Any]]


def mistaken(penalty: Penalty, mistake: Mistake) -> Penalty:
    """The same penalty, of a subclass with these methods instead."""
    kind = type(penalty)
    twin = type(f"Wrong{kind.__name__}", (kind,), {"__slots__": (), **mistake})
    return twin(**{field.name: getattr(penalty, field.name) for field in fields(penalty)})  # type: ignore[arg-type]


def inputs_of(case: Case, law: Law, *, metric: bool) -> list[tuple[Tensor, laws.Step]]:
    found: list[tuple[Tensor, laws.Step]] = []
    for seed in range(4):
        weights, number, steps = laws.random_case_inputs(case, seed)
        bound = case.continuous_below / 2 if law is laws.assert_moreau_gradient else 1e3
        found.append((weights, steps.clamp(max=bound) if metric else min(number, bound)))
    return found


def assert_only_the_twin_fails(case: Case, law: Law, mistake: Mistake, *, metric: bool) -> None:
    twin = replace(case, penalty=mistaken(case.penalty, mistake))
    inputs = inputs_of(case, law, metric=metric)
    judge(law, case, inputs)
    with pytest.raises(AssertionError):
        judge(law, twin, inputs)


def judge(law: Law, case: Case, inputs: list[tuple[Tensor, laws.Step]]) -> None:
    for weights, step in inputs:
        law(case, weights, step)


def changed(method: str, change: Callable[[Tensor], Tensor]) -> Callable[[Penalty], Mistake]:
    """The mistake of a method whose result is changed."""

    def make(penalty: Penalty) -> Mistake:
        right = getattr(type(penalty), method)
        return {method: lambda *args: change(right(*args))}

    return make


def changes_its_argument(penalty: Penalty) -> Mistake:
    right = type(penalty)._prox
    return {"_prox": lambda self, x, step: right(self, x.mul_(0.99), step)}


def differs_in_a_metric(penalty: Penalty) -> Mistake:
    right = type(penalty)._prox
    return {"_prox": lambda self, x, step: right(self, x, step) * (0.99 if step.shape else 1)}


def ignores_step_zero(penalty: Penalty) -> Mistake:
    right = type(penalty)._prox
    return {"_map": lambda self, x, _step: right(self, x, torch.tensor(0.3).double())}


def leaves_minus_zero(penalty: Penalty) -> Mistake:
    del penalty
    return {"_map": lambda _self, x, _step: -torch.zeros_like(x)}


def forgets_a_part(penalty: Penalty) -> Mistake:
    del penalty
    return {"prox_": lambda _self, weights, _step: weights}


def every(_case: Case) -> bool:
    return True


def exact(case: Case) -> bool:
    return case.penalty.exact


def metric(case: Case) -> bool:
    return case.penalty.takes_metric


TWINS: tuple[tuple[Law, Callable[[Penalty], Mistake], Callable[[Case], bool]], ...] = (
    (laws.assert_value_is_the_formula, changed("_value", lambda v: 1 - v), every),
    (laws.assert_prox_minimises, changed("_prox", lambda y: y * 0.99), exact),
    (laws.assert_zeros_stay_and_nothing_grows, changed("_prox", lambda y: y * 1e3), every),
    (laws.assert_zeros_stay_and_nothing_grows, changed("_prox", lambda y: y * torch.nan), every),
    (laws.assert_zeros_stay_and_nothing_grows, changed("_prox", lambda y: -y), every),
    (laws.assert_zeros_stay_and_nothing_grows, changed("_map", Tensor.float), every),
    (laws.assert_zeros_stay_and_nothing_grows, leaves_minus_zero, every),
    (laws.assert_rows_are_independent, changed("_prox", lambda y: y * y.abs().amax()), every),
    (laws.assert_rows_are_independent, changed("_prox", Tensor.abs), every),
    (
        laws.assert_order_in_rows_does_not_matter,
        changed("_prox", lambda y: y * torch.arange(y.shape[-1])),
        lambda case: case.orderless,
    ),
    (laws.assert_prox_is_pure, changes_its_argument, every),
    (laws.assert_step_zero_is_the_identity, ignores_step_zero, lambda case: case.sizes[-1] > 1),
    (
        laws.assert_nonexpansive,
        changed("_prox", lambda y: y * 3),
        lambda case: case.penalty.exact and case.penalty.convex,
    ),
    (
        laws.assert_moreau_gradient,
        changed("_prox", lambda y: y * 0.95),
        lambda case: case.penalty.exact and case.continuous_below > 0,
    ),
    (laws.assert_constant_metric_is_the_number, differs_in_a_metric, metric),
    (
        laws.assert_in_place_is_the_map,
        forgets_a_part,
        lambda case: isinstance(case.penalty, Elementwise | Radial),
    ),
    (
        laws.assert_factors_are_the_map,
        changed("factors", Tensor.sqrt),
        lambda case: isinstance(case.penalty, Radial),
    ),
)


@pytest.mark.parametrize(
    ("law", "mistake", "case"),
    [
        pytest.param(law, mistake, case, id=f"{number}-{law.__name__}-{case.penalty}")
        for number, (law, mistake, holds) in enumerate(TWINS)
        for case in CASES
        if holds(case)
    ],
)
def test_a_law_fails_for_a_wrong_twin_of_every_penalty(
    law: Law, mistake: Callable[[Penalty], Mistake], case: Case
) -> None:
    assert_only_the_twin_fails(case, law, mistake(case.penalty), metric=False)


@pytest.mark.parametrize(
    "case", [case for case in CASES if metric(case) and exact(case)], ids=lambda c: str(c.penalty)
)
def test_the_law_of_the_minimiser_fails_in_a_metric_for_a_wrong_twin(case: Case) -> None:
    mistake = differs_in_a_metric(case.penalty)
    assert_only_the_twin_fails(case, laws.assert_prox_minimises, mistake, metric=True)


def test_every_law_has_a_twin_that_fails() -> None:
    named = {name for name in vars(laws) if name.startswith("assert_")}
    assert named == {law.__name__ for law, _, _ in TWINS}


@dataclass(frozen=True, slots=True)
class Published:
    """A map that is, or could be, taken for the right one; `metric`: it is wrong only there."""

    name: str
    case: Case
    prox: Callable[[Any, Tensor, Tensor], Tensor]
    metric: bool = False


def soft(x: Tensor, threshold: Tensor) -> Tensor:
    return (x.abs() - threshold).clamp(min=0) * x.sign()


def group_first(penalty: SparseGroupLasso, x: Tensor, step: Tensor) -> Tensor:
    weight = (1 - penalty.alpha) * x.shape[1] ** 0.5
    scaled = x * (1 - step * weight / x.norm(dim=1, keepdim=True)).clamp(min=0)
    return soft(scaled, step * penalty.alpha)


def one_radius(penalty: GroupLasso, x: Tensor, step: Tensor) -> Tensor:
    del penalty
    weight = x.shape[1] ** 0.5
    return x * (1 - step * weight / x.norm(dim=1, keepdim=True)).clamp(min=0)


def sum_before(penalty: ExclusiveLasso, x: Tensor, step: Tensor) -> Tensor:
    del penalty
    return soft(x, step * x.abs().sum(1, keepdim=True))


def composition(penalty: IntegratedTransformedL1, x: Tensor, step: Tensor) -> Tensor:
    return IntegratedTransformedL1(penalty.mu, penalty.a).prox(x, step)


def one_threshold(penalty: TransformedL1, x: Tensor, step: Tensor) -> Tensor:
    """The threshold of the continuous regime in both."""
    y = TransformedL1(penalty.a).prox(x, step)
    return y.masked_fill(x.abs() <= step * (penalty.a + 1) / penalty.a, 0.0)


def firm(penalty: MCP, x: Tensor, step: Tensor) -> Tensor:
    """The regime gamma > step for every step."""
    shrunk = soft(x, step * penalty.lam) * penalty.gamma / (penalty.gamma - step)
    return torch.where(x.abs() <= penalty.gamma * penalty.lam, shrunk, x)


def soft_scad(penalty: SCAD, x: Tensor, step: Tensor) -> Tensor:
    """Without the parabola's stretch."""
    return torch.where(x.abs() <= penalty.a * penalty.lam, soft(x, step * penalty.lam), x)


def half_without_jump(penalty: LHalf, x: Tensor, step: Tensor) -> Tensor:
    """The stationary point, taken from where it exists and not from where it wins."""
    del penalty
    angle = (step / 4 * (x.abs() / 3) ** -1.5).clamp(max=1).arccos()
    y = 2 / 3 * x * (1 + torch.cos(2 * torch.pi / 3 - 2 / 3 * angle))
    return y.masked_fill(x.abs() <= 3 * (step / 4) ** (2 / 3), 0.0)


def smaller_jump(penalty: L0, x: Tensor, step: Tensor) -> Tensor:
    del penalty
    return x.masked_fill(x.abs() <= step.sqrt(), 0.0)


def by_magnitude(penalty: NofM, x: Tensor, step: Tensor) -> Tensor:
    """Without a look at the step."""
    del step
    return penalty.prox(x, 1.0) if type(penalty) is NofM else NofM(penalty.n, penalty.m).prox(x, 1)


PUBLISHED = (
    Published(
        "the group's map before the elements'",
        Case(SparseGroupLasso(), oracle.sparse_group_lasso(0.5), 0),
        group_first,
    ),
    Published(
        "one radius for all steps",
        Case(GroupLasso(), oracle.group_lasso(by_size=True), 0),
        one_radius,
        metric=True,
    ),
    Published(
        "the sum of the weights before the map",
        Case(ExclusiveLasso(), oracle.exclusive, 0, sizes=(3,)),
        sum_before,
    ),
    Published(
        "one map after the other",
        Case(IntegratedTransformedL1(exact=True), oracle.integrated(0.5, 1.0), 0),
        composition,
    ),
    Published(
        "one threshold for both regimes",
        Case(TransformedL1(0.1), oracle.transformed_l1(0.1), 0),
        one_threshold,
    ),
    Published("firm at any step", Case(MCP(0.5, 0.3), oracle.mcp(0.5, 0.3), 0), firm),
    Published("no parabola", Case(SCAD(0.4), oracle.scad(0.4, 3.7), 0), soft_scad),
    Published("no jump", Case(LHalf(), oracle.lhalf, 0), half_without_jump),
    Published("a smaller jump", Case(L0(), oracle.l0, 0), smaller_jump),
    Published(
        "the largest whatever their steps",
        Case(NofM(1, 3), oracle.n_of_m(1, 3), 0, sizes=(3,)),
        by_magnitude,
        metric=True,
    ),
)


@pytest.mark.parametrize("wrong", PUBLISHED, ids=lambda wrong: wrong.name)
def test_the_law_of_the_minimiser_sees_a_map_that_is_nearly_right(wrong: Published) -> None:
    mistake: Mistake = {"_prox": wrong.prox}
    law = laws.assert_prox_minimises
    assert_only_the_twin_fails(wrong.case, law, mistake, metric=wrong.metric)
