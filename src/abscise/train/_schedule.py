"""The learning rate of every step, as a function of the step alone: resuming needs no state."""

import math

from abscise.train._names import Schedule
from abscise.train._recipe import Recipe


def rate_at(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate of `step`, which counts from 1 to `steps`."""
    if step <= recipe.warmup:
        return recipe.learning_rate * step / recipe.warmup
    rate = recipe.learning_rate
    if recipe.schedule is Schedule.COSINE:
        done = (step - 1 - recipe.warmup) / (steps - recipe.warmup)
        return rate * (1 + math.cos(math.pi * done)) / 2
    # Two shares that round to one step are one drop; a share that rounds to 0 is none.
    for drop in sorted({round(steps * share) for share in recipe.drops}):
        if 1 <= drop <= step:
            rate *= recipe.drop_factor
    return rate
