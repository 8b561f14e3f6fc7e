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
    """

    done: NDArray[np.float64]

    @property
    def steps(self) -> int:
        """How many there are."""
        return len(self.done) - 1

    @property
    def last(self) -> float:
        """What the last one is worth."""
        return float(self.done[-1] - self.done[-2])

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

    def below(self, share: float) -> int:
        """The first step from which on none is worth more than `share`."""
        above = np.flatnonzero(np.diff(self.done) > share)
        return int(above[-1]) + 1 if len(above) else 0

    def through(self, function: Callable[[float], float]) -> "Rates":
        """The same with `function`, which is smooth and not negative, of each share."""
        grid = np.linspace(0.0, 1.0, _GRID)
        values = [function(float(share)) for share in grid]
        return Rates(_sums(np.interp(np.diff(self.done), grid, values)))

    def _by(self, step: float) -> float:
        """What all steps before `step` are worth."""
        if step >= self.steps:
            return float(self.done[-1])
        whole = int(step)
        return float(self.done[whole] + (step - whole) * (self.done[whole + 1] - self.done[whole]))


def rates_from(shares: Iterable[float]) -> Rates:
    """Rates of steps whose shares are given."""
    return Rates(_sums(np.fromiter(shares, dtype=np.float64)))


def _sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([np.zeros(1), np.cumsum(values)])
