"""Rates: the learning rate of every step that a run still has, as shares of the largest."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_GRID = 257  # places between which a smooth function of a share is a straight line


@dataclass(frozen=True, slots=True, eq=False)
class Rates:
    """What each coming step is worth; after the last one nothing is known, and nothing counts.

    Args:
        done: Sums of what the first 0, 1, 2 ... steps are worth, which never fall.
        end: Share that the last learning rate is of the largest; what a step is worth also goes by
            a momentum that changes.
    """

    done: NDArray[np.float64]
    end: float

    @property
    def steps(self) -> int:
        """How many there are."""
        return len(self.done) - 1

    def between(self, first: float, last: float) -> float:
        """What the steps from `first` to `last` are worth together."""
        return self._by(last) - self._by(first)

    def until(self, first: float, worth: float) -> float:
        """Steps from `first` on that together are worth so much; infinite: the run has too few."""
        goal = self._by(first) + worth
        place = int(np.searchsorted(self.done, goal))
        if place > self.steps:
            return math.inf
        if place == 0:
            return 0.0
        before, after = float(self.done[place - 1]), float(self.done[place])
        return max(0.0, place - 1 + (goal - before) / (after - before) - first)

    @property
    def shares(self) -> NDArray[np.float64]:
        """What each step is worth."""
        return np.diff(self.done)

    def recent(self, worth: float) -> float:
        """Mean share of the last steps that together are worth so much, by what they are worth."""
        begun = int(np.searchsorted(self.done, self.done[-1] - worth, side="right"))
        last = self.shares[max(0, begun - 1) :]
        return float((last**2).sum() / last.sum()) if last.any() else 0.0

    def through(self, function: Callable[[float], float]) -> "Rates":
        """The same with `function`, which is smooth and not negative, of each share."""
        shares = self.shares
        grid = np.linspace(0.0, float(shares.max()), _GRID)
        values = np.interp(shares, grid, [function(float(it)) for it in grid])
        return Rates(_sums(values), self.end)

    def _by(self, step: float) -> float:
        """What all steps before `step` are worth."""
        if step >= self.steps:
            return float(self.done[-1])
        whole = int(step)
        return float(self.done[whole] + (step - whole) * (self.done[whole + 1] - self.done[whole]))


def rates_from(shares: Iterable[float], end: float | None = None) -> Rates:
    """Rates of steps of which it is given what they are worth; `end`: where the rate is another."""
    worth = np.fromiter(shares, dtype=np.float64)
    return Rates(_sums(worth), float(worth[-1]) if end is None else end)


def _sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([np.zeros(1), np.cumsum(values)])
