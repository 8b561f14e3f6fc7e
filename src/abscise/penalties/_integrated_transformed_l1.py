"""IntegratedTransformedL1: norms of rows and transformed l1 of their weights together."""

from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor
from typing_extensions import override

from abscise.penalties._base import Kind, Penalty
from abscise.penalties._checks import check_shape_parameter, check_share
from abscise.penalties._cubic import shrink_transformed_l1
from abscise.penalties._group_shrink import shrink_rows
from abscise.penalties._joint import shrink_jointly
from abscise.penalties._operators import row_norms, transformed_l1


@dataclass(frozen=True, slots=True)
class IntegratedTransformedL1(Penalty):
    """sum over rows of (1 - mu) ||w|| + mu sum (a + 1) |w| / (a + |w|): rows and weights go.

    Args:
        mu: The share of the elements' term, in [0, 1]; the authors let it grow with depth, see
            `at_depth`.
        a: As in `TransformedL1`.
        exact: Take the minimiser of both terms together, found by a search over the norm of each
            row: several hundred times the work. Else the authors' map: the group's, then
            transformed l1's. Neither order of the two is the minimiser; at the steps of a training
            the difference is small, since both are then near the identity.

    Source: R. Ma, J. Miao, L. Niu, P. Zhang 2019, "Transformed l1 Regularization for Learning
    Sparse Deep Neural Networks" (arXiv 1901.01021). The search is ours. In a diagonal metric the
    authors' composition is made of the two maps that are exact in it.
    """

    mu: float = 0.5
    a: float = 1.0
    exact: bool = False

    kind: ClassVar[Kind] = Kind.ROW
    convex: ClassVar[bool] = False
    takes_metric: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_share("IntegratedTransformedL1", "mu", self.mu)
        check_shape_parameter("IntegratedTransformedL1", self.a)

    @classmethod
    def at_depth(cls, depth: int, layers: int, a: float = 1.0) -> Self:
        """The penalty of layer `depth` (1 .. layers): mu = depth / (layers + 1).

        For four layers that is .2, .4, .6, .8: the share grows evenly and is never 0 or 1.

        Raises:
            ValueError: There is no such layer.
        """
        if not 1 <= depth <= layers:
            message = f"IntegratedTransformedL1: depth must be in [1, {layers}], got {depth}"
            raise ValueError(message)
        return cls(mu=depth / (layers + 1), a=a)

    @override
    def _value(self, x: Tensor) -> Tensor:
        elements = transformed_l1(x, self.a).sum()
        return (1 - self.mu) * row_norms(x).sum() + self.mu * elements

    @override
    def _prox(self, x: Tensor, step: Tensor) -> Tensor:
        group, element = step * (1 - self.mu), step * self.mu
        composed = shrink_transformed_l1(shrink_rows(x, group), self.a, element)
        if not self.exact:
            return composed
        return shrink_jointly(x, self.a, self.mu, step, composed)
