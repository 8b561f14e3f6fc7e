"""Whether L2 outweighs the gradient that leaks through below the bend of a leaky ReLU.

A unit that stays below the bend of a function with slope s gets s times the gradient, and gives on
s times its input. So the gradient of what writes it is s * k * |what reads it|, and the reverse:
both shrink with what they act on. An adaptive optimizer divides by that size, and each step is a
jump of about the learning rate, whatever s is; the part of L2 in it grows as the gradient falls.
The mean squares of both sides are at rest at

    lr * s * k / (2 * lam),

which is a multiple of one jump: lr / 2 for each time that s * k is lam. Where that is only a few
jumps, chance leads both sides to 0 together, where they stay: neither has a gradient then.

Source: derived here; `tests/implicit/test_outweighed.py` has both ends of it on torch's own Adam
and RMSprop, and docs/papers/adam-implicit.md on MNIST.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from abscise.implicit._diagnosis import Part
from abscise.implicit._network import Kind
from abscise.implicit._rule import Decay, Family, Rule
from abscise.implicit._slopes import Leak

LOST, HELD = 1.0, 10.0
"""Ratios: up to the one all units are lost, from the other on the law above holds to a quarter.

Between them chance decides: units are lost, and some come back while their weights still jump.
"""


@dataclass(frozen=True, slots=True)
class Outweighed:
    """How L2 and a leaking gradient compare for the part that loses most easily.

    Args:
        leak: Where the gradient gets through.
        part: Weights or gamma.
        ratio: s * k / lam; None: the size of the gradients is unknown.
        floor: Size at which both sides rest; means something from a ratio of `HELD` on.
        largest_gradient: Size of the gradients of a unit above the bend up to which `ratio` is at
            most `LOST`.
    """

    leak: Leak
    part: Part
    ratio: float | None
    floor: float | None
    largest_gradient: float


def outweighed(
    leaks: Sequence[Leak], parts: Sequence[Part], rules: Sequence[Rule | None]
) -> Outweighed | None:
    """The smallest leak against the L2 of each part; None: nothing leaks, or no L2 is divided.

    Args:
        leaks: The smallest slope first.
        parts: Of all groups.
        rules: Of the groups.
    """
    weights = [it for it in parts if it.kind is Kind.WEIGHT and it.start > 0]
    if not leaks or not weights:
        return None
    found = [
        _against(leaks[0], part, weights)
        for part in parts
        if part.kind in {Kind.WEIGHT, Kind.GAMMA} and part.start > 0 and _divides(rules[part.group])
    ]
    return min(found, key=lambda it: math.inf if it.ratio is None else it.ratio, default=None)


def _divides(rule: Rule | None) -> bool:
    """Is L2 divided by the size of recent gradients, and a step of about the learning rate?"""
    return (
        rule is not None
        and rule.decay is Decay.COUPLED
        and rule.family in {Family.ADAM, Family.RMSPROP}
        and not rule.frozen
    )


def _against(leak: Leak, part: Part, weights: Sequence[Part]) -> Outweighed:
    """One part against what reads its units: weights of the size that all weights have."""
    size = _pooled([(it.numbers, it.start) for it in weights])
    known = [(it.numbers, it.gradient_rms) for it in weights if it.gradient_rms is not None]
    lam, lr = part.strength or 0.0, part.lr or 0.0
    largest = LOST * lam * math.sqrt(size * part.start) / leak.slope if leak.slope else math.inf
    if part.gradient_rms is None or len(known) < len(weights):
        return Outweighed(leak, part, None, None, largest)
    written, read = part.gradient_rms / size, _pooled(known) / part.start
    ratio = leak.slope * math.sqrt(written * read) / lam
    floor = lr * leak.slope * math.cbrt(written**2 * read) / (2 * lam)
    return Outweighed(leak, part, ratio, floor, largest)


def _pooled(sizes: Sequence[tuple[int, float]]) -> float:
    """Root mean square of all numbers, from counts and those of their parts."""
    return math.sqrt(
        sum(count * size**2 for count, size in sizes) / sum(count for count, _ in sizes)
    )
