"""Budget: strength steered by feedback, so that a given share of the weights or groups is 0."""

import math
from dataclasses import dataclass

LIMIT = 20.0
"""The strength stays within e^20 of where it starts: a target out of reach must not overflow."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The share that is to be 0, and the step at which it is to be reached.

    Args:
        target: In (0, 1): of weights, or of groups where the penalty shrinks whole groups.
        by: Steps until then; the share wanted rises on a cubic course for three quarters of them
            and the rest is left to settle. Afterwards it is held.
    """

    target: float
    by: int

    def __post_init__(self) -> None:
        if not 0 < self.target < 1:
            message = f"Proximal: target_sparsity must be in (0, 1), got {self.target!r}"
            raise ValueError(message)
        if self.by < 1:
            message = f"Proximal: target_by must be a step >= 1, got {self.by!r}"
            raise ValueError(message)

    @property
    def every(self) -> int:
        """Steps between two looks, each of which counts the zeros and waits for the device."""
        return max(1, self.by // 250)

    def wanted(self, step: int) -> float:
        """The share wanted at `step`."""
        rest = max(0.0, 1 - step / (0.75 * self.by))
        return self.target * (1 - rest**3)

    def factor(self, integral: float, error: float) -> float:
        """What the strength is multiplied with: an integral of the error, and the error itself.

        The first finds the strength, the second damps its swings. Both act on the logarithm.
        """
        return math.exp(min(max(integral + PROPORTIONAL * error, -LIMIT), LIMIT))

    def integrated(self, integral: float, error: float) -> float:
        """The integral after one more look; it does not grow past what `factor` uses."""
        moved = integral + INTEGRAL * error * min(1.0, 250 * self.every / self.by)
        return min(max(moved, -LIMIT), LIMIT)


PROPORTIONAL = 20.0
INTEGRAL = 1.0
