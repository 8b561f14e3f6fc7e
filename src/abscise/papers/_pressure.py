"""Pressure: the strength of every step of a run in cycles, from one number of epochs."""

import math
from dataclasses import dataclass

from torch import nn

from abscise.sparsify import strength_to_vanish, typical_size
from abscise.train import annealed


@dataclass(frozen=True, slots=True)
class Pressure:
    """In each cycle the strength falls with the learning rate; from cycle to cycle it grows.

    As in AdamW one schedule multiplies step and decay, so that every cycle ends with steps that
    only heal.

    Args:
        first: The strength with which the first cycle begins.
        last: That of the last one; in between it grows by equal factors.
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
        return self.peak(step) * annealed(step, self.steps, self.cycles)

    def peak(self, step: int) -> float:
        """The strength with which the cycle of `step` begins."""
        cycle = min((step - 1) * self.cycles // self.steps, self.cycles - 1)
        share = cycle / max(1, self.cycles - 1)
        return self.first * (self.last / self.first) ** share


def pressure_on(
    model: nn.Module, threshold: float, steps: int, cycles: int, growth: float
) -> Pressure:
    """The pressure under which a typical weight without gradient vanishes in the first cycle.

    `strength_to_vanish` for the root mean square of the model's weights, over half the steps of a
    cycle, since the mean over an annealed cycle is half the peak.

    Args:
        model: Dense, as the run begins.
        threshold: Below which a weight is gone.
        steps: Of the whole run.
        cycles: Of equal length.
        growth: Last peak / first peak, >= 1.
    """
    within = max(1, math.floor(steps / cycles / 2))
    first = strength_to_vanish(typical_size(model), threshold, within)
    return Pressure(first, first * growth, steps, cycles)
