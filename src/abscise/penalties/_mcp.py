"""MCP: the minimax concave penalty."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from abscise.penalties._checks import check_above
from abscise.penalties._inplace import Elementwise
from abscise.penalties._operators import hard, soft


@dataclass(frozen=True, slots=True)
class MCP(Elementwise):
    """sum of lam |w| - w^2 / (2 gamma) up to |w| = gamma lam, and constant beyond it.

    Small weights shrink as under l1, weights above gamma lam not at all.

    Args:
        lam: The slope at 0; gamma * lam is in the units of the weights.
        gamma: How far the shrinkage reaches; the published range is gamma > 1.

    The strength multiplies the whole penalty. The published penalty with slope `lam` is strength 1:
    strength s and `MCP(lam, gamma)` are the published one of slope s lam and gamma / s.

    Source: C.-H. Zhang 2010, "Nearly Unbiased Variable Selection under Minimax Concave Penalty"
    (arXiv 1002.4734). The map is for any step: above step = gamma the objective is concave up to
    gamma lam, and the map is hard thresholding.
    """

    lam: float
    gamma: float = 3.0

    convex: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_above("MCP", "lam", self.lam, 0)
        check_above("MCP", "gamma", self.gamma, 0)

    @override
    def _value(self, x: Tensor) -> Tensor:
        inside = x.abs().clamp(max=self.gamma * self.lam)
        return (self.lam * inside - inside * (inside / (2 * self.gamma))).sum()

    @override
    def _prox(self, x: Tensor, step: Tensor) -> Tensor:
        gamma, lam = self.gamma, self.lam
        gap = (gamma - step).clamp(min=0)
        magnitude = x.abs()
        stretched = (soft(magnitude, step * lam) * (gamma / gap)).minimum(magnitude)
        shrunk = torch.where(magnitude <= gamma * lam, torch.copysign(stretched, x), x)
        jumped = hard(x, (step * gamma).sqrt() * lam)
        return torch.where(gap > 0, shrunk, jumped)
