"""Whether the gradient that leaks through below the bend of a leaky ReLU keeps a unit from dying.

A unit that stays below the bend of a function with slope s gets s times the gradient, and gives on
s times its input. So the gradient of what writes it is s * k * |what reads it|, and the reverse:
both shrink with what they act on. Adam and RMSprop divide by that size, and each step is a jump of
about the learning rate, whatever s is; the part of L2 in it grows as the gradient falls. The mean
squares of both sides are at rest at

    gain * lr * s * k / (2 * lam),

where the gain is 1 / (1 - momentum) for RMSprop and 1 for Adam, whose momentum is an average. It
is a multiple of one jump: lr / 2 for each time that s * k is lam. Where it is many jumps, units
mostly stay there. Where it is few, chance leads both sides to 0 together, and there neither has a
gradient any more; how many are lost then is up to the optimizer's memory, to biases, and to what
reads the unit. So this says where units hardly die, and of none that it does.

Source: derived here; `tests/implicit/test_outweighed.py` has both ends of it on torch's own Adam
and RMSprop, and docs/papers/adam-implicit.md has it on MNIST.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from abscise.implicit._diagnosis import Part
from abscise.implicit._network import Kind
from abscise.implicit._rule import Decay, Family, Rule
from abscise.implicit._slopes import Leak
from abscise.implicit._times import pooled

HELD = 10.0
"""From this ratio on, nearly all units of many weights stay where the law above has them."""

KEPT = 0.7
"""Share of the largest learning rate that the last steps have where the floor stays up.

The floor falls with the rate, as soon as L2 has had the steps to move a weight there; under Adam,
which remembers gradients for longer, it falls further."""

_ABOVE_EPS, _ABOVE_THRESHOLD = 10.0, 5.0


@dataclass(frozen=True, slots=True)
class Against:
    """A leaking gradient against the L2 of one part.

    Args:
        ratio: s * k / lam.
        floor: Where the part rests, if it stays; 0 where a schedule lets it fall.
        gradient: Size of its gradient there.
        eps: What the optimizer adds to that size.
        many: Has a unit many such numbers? A single one, as a scale is, comes near 0 by chance.
    """

    ratio: float
    floor: float
    gradient: float
    eps: float
    many: bool

    def holds(self, threshold: float) -> bool:
        """Do nearly all units stay above the threshold?"""
        above = self.floor >= _ABOVE_THRESHOLD * threshold
        large = self.gradient >= _ABOVE_EPS * self.eps
        return self.many and self.ratio >= HELD and above and large


def against(leak: Leak, parts: Sequence[Part], rules: Sequence[Rule | None]) -> tuple[Against, ...]:
    """The leak against the L2 of each part with which units die; none where one is not known.

    The law is that of Adam and RMSprop with L2 in the gradient, whose divisor forgets.

    Args:
        leak: Of the smallest slope.
        parts: Of all groups.
        rules: Of the groups.
    """
    weights = [it for it in parts if it.kind is Kind.WEIGHT and it.start > 0]
    carriers = [it for it in parts if it.carries and it.start > 0]
    if any(it.least_gradient_rms is None for it in (*weights, *carriers)):
        return ()
    found = []
    for part in carriers:
        rule = rules[part.group]
        if rule is None or not _divides(rule):
            return ()
        found.append(_against(leak, part, rule, weights))
    return tuple(found)


def _divides(rule: Rule) -> bool:
    """Is L2 divided by the size of recent gradients, and a step of about the learning rate?"""
    kinds = {Family.ADAM, Family.RMSPROP}
    return rule.decay is Decay.COUPLED and rule.family in kinds and not rule.frozen


def _against(leak: Leak, part: Part, rule: Rule, weights: Sequence[Part]) -> Against:
    """One part against what reads its units: weights of the size that all weights have.

    Of several layers the one with the smallest gradients counts, for what writes and what reads.
    """
    size = pooled([(it.numbers, it.start) for it in weights]) if weights else part.start
    own = part.least_gradient_rms or 0.0
    written = leak.slope * own / size
    readers = [it.least_gradient_rms or 0.0 for it in weights]
    read = leak.slope * min(readers, default=own) / part.start
    pushed = rule.gain * rule.lr / (2 * rule.strength)
    floor, opposite = (
        pushed * math.cbrt(one**2 * other) for one, other in ((written, read), (read, written))
    )
    if rule.rates is not None:
        relaxes = written * opposite / (2 * rule.gain * rule.lr * rule.strength)
        floor = floor if rule.rates.recent(relaxes) >= KEPT else 0.0
    ratio = math.sqrt(written * read) / rule.strength
    return Against(ratio, floor, written * opposite, rule.eps, part.kind is Kind.WEIGHT)
