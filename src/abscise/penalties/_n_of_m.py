"""NofM: at most n weights of every m neighbours."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from abscise.penalties._base import Kind, Penalty
from abscise.penalties._operators import ratio


@dataclass(frozen=True, slots=True)
class NofM(Penalty):
    """0 where at most n of every m neighbours along a row are not zero, else infinite.

    The map keeps the n largest magnitudes of every m (in a diagonal metric the largest w^2 / step)
    and the first of equal ones; it is the same for every step above 0.

    Args:
        n: How many may stay; at least 1.
        m: Of how many; the size of a row must be a multiple of it.

    Source: A. Zhou, Y. Ma, J. Zhu, J. Liu, Z. Zhang, K. Yuan, W. Sun, H. Li 2021, "Learning N:M
    Fine-grained Structured Sparse Neural Networks From Scratch" (arXiv 2102.04010). Theirs keeps
    dense weights beside it; this is the projection alone.
    """

    n: int = 2
    m: int = 4

    kind: ClassVar[Kind] = Kind.ROW
    convex: ClassVar[bool] = False
    takes_metric: ClassVar[bool] = True

    def __post_init__(self) -> None:
        given: tuple[tuple[str, object], ...] = (("n", self.n), ("m", self.m))
        for field, value in given:
            if not isinstance(value, int) or isinstance(value, bool):
                message = f"NofM: {field} must be a whole number, got {value!r:.60}"
                raise TypeError(message)
        if not 1 <= self.n <= self.m:
            message = f"NofM: n and m must be 1 <= n <= m, got n={self.n!r}, m={self.m!r}"
            raise ValueError(message)

    @override
    def _value(self, x: Tensor) -> Tensor:
        crowded = (self._blocks(x).ne(0).sum(2) > self.n).any()
        return torch.where(crowded, torch.inf, 0.0).to(x.dtype)

    @override
    def _prox(self, x: Tensor, step: Tensor) -> Tensor:
        blocks = self._blocks(x)
        score = blocks.abs()
        if step.shape:
            relative = ratio(score, score.amax(2, keepdim=True))
            score = (relative / self._blocks(step).sqrt()).masked_fill(score == 0, 0.0)
        order = score.argsort(dim=2, descending=True, stable=True)
        dropped = torch.zeros_like(blocks, dtype=torch.bool)
        _ = dropped.scatter_(2, order[:, :, self.n :], value=True)
        return blocks.masked_fill(dropped & ~blocks.isnan(), 0.0).view_as(x)

    def _blocks(self, x: Tensor) -> Tensor:
        """`(units, size / m, m)`.

        Raises:
            ValueError: The size is no multiple of m.
        """
        units, size = x.shape
        if size % self.m:
            message = (
                f"NofM: the size of a row must be a multiple of m = {self.m}, got {size}: leave "
                "this layer out, or take another m"
            )
            raise ValueError(message)
        return x.reshape(units, size // self.m, self.m)
