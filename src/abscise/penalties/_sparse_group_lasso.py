"""SparseGroupLasso: l1 and the norms of the rows together."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from abscise.penalties._base import Kind, Penalty
from abscise.penalties._checks import check_share
from abscise.penalties._group_shrink import shrink_rows_
from abscise.penalties._operators import row_norms, soft


@dataclass(frozen=True, slots=True)
class SparseGroupLasso(Penalty):
    """sum over rows of alpha ||w||_1 + (1 - alpha) sqrt(size) ||w||: rows go, and single weights.

    Args:
        alpha: The share of l1, in [0, 1].

    Source: N. Simon, J. Friedman, T. Hastie, R. Tibshirani 2013, "A Sparse-Group Lasso". For
    networks: S. Scardapane, D. Comminiello, A. Hussain, A. Uncini 2017, "Group Sparse
    Regularization for Deep Neural Networks" (arXiv 1607.00485), where both terms have weight 1:
    alpha = 1/2 at twice the strength. The map is soft thresholding first, then the group's; the
    other order is not the minimiser. Exact in a diagonal metric, too.
    """

    alpha: float = 0.5

    kind: ClassVar[Kind] = Kind.ROW
    convex: ClassVar[bool] = True
    takes_metric: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_share("SparseGroupLasso", "alpha", self.alpha)

    def _group_weight(self, size: int) -> float:
        return (1 - self.alpha) * math.sqrt(size)

    @override
    def _value(self, x: Tensor) -> Tensor:
        norms = self._group_weight(x.shape[1]) * row_norms(x).sum()
        return self.alpha * x.abs().sum() + norms

    @override
    def _prox(self, x: Tensor, step: Tensor) -> Tensor:
        kept = soft(x, step * self.alpha)
        return shrink_rows_(kept, step * self._group_weight(x.shape[1]))
