"""Pareto pictures as data: error against what is left, one curve per method, ranges over seeds."""

import math
from dataclasses import dataclass

Range = tuple[float, float]
COLOURS = 10
"""Curves that can be told apart; the stylesheets have as many colours."""


@dataclass(frozen=True, slots=True)
class ParetoSpot:
    """One strength of one method: means over the seeds, and the least and largest value.

    Args:
        x: What is left, as a share of the dense network, in (0, 1].
        y: Error in percent.
        x_range: Over the seeds.
        y_range: Over the seeds.
    """

    x: float
    y: float
    x_range: Range
    y_range: Range

    def __post_init__(self) -> None:
        for name, value, (low, high) in (("x", self.x, self.x_range), ("y", self.y, self.y_range)):
            if not (math.isfinite(value) and low <= value <= high and low >= 0):
                message = f"a spot's {name} must be in its range, from 0 on: {value}, {low}..{high}"
                raise ValueError(message)


@dataclass(frozen=True, slots=True)
class ParetoCurve:
    """The spots of one method, in the order of their strengths.

    Args:
        name: Of the method.
        colour: 0 .. `COLOURS` - 1: the same method has the same one in every panel.
        spots: Each strength once.
        main: Whether it is the one that the picture is about.
    """

    name: str
    colour: int
    spots: tuple[ParetoSpot, ...]
    main: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.colour < COLOURS:
            message = f"a curve's colour must be in 0..{COLOURS - 1}, got {self.colour}"
            raise ValueError(message)


@dataclass(frozen=True, slots=True)
class ParetoPanel:
    """One panel.

    Args:
        title: What is counted along x.
        curves: Of all methods.
        dense: Mean and range of the dense network's error; None where it was not run.
        highest: Spots with a larger error are not drawn.
    """

    title: str
    curves: tuple[ParetoCurve, ...]
    dense: tuple[float, Range] | None
    highest: float

    @property
    def drawn(self) -> tuple[ParetoCurve, ...]:
        """The curves without the spots that are too high, or have nothing left."""
        cut = (
            ParetoCurve(
                it.name,
                it.colour,
                tuple(spot for spot in it.spots if spot.y <= self.highest and spot.x > 0),
                it.main,
            )
            for it in self.curves
        )
        return tuple(curve for curve in cut if curve.spots)

    @property
    def hidden(self) -> int:
        """How many spots are not drawn."""
        return sum(len(it.spots) for it in self.curves) - sum(len(it.spots) for it in self.drawn)


@dataclass(frozen=True, slots=True)
class ParetoRow:
    """The panels of one data set, side by side.

    Args:
        title: Data set and network.
        panels: With the same curves.
    """

    title: str
    panels: tuple[ParetoPanel, ...]
