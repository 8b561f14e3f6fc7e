"""SCAD: smoothly clipped absolute deviation."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from abscise.penalties._checks import check_above
from abscise.penalties._inplace import Elementwise
from abscise.penalties._operators import hard, soft


@dataclass(frozen=True, slots=True)
class SCAD(Elementwise):
    """sum of: lam |w| to |w| = lam, a parabola of falling slope to a lam, and constant beyond.

    Args:
        lam: The slope at 0, and in the units of the weights the size from which it falls.
        a: Above 2; 3.7 is the authors' choice.

    The strength multiplies the whole penalty; the published one with parameter `lam` is strength 1.

    Source: J. Fan, R. Li 2001, "Variable Selection via Nonconcave Penalized Likelihood and its
    Oracle Properties". Theirs is the map for step 1; ours is for any step, with three regimes.
    """

    lam: float
    a: float = 3.7

    convex: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_above("SCAD", "lam", self.lam, 0)
        check_above("SCAD", "a", self.a, 2)

    @override
    def _value(self, x: Tensor) -> Tensor:
        a, lam = self.a, self.lam
        magnitude = x.abs()
        bent = magnitude.clamp(lam, a * lam)
        curve = (bent - lam) * (((2 * a - 1) * lam - bent) / (2 * (a - 1)))
        return (lam * magnitude.clamp(max=lam) + curve).sum()

    @override
    def _prox(self, x: Tensor, step: Tensor) -> Tensor:
        a, lam = self.a, self.lam
        magnitude = x.abs()
        gap = (a - 1 - step).clamp(min=0)  # above 0: the parabola's stretch has a minimum
        knee = torch.where(gap > 0, (1 + step) * lam, (a + 1 + step) * (lam / 2))
        shrunk = torch.where(magnitude <= knee, soft(x, step * lam), x)
        middle = (((a - 1) * magnitude - (a * lam) * step) / gap).clamp(lam, a * lam)
        bends = (gap > 0) & (magnitude > knee) & (magnitude <= a * lam)
        shrunk = torch.where(bends, torch.copysign(middle, x), shrunk)
        return torch.where(step > a + 1, hard(x, (step * (a + 1)).sqrt() * lam), shrunk)
