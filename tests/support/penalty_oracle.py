"""Brute force for proximal maps: nothing here knows a closed form or the package's values.

The formulas are written a second time, in numpy and float64, for one row at a time: the last axis
is the row, so that thousands of candidates are judged at once.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Cost: TypeAlias = Callable[[Array], Array]

# Candidates per axis on the first grid, by the number of axes.
_COARSE = {1: 1201, 2: 61, 3: 17}
_FINE = {1: 101, 2: 13, 3: 7}
_STARTS = 4
_ZOOMS = 9


def objective(cost: Cost, y: Array, x: Array, step: Array) -> Array:
    """sum (y - x)^2 / (2 step) + cost(y) over the last axis; step 0 holds the element fast."""
    gap = np.square(y - x)
    moved = np.where(step > 0, gap / np.where(step > 0, 2 * step, 1), np.where(gap > 0, np.inf, 0))
    return np.asarray(moved.sum(-1) + cost(y))


def least(cost: Cost, x: Array, step: Array) -> float:
    """The least objective of one row of at most three elements, over a grid that zooms in.

    Every penalty falls when an element moves towards 0, so the minimiser lies between 0 and x.
    """
    zero, size = np.zeros_like(x), x.size
    coarse = [_axis(0.0, 1.0, _COARSE[size], logarithmic=True)] * size
    points = _points(coarse) * x
    costs = objective(cost, points, x, step)
    best = float(costs.min())
    spacing = np.abs(x) / (_COARSE[size] - 1)
    for start in np.argsort(costs, kind="stable")[:_STARTS]:
        center, reach = points[start], spacing
        for _ in range(_ZOOMS):
            steps = [_axis(-1.0, 1.0, _FINE[size], logarithmic=False)] * size
            near = np.clip(
                center + _points(steps) * reach, np.minimum(x, zero), np.maximum(x, zero)
            )
            found = objective(cost, near, x, step)
            center = near[int(found.argmin())]
            best = min(best, float(found.min()))
            reach = reach * (3 / _FINE[size])
    return best


def _axis(low: float, high: float, count: int, *, logarithmic: bool) -> Array:
    plain = np.linspace(low, high, count)
    return np.union1d(plain, np.geomspace(1e-6, 0.5, count // 4)) if logarithmic else plain


def _points(axes: Sequence[Array]) -> Array:
    return np.stack([grid.ravel() for grid in np.meshgrid(*axes, indexing="ij")], axis=-1)


def norm(y: Array) -> Array:
    return np.asarray(np.sqrt(np.square(y).sum(-1)))


def l0(y: Array) -> Array:
    return np.asarray((y != 0).sum(-1), dtype=np.float64)


def l1(y: Array) -> Array:
    return np.asarray(np.abs(y).sum(-1))


def lhalf(y: Array) -> Array:
    return np.asarray(np.sqrt(np.abs(y)).sum(-1))


def transformed_l1(a: float) -> Cost:
    return lambda y: np.asarray(((a + 1) * np.abs(y) / (a + np.abs(y))).sum(-1))


def group_transformed_l1(a: float) -> Cost:
    return lambda y: (a + 1) * norm(y) / (a + norm(y))


def group_lasso(*, by_size: bool) -> Cost:
    return lambda y: norm(y) * (np.sqrt(y.shape[-1]) if by_size else 1.0)


def sparse_group_lasso(alpha: float) -> Cost:
    return lambda y: alpha * l1(y) + (1 - alpha) * np.sqrt(y.shape[-1]) * norm(y)


def exclusive(y: Array) -> Array:
    return l1(y) ** 2 / 2


def cges(mu: float) -> Cost:
    return lambda y: (1 - mu) * norm(y) + mu * exclusive(y)


def integrated(mu: float, a: float) -> Cost:
    elements = transformed_l1(a)
    return lambda y: (1 - mu) * norm(y) + mu * elements(y)


def mcp(lam: float, gamma: float) -> Cost:
    def cost(y: Array) -> Array:
        t = np.abs(y)
        inside = lam * t - t**2 / (2 * gamma)
        return np.asarray(np.where(t <= gamma * lam, inside, gamma * lam**2 / 2).sum(-1))

    return cost


def scad(lam: float, a: float) -> Cost:
    def cost(y: Array) -> Array:
        t = np.abs(y)
        bent = (2 * a * lam * t - t**2 - lam**2) / (2 * (a - 1))
        beyond = lam**2 * (a + 1) / 2
        return np.asarray(np.where(t <= lam, lam * t, np.where(t <= a * lam, bent, beyond)).sum(-1))

    return cost


def n_of_m(n: int, m: int) -> Cost:
    def cost(y: Array) -> Array:
        blocks = y.reshape(*y.shape[:-1], y.shape[-1] // m, m)
        crowded = ((blocks != 0).sum(-1) > n).any(-1)
        return np.asarray(np.where(crowded, np.inf, 0.0))

    return cost
