"""L0: how many weights are not zero."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from abscise.penalties._inplace import Elementwise
from abscise.penalties._operators import hard


@dataclass(frozen=True, slots=True)
class L0(Elementwise):
    """The number of w != 0; weights up to sqrt(2 step) become 0, the others stay.

    At |w| = sqrt(2 step) both are minimisers, and 0 is taken.

    Source: T. Blumensath, M. E. Davies 2008, "Iterative Thresholding for Sparse Approximations"
    (hard thresholding).
    """

    convex: ClassVar[bool] = False

    @override
    def _value(self, x: Tensor) -> Tensor:
        return x.ne(0).sum().to(x.dtype)

    @override
    def _prox(self, x: Tensor, step: Tensor) -> Tensor:
        return hard(x, (2 * step).sqrt())
