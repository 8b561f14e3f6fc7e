"""ExclusiveLasso: weights of a row compete, and some of each row stay."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from abscise.penalties._base import Kind, Penalty
from abscise.penalties._operators import ratio, soft


@dataclass(frozen=True, slots=True)
class ExclusiveLasso(Penalty):
    """sum over rows of (sum |w|)^2 / 2: small weights of a row go, and no row becomes 0.

    Source: Y. Zhou, R. Jin, S. C. H. Hoi 2010, "Exclusive Lasso for Multi-task Feature Selection".
    The map is exact: with S the sum of the magnitudes afterwards, it is soft thresholding by
    step * S, and S = max over k of (sum of the k first |w|) / (1 + sum of their steps), in falling
    order of |w| / step. That holds in a diagonal metric, too. In floating point a row may become 0
    where step * size is above the reciprocal of the rounding unit.
    """

    kind: ClassVar[Kind] = Kind.ROW
    convex: ClassVar[bool] = True
    takes_metric: ClassVar[bool] = True

    @override
    def _value(self, x: Tensor) -> Tensor:
        return x.abs().sum(1).square().sum() / 2

    @override
    def _prox(self, x: Tensor, step: Tensor) -> Tensor:
        magnitude = x.abs()
        if step.shape:
            order = _breakpoints(magnitude, step).argsort(dim=1, descending=True)
            sums = magnitude.gather(1, order).cumsum(1)
            steps = step.gather(1, order).cumsum(1)
        else:
            sums = magnitude.sort(dim=1, descending=True).values.cumsum(1)
            steps = step * torch.arange(1, x.shape[1] + 1, dtype=x.dtype, device=x.device)
        total = (sums / (1 + steps)).amax(1, keepdim=True)
        return soft(x, step * total)


def _breakpoints(magnitude: Tensor, step: Tensor) -> Tensor:
    """The sums S at which elements become 0; elements whose step is 0 come first, zeros last."""
    return ratio(magnitude, step).masked_fill((step == 0) & (magnitude > 0), torch.inf)
