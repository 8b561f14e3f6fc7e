"""Measured sensitivities on their way into an average: whole, or as a product of matrices."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from typing_extensions import override


class Part(Protocol):
    """The sensitivities of one parameter or layer, just measured."""

    def most(self) -> Tensor:
        """A bound that none of them exceeds; NaN or infinite if one of them is."""
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
    def most(self) -> Tensor:
        return self.value.amax()

    @override
    def blend_(self, into: Tensor, average: float) -> None:
        value = self.value.view(into.shape)
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
    def most(self) -> Tensor:
        return self.left.amax() * self.right.amax() * self.left.shape[-1]

    @override
    def blend_(self, into: Tensor, average: float) -> None:
        shape = (self.left.shape[0], self.left.shape[1], self.right.shape[2])
        _ = torch.baddbmm(
            into.view(shape),
            self.left,
            self.right,
            beta=average,
            alpha=1 - average,
            out=into.view(shape),
        )

    @override
    def whole(self) -> Tensor:
        return torch.bmm(self.left, self.right)
