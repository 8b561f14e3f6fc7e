"""Pressure: the strength of every step of a run in cycles, by a rule that needs no tuning."""

import math
from dataclasses import dataclass, replace

from torch import nn

from abscise._errors import RecipeError
from abscise.sparsify import strength_to_vanish, typical_size


@dataclass(frozen=True, slots=True)
class Pressure:
    """In the first half of each cycle weights shrink, in the second half they only heal.

    From cycle to cycle the strength grows by equal factors. The learning rate falls over the whole
    cycle, so that each cycle ends with a settled network of a certain size.

    Args:
        first: The strength in the first cycle.
        last: That in the last one.
        steps: Of the whole run.
        cycles: Of equal length.
    """

    first: float
    last: float
    steps: int
    cycles: int

    def __post_init__(self) -> None:
        if not 0 < self.first <= self.last < 1:
            message = (
                f"Pressure: 0 < first <= last < 1 must hold, got {self.first!r} and {self.last!r}"
            )
            raise ValueError(message)
        if not 1 <= self.cycles <= self.steps:
            message = f"Pressure: cycles must be in 1..steps, got {self.cycles} in {self.steps}"
            raise ValueError(message)

    def __call__(self, step: int) -> float:
        """The strength of `step`, which counts from 1."""
        place = (step - 1) * self.cycles
        if place % self.steps >= self.steps / 2:
            return 0.0
        share = min(place // self.steps, self.cycles - 1) / max(1, self.cycles - 1)
        return self.first * (self.last / self.first) ** share

    def times(self, factor: float) -> "Pressure":
        """The same course at `factor` times the strength.

        Raises:
            RecipeError: A step would shrink a weight by all that it is, or more.
        """
        if factor <= 0 or factor * self.last >= 1:
            message = (
                f"{factor:g} times the strength of the rule: a step would take "
                f"{factor * self.last:.3g} of a weight, which must be above 0 and below 1; take "
                f"less than {1 / self.last:.3g} times"
            )
            raise RecipeError(message)
        return replace(self, first=factor * self.first, last=factor * self.last)


def pressure_on(
    model: nn.Module, threshold: float, steps: int, cycles: int, growth: float
) -> Pressure:
    """The pressure under which every weight without gradient vanishes in the first cycle.

    `strength_to_vanish` for the largest of the weights, over half of a cycle.

    Args:
        model: Dense, as the run begins.
        threshold: Below which a weight is gone.
        steps: Of the whole run.
        cycles: Of equal length.
        growth: Strength in the last cycle / in the first, >= 1.

    Raises:
        RecipeError: There are too few steps for that.
    """
    within = max(1, math.floor(steps / cycles / 2))
    try:
        first = strength_to_vanish(typical_size(model, quantile=1.0), threshold, within)
        return Pressure(first, first * growth if cycles > 1 else first, steps, cycles)
    except ValueError as problem:
        message = f"{steps} steps in {cycles} cycles are too few: {problem}; take more epochs"
        raise RecipeError(message) from problem
