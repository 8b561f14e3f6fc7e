"""Budget: strength steered by feedback, so that a given share of the weights or groups is 0."""

import math
from dataclasses import dataclass

LIMIT = (
    20.0  # the strength stays within e^20 of where it starts, even if the target is out of reach
)
AHEAD = 8  # looks
AVERAGING = 0.3
GAIN = 3.0
FASTEST = 0.1  # change of the level from look to look
RISE = 0.2  # the same, upwards and downwards, of whole groups
FALL = 2.0
GROUP_GAIN = 0.3
START = -math.log(100)  # a start that is too small costs some looks, one too large the network


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

    def count(self, groups: int) -> int:
        """How many of the groups are to be 0; at least one stays."""
        return min(max(1, round(self.target * groups)), max(1, groups - 1))

    def steered_by_wait(
        self, control: "Control", step: int, share: float, wait: float
    ) -> "Control":
        """The control after a look at `step`, for whole groups, which die and do not come back.

        Of groups the share says too late that the strength is too large: those that are alike all
        die at once. But their norms fall before. `wait` is the number of steps after which as many
        as wanted are dead if each goes on falling as it did since the last look. It answers to the
        strength at once, so it is held at half of the time that is left: the fall slows down
        towards the end, and only a few die in its last steps.
        """
        left = max(0.75 * self.by - step, AHEAD * self.every) / 2
        rise = max(RISE, 20 * self.every / self.by)
        change = rise if math.isinf(wait) else GROUP_GAIN * math.log(max(wait, 1e-9) / left)
        lowest = -FALL if step < 0.75 * self.by else 0.0  # late, it only rises: the rest must go
        level = min(max(control.level + min(max(change, lowest), rise), -LIMIT), LIMIT)
        return Control(control.looks + 1, level, share)

    def steered(self, control: "Control", step: int, share: float) -> "Control":
        """The control after a look at `step`, when `share` is 0.

        Integral control of the logarithm of the strength. What is seen now was caused steps ago, so
        the error is that of the course a few looks ahead, against the share as it moves now:
        without that the strength rises until everything dies. The share moves in bursts, so its
        speed is averaged.
        """
        moved = share - control.share if control.looks else 0.0
        speed = control.speed + AVERAGING * (moved - control.speed)
        error = self.wanted(step + AHEAD * self.every) - share - AHEAD * speed
        fastest = max(FASTEST, 15 * self.every / self.by)  # few looks: each may do more
        change = min(max(GAIN * error, -fastest), fastest)
        level = min(max(control.level + change, -LIMIT), LIMIT)
        return Control(control.looks + 1, level, share, speed)


@dataclass(frozen=True, slots=True)
class Control:
    """What the steering remembers.

    Args:
        looks: How often it has looked.
        level: The logarithm of what the strength is multiplied with.
        share: That was 0 at the last look.
        speed: Its change from look to look, averaged.
    """

    looks: int = 0
    level: float = 0.0
    share: float = 0.0
    speed: float = 0.0

    @property
    def factor(self) -> float:
        """What the strength is multiplied with."""
        return math.exp(self.level)
