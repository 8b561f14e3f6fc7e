"""Grid: the strengths of a sweep, evenly spaced on the scale that suits the knob."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Geometric:
    """`count` strengths from `low` on, each `ratio` times the one before.

    >>> Geometric(1e-3, 2.0, 3).values
    (0.001, 0.002, 0.004)
    """

    low: float
    ratio: float
    count: int

    def __post_init__(self) -> None:
        if self.low <= 0 or self.ratio <= 1 or self.count < 1:
            message = f"a grid has low > 0, ratio > 1 and count >= 1, got {self}"
            raise ValueError(message)

    @property
    def values(self) -> tuple[float, ...]:
        """Rising, with three digits."""
        return tuple(float(f"{self.low * self.ratio**k:.3g}") for k in range(self.count))


@dataclass(frozen=True, slots=True)
class Shares:
    """Given shares, in [0, 1)."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not all(0 <= value < 1 for value in self.values):
            message = f"shares must be in [0, 1), got {self.values}"
            raise ValueError(message)


Grid = Geometric | Shares
