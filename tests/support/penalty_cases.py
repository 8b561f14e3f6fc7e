"""The law table: every public penalty with its formula, and the facts that laws depend on."""

import math
from dataclasses import dataclass

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
from support import penalty_oracle as oracle


@dataclass(frozen=True, slots=True)
class Case:
    """One penalty.

    Args:
        cost: The formula of one row, written independently.
        continuous_below: The map is continuous for steps below it.
        sizes: Of rows that the penalty takes, at most 3 for the brute force.
        orderless: The order of the elements in a row does not matter.
        accuracy: Of the map, as a share of the largest weight; 0 is that of the dtype.
    """

    penalty: Penalty
    cost: oracle.Cost
    continuous_below: float
    sizes: tuple[int, ...] = (1, 2, 3)
    orderless: bool = True
    accuracy: float = 0.0


def _jump(a: float) -> float:
    """The step from which the map of transformed l1 jumps."""
    return a**2 / (2 * (a + 1))


CASES = (
    Case(L0(), oracle.l0, 0),
    Case(L1(), oracle.l1, math.inf),
    Case(LHalf(), oracle.lhalf, 0),
    Case(MCP(0.5), oracle.mcp(0.5, 3.0), 3.0),
    Case(MCP(2.0, gamma=0.3), oracle.mcp(2.0, 0.3), 0.3),
    Case(SCAD(0.4), oracle.scad(0.4, 3.7), 2.7),
    Case(SCAD(1.5, a=2.1), oracle.scad(1.5, 2.1), 1.1),
    Case(TransformedL1(), oracle.transformed_l1(1.0), _jump(1.0)),
    Case(TransformedL1(0.01), oracle.transformed_l1(0.01), _jump(0.01)),
    Case(TransformedL1(100.0), oracle.transformed_l1(100.0), _jump(100.0)),
    Case(GroupLasso(), oracle.group_lasso(by_size=True), math.inf),
    Case(GroupLasso(by_size=False), oracle.group_lasso(by_size=False), math.inf),
    Case(GroupTransformedL1(), oracle.group_transformed_l1(1.0), _jump(1.0)),
    Case(GroupTransformedL1(0.05), oracle.group_transformed_l1(0.05), _jump(0.05)),
    Case(SparseGroupLasso(), oracle.sparse_group_lasso(0.5), math.inf),
    Case(SparseGroupLasso(0.05), oracle.sparse_group_lasso(0.05), math.inf),
    Case(ExclusiveLasso(), oracle.exclusive, math.inf),
    Case(CGES(), oracle.cges(0.5), math.inf),
    Case(CGES(0.0), oracle.cges(0.0), math.inf),
    Case(IntegratedTransformedL1(), oracle.integrated(0.5, 1.0), 0),
    Case(
        IntegratedTransformedL1(exact=True),
        oracle.integrated(0.5, 1.0),
        _jump(1.0) / 0.5,
        accuracy=1e-6,
    ),
    Case(
        IntegratedTransformedL1(0.8, 0.1, exact=True),
        oracle.integrated(0.8, 0.1),
        0,
        accuracy=1e-6,
    ),
    Case(NofM(1, 2), oracle.n_of_m(1, 2), 0, sizes=(2,), orderless=False),
    Case(NofM(2, 3), oracle.n_of_m(2, 3), 0, sizes=(3,), orderless=False),
)
