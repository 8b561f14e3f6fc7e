"""The minimiser of group norm and transformed l1 together, by a search over the norm of the row."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from abscise.penalties._cubic import shrink_transformed_l1
from abscise.penalties._operators import (
    ratio,
    row_norms,
    transformed_l1,
)

_GRID = 48
_SMALLEST = 1e-6  # of the norm of the row; the search is over its logarithm
_MINIMA = 4
_SECTIONS = 36
_GOLDEN = (5**0.5 - 1) / 2
_BLOCK = 1 << 22


def shrink_jointly(x: Tensor, a: float, mu: float, step: Tensor, start: Tensor) -> Tensor:
    """Of every row, the y of least sum (y - x)^2 / (2 step) + (1 - mu) ||y|| + mu sum rho_a(y).

    ||y|| is the smallest ||y||^2 / (2 t) + t / 2 over t > 0. For a fixed t the elements part, and
    each has a closed form; what remains is one number per row. It has several local minima: a grid
    of t finds them, a golden section refines the lowest four. The best of these, of 0 and of
    `start` is taken. Computed in float64, which the device must know, for some rows at a time: a
    temporary tensor has at most 2^22 elements, or 48 times the size of a row.
    """
    rows = max(1, _BLOCK // (_GRID * x.shape[1]))
    parts = zip(x.split(rows), start.split(rows), strict=True)
    steps = step[:, None].split(rows) if step.shape else [step] * -(-x.shape[0] // rows)
    blocks = [
        _shrink_block(_Rows(part.double()[:, None], a, mu, part_step.double()), first)
        for (part, first), part_step in zip(parts, steps, strict=True)
    ]
    return torch.cat(blocks).to(x.dtype)


def _shrink_block(problem: "_Rows", start: Tensor) -> Tensor:
    """The best of the start, of 0 and of the refined minima, `(units, size)`."""
    refined = problem.at(_golden_section(problem.surrogate, *_brackets(problem)))
    zeros = problem.x.masked_fill(problem.step != 0, 0.0)
    y = torch.cat([start.double()[:, None], zeros, refined], dim=1)
    best = problem.objective(y).argmin(1, keepdim=True)
    return y.take_along_dim(best, dim=1)[:, 0]


@dataclass(frozen=True, slots=True)
class _Rows:
    """The problem of every row of `x`, `(units, 1, size)`; t is `(units, candidates, 1)`."""

    x: Tensor
    a: float
    mu: float
    step: Tensor

    def at(self, norm: Tensor) -> Tensor:
        """The minimiser for fixed t, `(units, candidates, size)`."""
        safe = norm.masked_fill(norm == 0, 1.0)
        damping = 1 + (1 - self.mu) * self.step / safe
        return shrink_transformed_l1(self.x / damping, self.a, self.mu * self.step / damping)

    def surrogate(self, norm: Tensor) -> Tensor:
        """The objective of every row with t in place of the norm, at its minimiser."""
        y = self.at(norm)
        squares = y.square().sum(-1, keepdim=True)
        return self._apart(y) + (1 - self.mu) * (ratio(squares, norm) + norm) / 2

    def objective(self, y: Tensor) -> Tensor:
        """What is minimised, `(units, candidates, 1)`."""
        return self._apart(y) + (1 - self.mu) * row_norms(y)

    def _apart(self, y: Tensor) -> Tensor:
        """What is a sum over the elements."""
        moved = ratio((y - self.x).square(), 2 * self.step)
        return (moved + self.mu * transformed_l1(y, self.a)).sum(-1, keepdim=True)


def _brackets(problem: _Rows) -> tuple[Tensor, Tensor]:
    """Two t around each of the lowest local minima on the grid."""
    shares = torch.logspace(0, 1, _GRID, base=_SMALLEST, dtype=torch.float64).flip(0)
    grid = row_norms(problem.x) * shares.to(problem.x.device)[:, None]
    costs = problem.surrogate(grid)[..., 0]
    padded = torch.nn.functional.pad(costs, (1, 1), value=torch.inf)
    minima = (costs <= padded[:, :-2]) & (costs <= padded[:, 2:])
    places = costs.masked_fill(~minima, torch.inf).topk(_MINIMA, dim=1, largest=False).indices
    low, high = (places - 1).clamp(min=0), (places + 1).clamp(max=_GRID - 1)
    return grid.take_along_dim(low[..., None], dim=1), grid.take_along_dim(high[..., None], dim=1)


def _golden_section(cost: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    """A minimum of `cost` between `low` and `high`, elementwise."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = cost(left), cost(right)
    for _ in range(_SECTIONS):
        falls = at_left <= at_right  # the minimum is left of `right`
        low, high = torch.where(falls, low, left), torch.where(falls, right, high)
        fresh = torch.where(falls, high - _GOLDEN * (high - low), low + _GOLDEN * (high - low))
        at_fresh = cost(fresh)
        left, right = torch.where(falls, fresh, right), torch.where(falls, left, fresh)
        at_left, at_right = (
            torch.where(falls, at_fresh, at_right),
            torch.where(falls, at_left, at_fresh),
        )
    return (low + high) / 2
