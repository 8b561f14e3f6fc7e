"""The learning rate of every step, as a function of the step alone: resuming needs no state."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from abscise.train._names import Schedule
from abscise.train._recipe import Recipe


def rate_at(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate of `step`, which counts from 1 to `steps`."""
    if step <= recipe.warmup:
        return recipe.learning_rate * step / recipe.warmup
    rate = recipe.learning_rate
    if recipe.schedule is Schedule.COSINE:
        return rate * annealed(step - recipe.warmup, steps - recipe.warmup, recipe.cycles)
    # Two shares that round to one step are one drop; a share that rounds to 0 is none.
    for drop in sorted({round(steps * share) for share in recipe.drops}):
        if 1 <= drop <= step:
            rate *= recipe.drop_factor
    return rate


def scheduler_of(recipe: Recipe, optimizer: Optimizer, steps: int) -> LambdaLR:
    """The same as torch knows it, for a run of so many steps; it sets the rate of the first."""
    return LambdaLR(optimizer, lambda done: rate_at(recipe, done + 1, steps) / recipe.learning_rate)


def annealed(step: int, steps: int, cycles: int) -> float:
    """The share of the full rate at `step`, which counts from 1 to `steps`: cosines with restarts.

    Source: I. Loshchilov, F. Hutter 2016, "SGDR: Stochastic Gradient Descent with Warm Restarts"
    (arXiv 1608.03983), with cycles of equal length.

    >>> [round(annealed(step, 8, 2), 2) for step in (1, 3, 4, 5)]
    [1.0, 0.5, 0.15, 1.0]
    """
    done = (step - 1) * cycles % steps / steps
    return (1 + math.cos(math.pi * done)) / 2
