"""The minimiser of group norm and transformed l1 together, by a search over the norm of the row."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from abscise.penalties._operators import (
    ratio,
    row_norms,
    shrink_transformed_l1,
    transformed_l1,
)

_GRID = 48
_SMALLEST = 1e-6  # of the norm of the row; the search is over its logarithm
_MINIMA = 4
_SECTIONS = 36
_GOLDEN = (5**0.5 - 1) / 2


def shrink_jointly(x: Tensor, a: float, mu: float, step: Tensor, start: Tensor) -> Tensor:
    """Of every row, the y of least sum (y - x)^2 / (2 step) + (1 - mu) ||y|| + mu sum rho_a(y).

    ||y|| is the smallest ||y||^2 / (2 t) + t / 2 over t > 0. For a fixed t the elements part, and
    each has a closed form; what remains is one number per row. It has several local minima: a grid
    of t finds them, a golden section refines the lowest. The best of these, of 0 and of `start` is
    taken. Computed in float64, which the device must know.
    """
    problem = _Rows(x.double(), a, mu, step.double())
    best = problem.better(start.double(), torch.zeros_like(problem.x))
    for low, high in _brackets(problem):
        norm = _golden_section(problem.surrogate, low, high)
        best = problem.better(best, problem.at(norm))
    return best.to(x.dtype)


@dataclass(frozen=True, slots=True)
class _Rows:
    """The problem of every row of `x`."""

    x: Tensor
    a: float
    mu: float
    step: Tensor

    def at(self, norm: Tensor) -> Tensor:
        """The minimiser for fixed t, `(units, 1)`."""
        safe = norm.masked_fill(norm == 0, 1.0)
        damping = 1 + (1 - self.mu) * self.step / safe
        return shrink_transformed_l1(self.x / damping, self.a, self.mu * self.step / damping)

    def surrogate(self, norm: Tensor) -> Tensor:
        """The objective of every row with t in place of the norm, at its minimiser."""
        y = self.at(norm)
        squares = y.square().sum(1, keepdim=True)
        return self._apart(y) + (1 - self.mu) * (ratio(squares, norm) + norm) / 2

    def better(self, one: Tensor, other: Tensor) -> Tensor:
        """Of every row the one with the smaller objective; the first if they are equal."""
        return torch.where(self._objective(other) < self._objective(one), other, one)

    def _objective(self, y: Tensor) -> Tensor:
        return self._apart(y) + (1 - self.mu) * row_norms(y)

    def _apart(self, y: Tensor) -> Tensor:
        """What is a sum over the elements."""
        moved = ratio((y - self.x).square(), 2 * self.step)
        return (moved + self.mu * transformed_l1(y, self.a)).sum(1, keepdim=True)


def _brackets(problem: _Rows) -> list[tuple[Tensor, Tensor]]:
    """Around the lowest local minima on the grid, `(units, 1)` each."""
    shares = torch.logspace(0, 1, _GRID, base=_SMALLEST, dtype=torch.float64).flip(0)
    grid = row_norms(problem.x) * shares.to(problem.x.device)
    costs = torch.cat([problem.surrogate(norm) for norm in grid.split(1, dim=1)], dim=1)
    padded = torch.nn.functional.pad(costs, (1, 1), value=torch.inf)
    minima = (costs <= padded[:, :-2]) & (costs <= padded[:, 2:])
    places = costs.masked_fill(~minima, torch.inf).topk(_MINIMA, dim=1, largest=False).indices
    return [
        (grid.gather(1, (place - 1).clamp(min=0)), grid.gather(1, (place + 1).clamp(max=_GRID - 1)))
        for place in places.split(1, dim=1)
    ]


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
