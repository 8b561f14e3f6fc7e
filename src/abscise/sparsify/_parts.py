"""Measured sensitivities on their way into an average: whole, or as a product of matrices."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from typing_extensions import override


class Part(Protocol):
    """The sensitivities of one parameter or layer, just measured."""

    def factors(self) -> tuple[Tensor, ...]:
        """What they are the products of, none negative: NaN or infinite if one of them is."""
        ...

    def bound(self, greatest: Sequence[float]) -> float:
        """What none of them exceeds, rounded or not, by the greatest element of each factor."""
        ...

    def blend_(self, into: Tensor, average: float) -> None:
        """`into <- average * into + (1 - average) * these`, in place."""
        ...

    def whole(self) -> Tensor:
        """All of them, in one tensor."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Whole(Part):
    """As they are."""

    value: Tensor

    @override
    def factors(self) -> tuple[Tensor, ...]:
        return (self.value,)

    @override
    def bound(self, greatest: Sequence[float]) -> float:
        return _above(greatest[0], self.value, 1)

    @override
    def blend_(self, into: Tensor, average: float) -> None:
        value = self.value if self.value.shape == into.shape else self.value.view(into.shape)
        _ = into.lerp_(value, 1 - average) if average > 0 else into.copy_(value)

    @override
    def whole(self) -> Tensor:
        return self.value.contiguous()


@dataclass(frozen=True, slots=True, eq=False)
class Product(Part):
    """`left @ right`, `(groups, rows, size)` and `(groups, size, columns)`, neither negative.

    The product goes straight into the average: large tensors that come and go cost more than what
    is done with them.
    """

    left: Tensor
    right: Tensor

    @override
    def factors(self) -> tuple[Tensor, ...]:
        return self.left, self.right

    @override
    def bound(self, greatest: Sequence[float]) -> float:
        size = self.left.shape[-1]
        return _above(greatest[0] * greatest[1] * size, self.left, size)

    @override
    def blend_(self, into: Tensor, average: float) -> None:
        shape = (self.left.shape[0], self.left.shape[1], self.right.shape[2])
        place = into.view(shape)
        _ = torch.baddbmm(place, self.left, self.right, beta=average, alpha=1 - average, out=place)

    @override
    def whole(self) -> Tensor:
        return torch.bmm(self.left, self.right)


def _above(bound: float, values: Tensor, terms: int) -> float:
    """No sum of so many terms exceeds it, rounded as these values are."""
    limits = torch.finfo(values.dtype)
    return bound * (1 + 2 * terms * limits.eps) if bound <= limits.max else math.inf
