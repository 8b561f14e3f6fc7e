"""Bars as data: one figure of several methods side by side, with the range over the seeds."""

import math
from dataclasses import dataclass

from abscise.report._pareto import COLOURS, Range


@dataclass(frozen=True, slots=True)
class Bar:
    """One method.

    Args:
        name: Of the method.
        colour: 0 .. `COLOURS` - 1.
        value: In percent: the mean over the seeds.
        ends: The least and the largest value.
        main: Whether it is the one that the picture is about.
    """

    name: str
    colour: int
    value: float
    ends: Range
    main: bool = False

    def __post_init__(self) -> None:
        low, high = self.ends
        if not (math.isfinite(self.value) and 0 <= low <= self.value <= high <= 100):
            message = f"a bar's value must be in its range, in 0..100: {self.value}, {low}..{high}"
            raise ValueError(message)
        if not 0 <= self.colour < COLOURS:
            message = f"a bar's colour must be in 0..{COLOURS - 1}, got {self.colour}"
            raise ValueError(message)


@dataclass(frozen=True, slots=True)
class BarRow:
    """Bars that are compared.

    Args:
        title: Data set and network.
        axis: What is counted, in percent.
        bars: From above to below; at least one.
    """

    title: str
    axis: str
    bars: tuple[Bar, ...]

    def __post_init__(self) -> None:
        if not self.bars:
            message = f"{self.title}: a row of bars must have one at least"
            raise ValueError(message)
