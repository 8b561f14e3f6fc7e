"""LHalf: the sum of the square roots of the magnitudes."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from abscise.penalties._inplace import Elementwise


@dataclass(frozen=True, slots=True)
class LHalf(Elementwise):
    """sum |w|^(1/2); |w| up to 3/2 step^(2/3) becomes 0, larger ones shrink the less, the larger.

    Source: Z. Xu, X. Chang, F. Xu, H. Zhang 2012, "L1/2 Regularization: A Thresholding
    Representation Theory and a Fast Solver". Theirs is |w|^(1/2) with the quadratic term not
    halved. We write their arccos form with asin of a small argument: where the step is small the
    shrinkage is not lost in rounding.
    """

    convex: ClassVar[bool] = False

    @override
    def _value(self, x: Tensor) -> Tensor:
        zero = x == 0  # where the root has no finite slope
        return x.abs().masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0).sum()

    @override
    def _prox(self, x: Tensor, step: Tensor) -> Tensor:
        magnitude = x.abs()
        scale = step.pow(2 / 3)
        sine = (3 * scale / magnitude).pow_(1.5).div_(4).clamp_(max=1.0)
        angle = sine.asin_().mul_(2 / 3)
        lost = (angle / 2).sin_().square_() + math.sqrt(0.75) * angle.sin_()
        y = torch.copysign(magnitude * (1 - (2 / 3) * lost), x)
        return y.masked_fill_(magnitude <= 1.5 * scale, 0.0)
