"""How many optimizer steps a weight without data gradient needs to fall below a threshold.

A dead ReLU unit has an exactly zero data gradient; only the decay moves its weights. With L2 in the
gradient one step then takes the share

    r = lr * strength / (D + eps)

of the weight, where D is what the optimizer divides by: the root of its second moment. D remembers
the gradients of before and forgets them slowly, so that r grows from `lr * strength / rms` towards
`lr * strength / eps`. Momentum turns r into the rate of the slowest mode of its recursion. While
the memory of old gradients decides, the time is

    2 / (1 - beta2) * ln(1 + (1 - beta2) / 2 * rms * ln(start / threshold) / (lr * strength)),

and the general case, in which the weight's own decay feeds D, is integrated in `_integrate.py`.
Where a schedule changes the learning rate, the sum of the rates takes the place of the steps; D
keeps to the steps.

Source: derived here from the update rules; the effect is that of Yaguchi et al. 2018, "Adam Induces
Implicit Weight Sparsity in Rectifier Neural Networks", arXiv 1812.08119.
"""

import math
from dataclasses import replace

from abscise.implicit._integrate import History, stays_below
from abscise.implicit._recursion import NEVER, decay_rate
from abscise.implicit._rule import Decay, Family, Rule

_LOOPS, _MEMORIES = 100_000, 40


def history_of(rule: Rule, gradient_rms: float, steps: int) -> History:
    """The history after `steps` gradients of size `gradient_rms`."""
    square = gradient_rms**2
    if rule.family is Family.ADAGRAD:
        return History(square * steps, 0.0, steps)
    second = square * (1 - rule.memory**steps)
    update = _updates(rule, square, steps) if rule.family is Family.ADADELTA else 0.0
    return History(second, update, steps)


def _updates(rule: Rule, square: float, steps: int) -> float:
    """Second moment of Adadelta's updates: it follows that of the gradients, slowly."""
    second = update = 0.0
    begun = min(steps, round(_MEMORIES / max(1 - rule.memory, _MEMORIES / _LOOPS)))
    for _ in range(begun):
        second += (1 - rule.memory) * (square - second)
        moved = (update + rule.eps) / max(second + rule.eps, 1e-300) * square
        update += (1 - rule.memory) * (moved - update)
    # From here on the gradients' own moment stands still, and this one nears theirs in closed form.
    nearing = (1 - rule.memory) * rule.eps / max(square + rule.eps, 1e-300)
    return square + (update - square) * (1 - nearing) ** (steps - begun)


def steps_to(  # noqa: PLR0911 - one return per law
    rule: Rule,
    start: float,
    threshold: float,
    history: History | None = None,
    *,
    since: float = 0.0,
) -> float:
    """Steps until |weight| stays below `threshold`, from `start`, without any data gradient.

    Within 3 % of torch's own optimizers where the answer is above 2,000; below that a few dozen
    steps off. Where `rule.cycle` is not 0, a threshold within 50 times of it is crossed back now
    and then. `NEVER` where no decay acts, or where the cycle is larger; with `rule.rates`, where
    the run ends before, too. `since` is the step of those at which the data gradient ends.

    Raises:
        ValueError: `start` or `threshold` is not positive and finite.
    """
    for name, value in (("start", start), ("threshold", threshold)):
        if not 0 < value < math.inf:
            message = f"{name} must be > 0 and finite, got {value}"
            raise ValueError(message)
    if start <= threshold:
        return 0.0
    jumps = rule.rates is None and threshold < rule.cycle
    if rule.decay is Decay.NONE or rule.lr == 0 or jumps:
        return NEVER
    distance = math.log(start / threshold)
    if rule.decay is not Decay.COUPLED:
        plain = replace(rule, momentum=0.0)  # which the decay does not pass through
        return NEVER if rule.ceiling >= 1 else _steady(plain, distance, since)
    if not rule.adaptive:
        return _steady(rule, distance, since)
    return stays_below(rule, start, threshold, history or History(), since)


def _steady(rule: Rule, distance: float, since: float) -> float:
    """Steps in which ln|weight| falls by `distance`, where its rate goes by nothing remembered."""
    rate, rates = decay_rate(rule, rule.ceiling), rule.rates
    if rate <= 0:
        return NEVER
    if rates is None or rule.decay is Decay.SHRINK:
        return distance / rate
    falls = rates.through(lambda share: decay_rate(rule, share * rule.ceiling))
    return falls.until(since, distance)
