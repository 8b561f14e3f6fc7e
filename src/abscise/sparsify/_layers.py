"""Layer: the groups of one layer with their penalty, and how the map is applied to them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from abscise.penalties import Elementwise, Kind, Penalty, Radial
from abscise.sparsify._metric import Scale, scale_of
from abscise.sparsify._slices import Bunch, Slice

Rates = Mapping[int, tuple[float, Mapping[str, Any]]]
"""Id of a parameter -> its learning rate, and its group in the optimizer."""


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """One optimizer step, as a layer's slices saw it.

    Args:
        rates: The learning rate of each slice.
        scales: With the adaptive metric, the divisors of each slice; None where it has not moved.
        moved: Whether any slice has a gradient.
    """

    rates: tuple[float, ...]
    scales: tuple[Scale | None, ...] | None
    moved: bool


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """Groups that are alike, and what shrinks them.

    Args:
        bunch: The groups.
        penalty: Whose map is taken.
        factor: Of the strength.
        adaptive: Is the map taken in the optimizer's metric?
        least_scale: The least divisor of that metric.
        compiled: The map in place as compiled code, where that is asked for.
    """

    bunch: Bunch
    penalty: Penalty
    factor: float
    adaptive: bool
    least_scale: float = 0.0
    compiled: Callable[[Tensor, float], Tensor] | None = None

    def taken(self, optimizer: Optimizer, rates: Rates) -> Taken:
        """What the optimizer has done, or will do, to this layer.

        Raises:
            ValueError: One group has several learning rates, and the penalty no exact map for that.
        """
        pieces = self.bunch.slices
        found = [rates[id(piece.parameter)] for piece in pieces if id(piece.parameter) in rates]
        if len(found) < len(pieces):
            gone = next(piece.name for piece in pieces if id(piece.parameter) not in rates)
            message = f"{gone} is no longer in the optimizer: detach, and attach again"
            raise ValueError(message)
        each = tuple(rate for rate, _ in found)
        mixed = len(set(each)) > 1 and not self.penalty.takes_metric
        if mixed:
            listed = ", ".join(
                f"{rate:g} of {piece.name}" for rate, piece in zip(each, pieces, strict=True)
            )
            message = (
                f"the parameters of one group have different learning rates ({listed}), for which "
                f"{type(self.penalty).__name__} has no exact map: put them in one param group"
            )
            raise ValueError(message)
        scales = None
        if self.adaptive:
            scales = tuple(
                scale_of(optimizer, group, piece.parameter)
                for piece, (_, group) in zip(pieces, found, strict=True)
            )
        moved = any(piece.parameter.grad is not None for piece in pieces)
        return Taken(each, scales, moved)

    def shrink(self, taken: Taken, strength: float) -> None:
        """Apply the map where the weights are."""
        amount = strength * self.factor
        if not taken.moved or amount == 0:
            return
        if self.penalty.kind is Kind.ELEMENTWISE:
            self._shrink_elements(taken, amount)
        elif taken.scales is not None or len(set(taken.rates)) > 1:
            self._shrink_gathered(self.bunch, taken, amount)
        elif isinstance(self.penalty, Radial):
            step = taken.rates[0] * amount
            if step:
                factors = self.penalty.factors(self.bunch.norms(), self.bunch.size, step)
                self.bunch.scale_(factors)
        elif taken.rates[0] * amount:
            self._shrink_gathered(self.bunch, taken, amount)

    def _shrink_elements(self, taken: Taken, amount: float) -> None:
        """Each slice by itself: the elements do not know of each other."""
        assert isinstance(self.penalty, Elementwise)
        for place, piece in enumerate(self.bunch.slices):
            rate = taken.rates[place]
            if piece.parameter.grad is None or rate == 0:
                continue
            if taken.scales is None and piece.rows is None:
                map_ = self.penalty.prox_ if self.compiled is None else self.compiled
                _ = map_(piece.parameter.detach(), rate * amount)
                continue
            scales = None if taken.scales is None else (taken.scales[place],)
            self._shrink_gathered(Bunch((piece,)), Taken((rate,), scales, moved=True), amount)

    def _shrink_gathered(self, bunch: Bunch, taken: Taken, amount: float) -> None:
        """As `(units, size)` matrices of a bounded size, one after the other."""
        parameters = [piece.parameter for piece in bunch.slices]
        single = taken.scales is None and len(set(taken.rates)) == 1
        own = len(bunch.slices) == 1 and bunch.slices[0].is_matrix
        penalty = self.penalty
        in_place = penalty.prox_ if own and isinstance(penalty, Elementwise | Radial) else None
        for start, stop in bunch.spans():
            matrix = bunch.gathered(parameters, start, stop)
            step: float | Tensor = taken.rates[0] * amount
            if not single:
                step = self._steps(bunch, taken, amount, (start, stop))
            if in_place is not None:
                _ = in_place(matrix, step)
            else:
                bunch.put_(penalty.prox(matrix, step), start, stop)

    def _steps(self, bunch: Bunch, taken: Taken, amount: float, span: tuple[int, int]) -> Tensor:
        """The step of every element of a matrix; 0 where the optimizer has not moved."""
        start, stop = span
        parts = []
        scales = taken.scales or (None,) * len(bunch.slices)
        for piece, rate, scale in zip(bunch.slices, taken.rates, scales, strict=True):
            constant = 0.0 if taken.scales is not None and scale is None else rate * amount
            if scale is None or constant == 0:
                shape = (stop - start, piece.width)
                parts.append(piece.parameter.new_full(shape, constant))
                continue
            part = partial(piece.part, start=start, stop=stop)
            parts.append(scale.steps(part, constant, self.least_scale))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def zeros(self) -> tuple[Tensor, int]:
        """How many groups, or weights, are 0, and how many there are."""
        if self.penalty.kind is Kind.RADIAL:
            norms = self.bunch.norms()
            return (norms == 0).sum(), len(norms)
        pieces = self.bunch.slices
        return torch.stack(
            [_zeros(piece) for piece in pieces]
        ).sum(), self.bunch.groups * self.bunch.size

    def masks(self) -> dict[str, Tensor]:
        """Parameter name -> where it is 0 and shrunk, which broadcasts over the slice's shape."""
        found = {}
        dead = self.bunch.norms() == 0 if self.penalty.kind is Kind.RADIAL else None
        for piece in self.bunch.slices:
            if dead is not None:
                found[piece.name] = piece.along(dead.to(piece.parameter.dtype), 0.0) != 0
                continue
            zero = piece.parameter.detach().view(piece.shape) == 0
            if piece.rows is not None:
                ones = piece.parameter.new_ones(piece.groups)
                zero &= piece.along(ones, 0.0) != 0
            found[piece.name] = zero
        return found

    def mask_shapes(self) -> dict[str, tuple[torch.Size, torch.device]]:
        """Parameter name -> shape and device of its mask."""
        found = {}
        for piece in self.bunch.slices:
            shape = torch.Size(piece.shape)
            if self.penalty.kind is Kind.RADIAL:
                shape = torch.Size(
                    size if axis == piece.axis else 1 for axis, size in enumerate(piece.shape)
                )
            found[piece.name] = (shape, piece.parameter.device)
        return found


def _zeros(piece: Slice) -> Tensor:
    weights = piece.parameter.detach().view(piece.shape)
    if piece.rows is not None:
        weights = weights.index_select(piece.axis, piece.rows)
    return weights.numel() - weights.count_nonzero()
