"""GroupLasso: the sum of the norms of the rows."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from abscise.penalties._group_shrink import shrink_rows_in_metric
from abscise.penalties._inplace import Radial


@dataclass(frozen=True, slots=True)
class GroupLasso(Radial):
    """sum over rows of c ||w||, c = sqrt(size) or 1: a row shrinks as a whole, or becomes 0.

    Args:
        by_size: c = sqrt(size), so that long rows are not favoured; else c = 1.

    Source: M. Yuan, Y. Lin 2006, "Model Selection and Estimation in Regression with Grouped
    Variables" (with sqrt(size)). The map in a diagonal metric: T. Deleu, Y. Bengio 2021,
    "Structured Sparsity Inducing Adaptive Optimizers for Deep Learning" (arXiv 2102.03869); we
    solve for the norm by a Newton iteration that rises to it.
    """

    by_size: bool = True

    convex: ClassVar[bool] = True
    takes_metric: ClassVar[bool] = True

    def _weight(self, size: int) -> float:
        return math.sqrt(size) if self.by_size else 1.0

    @override
    def _of_norms(self, norms: Tensor, size: int) -> Tensor:
        return norms * self._weight(size)

    @override
    def _shrink(self, norms: Tensor, size: int, step: Tensor) -> Tensor:
        return (norms - step * self._weight(size)).clamp(min=0)

    @override
    def _metric_prox(self, x: Tensor, step: Tensor) -> Tensor:
        return shrink_rows_in_metric(x, step * self._weight(x.shape[1]))
