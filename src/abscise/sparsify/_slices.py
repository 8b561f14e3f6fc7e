"""Slice and Bunch: where the weights of groups lie, their norms, and how they are changed there."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 1 << 20
"""Elements of one gathered matrix; a group that is larger is one matrix."""
CACHED = 1 << 17
"""The same on a CPU: what is computed from the matrix stays in the caches."""


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """The part of one parameter that belongs to the groups of a bunch.

    Args:
        name: The parameter's, for errors and state.
        parameter: Whose memory is read and changed.
        shape: A view of the parameter, in which groups run along one axis.
        axis: That axis.
        rows: Indices along the axis, group by group; None: the whole axis, in order.
        per_group: How many indices each group has.
    """

    name: str
    parameter: Tensor
    shape: tuple[int, ...]
    axis: int
    rows: Tensor | None = None
    per_group: int = 1

    @property
    def groups(self) -> int:
        """How many groups."""
        count = self.shape[self.axis] if self.rows is None else len(self.rows)
        return count // self.per_group

    @property
    def width(self) -> int:
        """Elements of one group in this parameter."""
        return self.per_group * (math.prod(self.shape) // self.shape[self.axis])

    def part(self, tensor: Tensor, start: int, stop: int) -> Tensor:
        """`(stop - start, width)`: these groups' rows of the parameter, or of one of its shape."""
        moved = tensor.detach().view(self.shape).movedim(self.axis, 0)
        first, last = start * self.per_group, stop * self.per_group
        rows = moved[first:last] if self.rows is None else moved[self.rows[first:last]]
        return rows.reshape(stop - start, -1)

    @property
    def is_matrix(self) -> bool:
        """Whether `part` of the parameter is its own memory, and not a copy."""
        return self.rows is None and self.axis == 0 and self.parameter.is_contiguous()

    def put_(self, values: Tensor, start: int, stop: int) -> None:
        """Write what `part` gave, changed, back into the parameter."""
        moved = self.parameter.detach().view(self.shape).movedim(self.axis, 0)
        first, last = start * self.per_group, stop * self.per_group
        shaped = values.reshape(last - first, *moved.shape[1:])
        if self.rows is None:
            _ = moved[first:last].copy_(shaped)
        else:
            moved[self.rows[first:last]] = shaped

    def norms(self) -> Tensor:
        """`(groups,)`: the norms of the groups within this parameter."""
        weights = self.parameter.detach().view(self.shape)
        others = [dim for dim in range(weights.ndim) if dim != self.axis]
        found = torch.linalg.vector_norm(weights, dim=others) if others else weights.abs()
        if self.rows is not None:
            found = found[self.rows]
        if self.per_group == 1:
            return found
        return torch.linalg.vector_norm(found.view(-1, self.per_group), dim=1)

    def scale_(self, factors: Tensor, dead: Tensor | None) -> None:
        """Multiply every group with its factor, in place; zeros are 0.0, not -0.0.

        Args:
            factors: `(groups,)`.
            dead: Where they are 0, on a CPU; None elsewhere, where nothing waits for the device.
        """
        weights = self.parameter.detach().view(self.shape)
        along = self.along(factors, 1.0)
        if dead is None:
            _ = torch.addcmul(along.new_zeros(()), weights, along, out=weights)
            return
        _ = weights.mul_(along)
        if not len(dead):
            return
        if self.rows is not None or self.per_group > 1:
            dead = (along == 0).flatten().nonzero().flatten()
        # 0 times a negative weight is -0.0; no group with NaN has the factor 0
        _ = weights.index_fill_(self.axis, dead, 0.0)

    def along(self, values: Tensor, outside: float) -> Tensor:
        """One value per group, spread along the axis so that it broadcasts over `shape`."""
        spread = values.to(self.parameter.dtype)
        if self.per_group > 1:
            spread = spread.repeat_interleave(self.per_group)
        if self.rows is not None:
            inside, spread = spread, spread.new_full((self.shape[self.axis],), outside)
            spread[self.rows] = inside
        sizes = [1] * len(self.shape)
        sizes[self.axis] = -1
        return spread.view(sizes)


@dataclass(frozen=True, slots=True, eq=False)
class Bunch:
    """Groups that are alike: each has the same number of elements in the same parameters."""

    slices: tuple[Slice, ...]

    @property
    def groups(self) -> int:
        """How many groups."""
        return self.slices[0].groups

    @property
    def size(self) -> int:
        """Elements of one group."""
        return sum(piece.width for piece in self.slices)

    @property
    def names(self) -> str:
        """The parameters, for people."""
        return ", ".join(piece.name for piece in self.slices)

    def norms(self) -> Tensor:
        """`(groups,)`: the norm of every group. Squares below the smallest float are 0."""
        first, *others = (piece.norms() for piece in self.slices)
        if not others:
            return first
        # Many times faster than torch's norm along the first of two dimensions.
        half = first.dtype in (torch.float16, torch.bfloat16)
        squares = (first.float() if half else first).square()
        for one in others:
            wide = one.to(squares.dtype)
            _ = squares.addcmul_(wide, wide)
        return squares.sqrt_().to(first.dtype)

    def scale_(self, factors: Tensor) -> None:
        """Multiply every group with its factor, where it is."""
        dead = (factors == 0).nonzero().flatten() if factors.is_cpu else None
        for piece in self.slices:
            piece.scale_(factors, dead)

    def spans(self) -> Iterator[tuple[int, int]]:
        """First and last group of matrices of at most `BLOCK` elements, `CACHED` on a CPU."""
        block = CACHED if self.slices[0].parameter.is_cpu else BLOCK
        count = max(1, block // max(1, self.size))
        for start in range(0, self.groups, count):
            yield start, min(start + count, self.groups)

    def gathered(self, tensors: Sequence[Tensor], start: int, stop: int) -> Tensor:
        """`(stop - start, size)` of tensors shaped as the parameters, one per slice."""
        parts = [
            piece.part(one, start, stop) for piece, one in zip(self.slices, tensors, strict=True)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def put_(self, values: Tensor, start: int, stop: int) -> None:
        """Write a changed matrix of `gathered` back into the parameters."""
        widths = [piece.width for piece in self.slices]
        for piece, part in zip(self.slices, values.split(widths, dim=1), strict=True):
            piece.put_(part, start, stop)
