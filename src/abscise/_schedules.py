"""Schedules: the strength of each step as a function of the step alone, so that resuming is exact.

Steps count from 1. Where a schedule has a `strength`, that is the one it ends at.
"""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Protocol, runtime_checkable


@runtime_checkable
class Schedule(Protocol):
    """The strength of a step, which counts from 1; any function of an integer will do."""

    def __call__(self, step: int, /) -> float:
        """The strength, >= 0."""
        ...


@dataclass(frozen=True, slots=True)
class Constant:
    """The same strength at every step."""

    strength: float

    def __post_init__(self) -> None:
        check_strength("Constant", self.strength)

    def __call__(self, _step: int) -> float:
        """The strength."""
        return self.strength


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Nothing for the first `after` steps, then a straight line over `steps` steps, then constant.

    >>> [WarmUp(1.0, steps=4)(step) for step in (1, 2, 4, 9)]
    [0.25, 0.5, 1.0, 1.0]
    """

    strength: float
    steps: int
    after: int = 0

    def __post_init__(self) -> None:
        check_strength("WarmUp", self.strength)
        _check_span("WarmUp", self.steps, self.after)

    def __call__(self, step: int) -> float:
        """The strength of `step`."""
        return self.strength * _share(step - self.after, self.steps)


@dataclass(frozen=True, slots=True)
class Cubic:
    """Nothing for the first `after` steps, then fast, then slowly up to `strength` over `steps`.

    Source: M. Zhu, S. Gupta 2017, "To Prune, or Not to Prune" (arXiv 1710.01878), equation 1;
    theirs schedules the sparsity, ours a strength.

    >>> [Cubic(1.0, steps=2)(step) for step in (1, 2, 3)]
    [0.875, 1.0, 1.0]
    """

    strength: float
    steps: int
    after: int = 0

    def __post_init__(self) -> None:
        check_strength("Cubic", self.strength)
        _check_span("Cubic", self.steps, self.after)

    def __call__(self, step: int) -> float:
        """The strength of `step`."""
        return self.strength * (1 - (1 - _share(step - self.after, self.steps)) ** 3)


@dataclass(frozen=True, slots=True)
class PerDepth:
    """One factor of the strength for each layer, the first layer first.

    Args:
        factors: As many as there are layers, each >= 0.
    """

    factors: tuple[float, ...]

    def __post_init__(self) -> None:
        for factor in self.factors:
            check_strength("PerDepth", factor, "a factor")

    def __call__(self, depth: int, layers: int) -> float:
        """The factor of layer `depth`, which counts from 1 to `layers`.

        Raises:
            ValueError: There are not as many layers as factors.
        """
        if layers != len(self.factors):
            message = (
                f"PerDepth: there must be one factor for each of the {layers} layers, "
                f"got {len(self.factors)}"
            )
            raise ValueError(message)
        return self.factors[depth - 1]


def check_strength(name: str, value: float, what: str = "strength") -> None:
    """Refuse a strength that is negative or not finite.

    Raises:
        TypeError: It is no number.
        ValueError: The text names the thing, the rule and the value.
    """
    check_number(name, value, what)
    if not 0 <= value < math.inf:
        message = f"{name}: {what} must be >= 0 and finite, got {value!r}"
        raise ValueError(message)


def check_number(name: str, value: object, what: str) -> None:
    """Refuse what is no real number; booleans are none.

    Raises:
        TypeError: The text names the thing and the value.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        message = f"{name}: {what} must be a number, got {value!r:.60}"
        raise TypeError(message)


def check_whole(name: str, value: object, what: str, least: int) -> None:
    """Refuse what is no whole number, or one below `least`; booleans are none.

    Raises:
        TypeError: It is no whole number; the text names the thing and the value.
        ValueError: It is too small.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        message = f"{name}: {what} must be a whole number, got {value!r:.60}"
        raise TypeError(message)
    if value < least:
        message = f"{name}: {what} must be >= {least}, got {value!r}"
        raise ValueError(message)


def _check_span(name: str, steps: int, after: int) -> None:
    if steps < 1:
        message = f"{name}: steps must be >= 1, got {steps!r}"
        raise ValueError(message)
    if after < 0:
        message = f"{name}: after must be >= 0, got {after!r}"
        raise ValueError(message)


def _share(done: int, steps: int) -> float:
    return min(max(done / steps, 0.0), 1.0)
