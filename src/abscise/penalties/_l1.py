"""L1: the sum of the magnitudes."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from abscise.penalties._inplace import Elementwise, InPlace
from abscise.penalties._operators import soft


@dataclass(frozen=True, slots=True)
class L1(Elementwise):
    """sum |w|; every weight moves towards 0 by the step, and stops there.

    Source: R. Tibshirani 1996, "Regression Shrinkage and Selection via the Lasso"; the map: D. L.
    Donoho 1995, "De-Noising by Soft-Thresholding".
    """

    convex: ClassVar[bool] = True

    @override
    def _value(self, x: Tensor) -> Tensor:
        return x.abs().sum()

    @override
    def _map_(self, part: Tensor, step: Tensor) -> None:
        if part.dtype not in (torch.float32, torch.float64):
            InPlace._map_(self, part, step)
            return
        # What is taken away is the weight itself up to the step: two passes, and never -0.0.
        if step.shape:
            bounds = step.to(part.dtype)
            _ = part.sub_(part.clamp(-bounds, bounds))
        else:
            _ = part.sub_(part.clamp(-float(step), float(step)))

    @override
    def _prox(self, x: Tensor, step: Tensor) -> Tensor:
        return soft(x, step)
