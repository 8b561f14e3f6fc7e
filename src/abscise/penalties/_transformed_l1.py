"""TransformedL1: between l0 and l1, with an exact map in closed form."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from abscise.penalties._checks import check_shape_parameter
from abscise.penalties._cubic import (
    numbers_of,
    root_polynomial,
    shrink_by_polynomial,
    shrink_transformed_l1,
)
from abscise.penalties._inplace import Elementwise, Map
from abscise.penalties._operators import transformed_l1


@dataclass(frozen=True, slots=True)
class TransformedL1(Elementwise):
    """sum (a + 1) |w| / (a + |w|): l0 for a -> 0, l1 for a -> infinity.

    Args:
        a: The size, in the units of the weights, at which a weight costs half of (a + 1).

    Source: S. Zhang, J. Xin 2018, "Minimization of Transformed L1 Penalty: Theory, Difference of
    Convex Function Algorithm, and Robust Application in Compressed Sensing" (arXiv 1411.5735); the
    map: the same authors 2017, "Minimization of Transformed L1 Penalty: Closed Form Representation
    and Iterative Thresholding Algorithms" (arXiv 1412.5240). Theirs takes arccos of a number near
    1 and loses the shrinkage in float32; ours is the same root by asin of a small one. Where both
    0 and the jump are minimisers, 0 is taken.
    """

    a: float = 1.0

    convex: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_shape_parameter("TransformedL1", self.a)

    @override
    def _value(self, x: Tensor) -> Tensor:
        return transformed_l1(x, self.a).sum()

    @override
    def _prox(self, x: Tensor, step: Tensor) -> Tensor:
        return shrink_transformed_l1(x, self.a, step)

    @override
    def _numbers(self, step: float, dtype: torch.dtype) -> tuple[int, tuple[float, ...]]:
        terms, scale, jump = numbers_of(self.a, step, dtype)
        return terms, (scale, jump)

    @override
    def _compilable(self) -> Map:
        roots = {dtype: root_polynomial(dtype) for dtype in (torch.float32, torch.float64)}

        def map_(x: Tensor, terms: int, numbers: Sequence[Tensor]) -> Tensor:
            scale, jump = numbers
            return shrink_by_polynomial(x, self.a, terms, scale, jump, roots[x.dtype])

        return map_
