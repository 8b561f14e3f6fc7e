"""Elementwise and Radial: penalties with a map in place, which needs no copy of the weights."""

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from abscise.penalties._base import Kind, Penalty
from abscise.penalties._checks import check_weights, read_step, widened
from abscise.penalties._operators import ratio, row_norms

BLOCK = 1 << 20
"""Elements of one block."""
CACHED = 1 << 17
"""Of one block on a CPU: with its temporary tensors it stays in the caches."""
Map = Callable[[Tensor, int, Sequence[Tensor]], Tensor]
"""Weights, the kind of map and the scalars that `_numbers` gave, to new weights."""


class InPlace(Penalty):
    """A penalty whose map works on each part of the weights by itself, and so in place."""

    __slots__ = ()

    def prox_(self, weights: Tensor, step: float | Tensor) -> Tensor:
        """`prox` in place; returns `weights`.

        Works on blocks of at most 2^20 elements, 2^17 on a CPU, with at most eleven temporary
        tensors of a block's size (in float32 at least), whatever the size of the weights. A radial
        penalty's block has at least one row, that of weights which are not contiguous at least one
        slice along their longest dimension. Nothing is changed when an argument is refused.

        Raises:
            ValueError: As `prox`.
        """
        self._check(weights)
        with torch.no_grad():
            for part, part_step in self._blocks(weights, self._read_step(weights, step)):
                self._map_(part, part_step)
        return weights

    def _map_(self, part: Tensor, step: Tensor) -> None:
        """`_map` in place; a penalty may know a way with fewer passes over the weights."""
        if part.numel() == 0 or (not step.shape and float(step) == 0):
            return
        y = self._wide_map(part, step)
        _ = torch.add(y, 0.0, out=part) if y.dtype == part.dtype else part.copy_(y).add_(0.0)

    def _blocks(self, weights: Tensor, step: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Views that cover the weights, each with its step."""
        dimension = 0
        if self.kind is Kind.ELEMENTWISE:
            if weights.is_contiguous() and (not step.shape or step.is_contiguous()):
                weights = weights.view(-1)
                step = step.view(-1) if step.shape else step
            dimension = max(range(weights.ndim), key=lambda index: weights.shape[index])
        block = CACHED if weights.is_cpu else BLOCK
        if weights.numel() <= block:
            yield weights, step
            return
        count = -(-weights.numel() // block)
        parts = weights.chunk(count, dimension)
        steps = step.chunk(count, dimension) if step.shape else [step] * len(parts)
        yield from zip(parts, steps, strict=True)


class Elementwise(InPlace):
    """A sum over the elements: any shape will do, and any diagonal metric is exact."""

    __slots__ = ()

    kind: ClassVar[Kind] = Kind.ELEMENTWISE
    takes_metric: ClassVar[bool] = True

    def compiled(self) -> Callable[[Tensor, float], Tensor]:
        """`prox_` for steps that are numbers, as code that torch compiles at its first call.

        One pass over the weights; results differ from `prox_` by rounding.
        """
        map_ = self._compilable()

        def kernel(part: Tensor, kind: int, numbers: Sequence[Tensor]) -> None:
            _ = part.copy_(map_(widened(part), kind, numbers).to(part.dtype) + 0.0)

        with warnings.catch_warnings():  # torch's own, while it imports its compiler
            warnings.simplefilter("ignore", DeprecationWarning)
            fast = torch.compile(kernel, dynamic=True)

        def prox_(weights: Tensor, step: float) -> Tensor:
            self._check(weights)
            number = float(self._read_step(weights, step))
            if number > 0 and weights.numel():
                kind, numbers = self._numbers(number, widened(weights[:0]).dtype)
                scalars = [torch.tensor(one, dtype=torch.float64) for one in numbers]
                with torch.no_grad():
                    fast(weights.view(-1) if weights.is_contiguous() else weights, kind, scalars)
            return weights

        return prox_

    def _numbers(self, step: float, dtype: torch.dtype) -> tuple[int, tuple[float, ...]]:
        """For `compiled`: the kind of map, compiled one by one, and what it knows of the step."""
        del dtype
        return 0, (step,)

    def _compilable(self) -> Map:
        """`_prox` in a form that torch compiles well."""
        return lambda x, _kind, numbers: self._prox(x, numbers[0].to(x.dtype).view(1))


class Radial(InPlace):
    """A sum over the rows of a function of their norms: the map scales each row.

    A subclass may know the map in a diagonal metric, too; it then overrides `_metric_prox`.
    """

    __slots__ = ()

    kind: ClassVar[Kind] = Kind.RADIAL
    takes_metric: ClassVar[bool] = False

    def factors(self, norms: Tensor, size: int, step: float | Tensor) -> Tensor:
        """What `prox` multiplies rows of these norms with.

        For units whose weights lie in several tensors: bring together only the norms, then scale
        each slice where it is.

        Args:
            norms: `(units,)`, each >= 0, which is not checked; any shape will do.
            size: How many elements a unit has.
            step: A number, or one step for each norm.

        Returns:
            Numbers in [0, 1], of the norms' shape and in the dtype of the computation.

        Raises:
            ValueError: The norms are not floating-point, or the step is not as described.
        """
        name = type(self).__name__
        check_weights(name, norms, rows=False)
        steps = read_step(name, step, norms)
        with torch.no_grad():
            wide = widened(norms)
            if steps.shape:
                steps = steps.to(wide.dtype)
                return torch.where(steps == 0, 1.0, self._factors(wide, size, steps))
            if float(steps) == 0:
                return torch.ones_like(wide)
            return self._factors(wide, size, steps)

    @override
    def _value(self, x: Tensor) -> Tensor:
        return self._of_norms(row_norms(x), x.shape[1]).sum()

    @override
    def _prox(self, x: Tensor, step: Tensor) -> Tensor:
        if step.shape:
            return self._metric_prox(x, step)
        return x * self._factors(row_norms(x), x.shape[1], step)

    def _metric_prox(self, x: Tensor, step: Tensor) -> Tensor:
        """The map for a step of the shape of `x`, if `takes_metric`."""
        raise NotImplementedError

    def _factors(self, norms: Tensor, size: int, step: Tensor) -> Tensor:
        return ratio(self._shrink(norms, size, step), norms)

    @abstractmethod
    def _of_norms(self, norms: Tensor, size: int) -> Tensor:
        """The penalty of one row of each norm."""

    @abstractmethod
    def _shrink(self, norms: Tensor, size: int, step: Tensor) -> Tensor:
        """The norms after the map."""
