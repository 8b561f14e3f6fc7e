"""Training: how the dense model came about, as data: what was done, and what was seen when."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class TrainingPoint:
    """One look at a training run.

    Args:
        step: Optimizer steps done.
        epoch: Passes over the training data done, a fraction in the middle of one.
        loss: Of the last batch.
        accuracy: On the validation part, 0..1.
        learning_rate: Of the last step.
        layers: Name of the layer -> (dying units, all units).
    """

    step: int
    epoch: float
    loss: float
    accuracy: float
    learning_rate: float
    layers: Mapping[str, tuple[int, int]]

    def __post_init__(self) -> None:
        """Refuse numbers that no run gives."""
        _require("step", self.step, "at least 1", holds=self.step >= 1)
        _require("loss", self.loss, "finite", holds=math.isfinite(self.loss))
        _require("accuracy", self.accuracy, "in 0..1", holds=0 <= self.accuracy <= 1)
        for name in ("epoch", "learning_rate"):
            value = getattr(self, name)
            _require(name, value, "finite and >= 0", holds=0 <= value < math.inf)
        for layer, (dying, units) in self.layers.items():
            _require(f"dying units of {layer}", dying, "in 0..units", holds=0 <= dying <= units)


@dataclass(frozen=True, slots=True)
class Training:
    """How the dense model was trained.

    Args:
        recipe: Its name.
        method: What makes the network sparse, such as "adam, weight_decay 0.0015".
        dataset: Which data.
        network: Which network.
        seed: Of the weights and of the order of the examples.
        wall_s: Seconds that it took.
        dying_below: Units count as dying when their norm scale, or every weight that they read
            with, is below this.
        points: What was seen, in order of time; all of the same layers.
        smooth: Whether the learning rate falls a little at every step, as a cosine does.
    """

    recipe: str
    method: str
    dataset: str
    network: str
    seed: int
    wall_s: float
    dying_below: float
    points: tuple[TrainingPoint, ...]
    smooth: bool = False

    def __post_init__(self) -> None:
        """Refuse points that are out of order, or of different networks."""
        for name in ("wall_s", "dying_below"):
            value = getattr(self, name)
            _require(name, value, "finite and >= 0", holds=0 <= value < math.inf)
        _require("seed", self.seed, ">= 0", holds=self.seed >= 0)
        for before, after in pairwise(self.points):
            _require("step", after.step, f"more than {before.step}", holds=after.step > before.step)
            same = _sizes(before) == _sizes(after)
            _require("layers", list(after.layers), f"those of step {before.step}", holds=same)

    def drops(self) -> tuple[tuple[int, float, float], ...]:
        """(step of the first look after it, rate before, rate after) where the rate fell by half.

        A smooth schedule has no drops, however far apart the looks are.
        """
        if self.smooth:
            return ()
        return tuple(
            (after.step, before.learning_rate, after.learning_rate)
            for before, after in pairwise(self.points)
            if after.learning_rate <= before.learning_rate / 2
        )


def _sizes(point: TrainingPoint) -> dict[str, int]:
    return {layer: units for layer, (_, units) in point.layers.items()}


def _require(name: str, value: object, rule: str, *, holds: bool) -> None:
    if not holds:
        message = f"{name} must be {rule}, got {value}"
        raise ValueError(message)
