"""CGES: combined group and exclusive sparsity, with its published, approximate map."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from abscise.penalties._base import Kind, Penalty
from abscise.penalties._checks import check_share
from abscise.penalties._group_shrink import shrink_rows
from abscise.penalties._operators import row_norms, soft


@dataclass(frozen=True, slots=True)
class CGES(Penalty):
    """sum over rows of (1 - mu) ||w|| + mu ||w||_1^2 / 2: rows go, and weights of a row compete.

    Args:
        mu: The share of the exclusive term, in [0, 1]; the authors let it grow with depth.

    Source: J. Yoon, S. J. Hwang 2017, "Combined Group and Exclusive Sparsity for Deep Neural
    Networks" (ICML). The map is theirs and approximate: first the group's, then soft thresholding
    by step * mu * ||w||_1 of what the group map left, where the minimiser would take the sum
    afterwards. The error of the threshold is a share of order step * size, and at step * mu * size
    above 1 whole rows can vanish that the minimiser would keep: `ExclusiveLasso` is exact. The
    authors also multiply both terms by constants of the layer; that is the caller's step.
    """

    mu: float = 0.5

    kind: ClassVar[Kind] = Kind.ROW
    convex: ClassVar[bool] = True
    takes_metric: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_share("CGES", "mu", self.mu)

    @property
    @override
    def exact(self) -> bool:
        return False

    @override
    def _value(self, x: Tensor) -> Tensor:
        exclusive = (x.abs().sum(1) * self.mu**0.5).square().sum() / 2
        return (1 - self.mu) * row_norms(x).sum() + exclusive

    @override
    def _prox(self, x: Tensor, step: Tensor) -> Tensor:
        kept = shrink_rows(x, step * (1 - self.mu))
        return soft(kept, step * self.mu * kept.abs().sum(1, keepdim=True))
