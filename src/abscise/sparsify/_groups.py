"""Rows, Columns, Filters, Heads: which weights die together, where no unit map says it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from typing_extensions import override

from abscise.sparsify._slices import Bunch, Slice
from abscise.sparsify._weights import Weights, is_direction

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class Groups(ABC):
    """A way to divide single parameters into groups; a parameter that it does not fit is left."""

    __slots__ = ()

    def bunches(self, weights: Weights, names: Sequence[str]) -> list[Bunch]:
        """One bunch for each parameter that this divides.

        Raises:
            ValueError: A parameter cannot be divided so.
        """
        found = [self.divide(name, weights.all[name], weights.owners[name]) for name in names]
        return [Bunch((piece,)) for piece in found if piece is not None]

    @abstractmethod
    def divide(self, name: str, weight: Tensor, owner: nn.Module) -> Slice | None:
        """The groups of one parameter."""


@dataclass(frozen=True, slots=True)
class Rows(Groups):
    """Each row of each matrix: the incoming weights of a neuron, without its bias."""

    @override
    def divide(self, name: str, weight: Tensor, owner: nn.Module) -> Slice | None:
        return Slice(name, weight, tuple(weight.shape), 0) if weight.ndim == 2 else None


@dataclass(frozen=True, slots=True)
class Filters(Groups):
    """Each filter of each convolution, without its bias and the norm behind it.

    Under a BatchNorm a smaller filter changes nothing until it is 0: a `UnitMap` takes the norm's
    scale and shift into the group.
    """

    @override
    def divide(self, name: str, weight: Tensor, owner: nn.Module) -> Slice | None:
        if isinstance(owner, TRANSPOSED) and weight is owner.weight:
            return Slice(name, weight, tuple(weight.shape), _ungrouped(name, owner, axis=1))
        if isinstance(owner, CONVOLUTIONS) and weight is owner.weight:
            return Slice(name, weight, tuple(weight.shape), 0)
        return None


@dataclass(frozen=True, slots=True)
class Columns(Groups):
    """All weights that read one input of a matrix or a convolution: the outgoing ones of a unit."""

    @override
    def divide(self, name: str, weight: Tensor, owner: nn.Module) -> Slice | None:
        if isinstance(owner, TRANSPOSED) and weight is owner.weight:
            return Slice(name, weight, tuple(weight.shape), 0)
        if isinstance(owner, CONVOLUTIONS) and weight is owner.weight:
            return Slice(name, weight, tuple(weight.shape), _ungrouped(name, owner, axis=1))
        return Slice(name, weight, tuple(weight.shape), 1) if weight.ndim == 2 else None


@dataclass(frozen=True, slots=True)
class Heads(Groups):
    """Blocks of consecutive rows of each matrix: the heads of an attention projection.

    Say by `where` which matrices have heads.

    Args:
        heads: How many.
        parts: How many projections lie one above the other in a matrix; 3 for a joint one of
            queries, keys and values, whose heads have rows in each.
    """

    heads: int
    parts: int = 1

    def __post_init__(self) -> None:
        for field, value in (("heads", self.heads), ("parts", self.parts)):
            if value < 1:
                message = f"Heads: {field} must be >= 1, got {value!r}"
                raise ValueError(message)

    @override
    def divide(self, name: str, weight: Tensor, owner: nn.Module) -> Slice | None:
        if weight.ndim != 2:
            return None
        rows, columns = weight.shape
        if rows % (self.heads * self.parts):
            message = (
                f"Heads: the rows of {name} must be a multiple of {self.heads * self.parts}, got "
                f"{rows}: name the projections by where"
            )
            raise ValueError(message)
        rest = rows // (self.heads * self.parts)
        return Slice(name, weight, (self.parts, self.heads, rest, columns), 1)


@dataclass(frozen=True, slots=True)
class _Elements(Groups):
    """Everything that is a weight: no bias, no scale or shift of a norm, as their one axis says."""

    @override
    def divide(self, name: str, weight: Tensor, owner: nn.Module) -> Slice | None:
        return Slice(name, weight, tuple(weight.shape), 0) if weight.ndim >= 2 else None


@dataclass(frozen=True, slots=True)
class _Everything(Groups):
    """Every parameter, biases and norms too."""

    @override
    def divide(self, name: str, weight: Tensor, owner: nn.Module) -> Slice | None:
        return Slice(name, weight, tuple(weight.shape) or (1,), 0)


ELEMENTS = _Elements()
EVERYTHING = _Everything()


def chosen_bunches(weights: Weights, groups: Groups, names: Iterable[str]) -> list[Bunch]:
    """The bunches of those parameters among `names` that the optimizer trains."""
    own = [name for name in names if weights.trains(name) and not is_direction(weights, name)]
    return [bunch for bunch in groups.bunches(weights, own) if math.prod(bunch.slices[0].shape)]


def _ungrouped(name: str, owner: nn.Module, *, axis: int) -> int:
    """`axis`, which runs over single channels only if the convolution has no groups.

    Raises:
        ValueError: It has.
    """
    count = getattr(owner, "groups", 1)
    if count != 1:
        message = (
            f"{name} belongs to a convolution of {count} groups, in which one index along axis "
            f"{axis} is as many channels: leave it out by exclude"
        )
        raise ValueError(message)
    return axis
