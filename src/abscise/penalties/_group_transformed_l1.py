"""GroupTransformedL1: transformed l1 of the norms of the rows."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from abscise.penalties._checks import check_shape_parameter
from abscise.penalties._cubic import shrink_transformed_l1
from abscise.penalties._inplace import Radial
from abscise.penalties._operators import transformed_l1


@dataclass(frozen=True, slots=True)
class GroupTransformedL1(Radial):
    """sum over rows of (a + 1) ||w|| / (a + ||w||): whole rows go, large ones hardly shrink.

    Args:
        a: The norm at which a row costs half of (a + 1).

    Source: the scalar penalty and its map are those of `TransformedL1`; a penalty on a norm has the
    map prox(||w||) w / ||w||. There is no exact map in a diagonal metric.
    """

    a: float = 1.0

    convex: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_shape_parameter("GroupTransformedL1", self.a)

    @override
    def _of_norms(self, norms: Tensor, size: int) -> Tensor:
        return transformed_l1(norms, self.a)

    @override
    def _shrink(self, norms: Tensor, size: int, step: Tensor) -> Tensor:
        return shrink_transformed_l1(norms, self.a, step)
