"""How many optimizer steps a weight without data gradient needs to fall below a threshold.

A dead ReLU unit has an exactly zero data gradient; only the decay moves its weights. With L2 in the
gradient one step then takes the share

    r = lr * strength / (D + eps)

of the weight, where D is what the optimizer divides by: the root of its second moment. D remembers
the gradients of before and forgets them slowly, so that r grows from `lr * strength / rms` towards
`lr * strength / eps`. Momentum turns r into the rate of the slowest mode of its recursion. While
the memory of old gradients decides, the time is

    2 / (1 - beta2) * ln(1 + (1 - beta2) / 2 * rms * ln(start / threshold) / (lr * strength)),

and the general case, in which the weight's own decay feeds D, is integrated below.

Source: derived here from the update rules; the effect is that of Yaguchi et al. 2018, "Adam Induces
Implicit Weight Sparsity in Rectifier Neural Networks", arXiv 1812.08119.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from abscise.implicit._rule import Decay, Family, Rule

NEVER = math.inf
_STEP = 0.04  # largest change of ln(weight) or ln(divisor) in one stride
_STRIDES = 200_000
_SINGLE, _SINGLES = 50, 1000
_LOOPS, _MEMORIES = 100_000, 40


@dataclass(frozen=True, slots=True)
class History:
    """What an optimizer remembers of one weight, as its state holds it.

    Args:
        second: Second moment of the gradients (Adagrad: their sum of squares), not corrected.
        update: Adadelta's second moment of the updates.
        steps: Steps done, which the bias correction and Adagrad's learning rate go by.
    """

    second: float = 0.0
    update: float = 0.0
    steps: int = 0


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
    rule: Rule, start: float, threshold: float, history: History | None = None
) -> float:
    """Steps until |weight| stays below `threshold`, from `start`, without any data gradient.

    Within 3 % of torch's own optimizers where the answer is above 2,000; below that a few dozen
    steps off. Where `rule.cycle` is not 0, a threshold within 50 times of it is crossed back now
    and then. `NEVER` where no decay acts, or where the cycle is larger.

    Raises:
        ValueError: `start` or `threshold` is not positive and finite.
    """
    for name, value in (("start", start), ("threshold", threshold)):
        if not 0 < value < math.inf:
            message = f"{name} must be > 0 and finite, got {value}"
            raise ValueError(message)
    if start <= threshold:
        return 0.0
    if rule.decay is Decay.NONE or rule.lr == 0 or threshold < rule.cycle:
        return NEVER
    distance = math.log(start / threshold)
    if rule.decay is not Decay.COUPLED:
        return NEVER if rule.ceiling >= 1 else distance / -math.log1p(-rule.ceiling)
    if not rule.adaptive:
        rate = decay_rate(rule, rule.ceiling)
        return distance / rate if rate > 0 else NEVER
    return _integrated(rule, start, threshold, history or History())


def decay_rate(rule: Rule, share: float) -> float:
    """-ln of the factor per step, where one step without momentum takes `share` of the weight.

    With momentum the weight follows x^2 - (1 + mu - gain * share) x + mu = 0, where the gain is
    1 - beta1 for Adam, whose momentum is an average, and 1 - dampening for the others. At most
    -ln(mu) / 2; negative where the recursion explodes.
    """
    mu = rule.momentum
    if mu == 0:
        factor = abs(1 - share)
        return -math.log(factor) if factor > 0 else NEVER
    gain = 1 - (mu if rule.family is Family.ADAM else rule.dampening)
    half = (1 + mu - gain * share) / 2
    inside = half * half - mu
    if inside < 0:
        return -math.log(mu) / 2
    root = math.sqrt(inside)
    if half <= 0:
        return -math.log(abs(half) + root)
    # 1 - (half + root), without the cancellation of small shares.
    missing = gain * share / (1 - half + root)
    return -math.log1p(-missing)


class _State(NamedTuple):
    """Where the weight is: ln|weight|, and the moments that the divisor is made of."""

    log_weight: float
    second: float
    peak: float
    update: float
    steps: float


def _integrated(rule: Rule, start: float, threshold: float, history: History) -> float:
    """The first steps one by one, in which momentum builds up; then in strides."""
    state = _State(math.log(start), history.second, history.second, history.update, history.steps)
    end = math.log(threshold)
    state = _begun(rule, state, end)
    if state.log_weight <= end:
        return state.steps - history.steps
    state = _remember(rule, state, state.log_weight, 1.0)
    for _ in range(_STRIDES):
        rate = decay_rate(rule, _share(rule, state))
        stride = _STEP / max(rate, _divisor_rate(rule, state), 1e-300)
        middle = state.log_weight - rate * stride / 2
        rate = decay_rate(rule, _share(rule, _remember(rule, state, middle, stride / 2)))
        if rate <= 0:
            return NEVER
        left = state.log_weight - end
        if rate * stride >= left:
            return state.steps - 1 - history.steps + left / rate
        state = state._replace(log_weight=state.log_weight - rate * stride)
        state = _remember(rule, state, middle, stride)
    return NEVER


def _begun(rule: Rule, state: _State, end: float) -> _State:
    """`state` after the first steps, or where it reaches `end`; momentum begins at 0.

    While a unit lives, the data's gradient and the decay cancel on average.
    """
    mu, adam = rule.momentum, rule.family is Family.ADAM
    weight, velocity = math.exp(state.log_weight), 0.0
    for _ in range(max(_SINGLE, min(_SINGLES, round(5 / (1 - mu))))):
        state = _remember(rule, state, state.log_weight, 1.0)  # a step sees its own gradient
        share = _share(rule, state)
        velocity = mu * velocity + ((1 - mu) * weight if adam else share * weight)
        weight -= share * velocity / (1 - mu**state.steps) if adam else velocity
        if abs(weight) <= math.exp(end):
            return state._replace(log_weight=end)
        state = state._replace(log_weight=math.log(abs(weight)))
    return state


def _remember(rule: Rule, state: _State, log_weight: float, steps: float) -> _State:
    """`state` after `steps` gradients of a weight of that size."""
    square = (rule.strength * math.exp(log_weight)) ** 2
    keep = 1.0 if rule.family is Family.ADAGRAD else rule.memory**steps
    new = square * (steps if rule.family is Family.ADAGRAD else 1 - keep)
    second = keep * state.second + new
    update = state.update
    if rule.family is Family.ADADELTA:
        moved = (update + rule.eps) / max(state.second + rule.eps, 1e-300) * square
        update = keep * update + (1 - keep) * moved
    peak = max(state.peak, second)
    return _State(state.log_weight, second, peak, update, state.steps + steps)


def _share(rule: Rule, state: _State) -> float:
    """Share of the weight that one step takes now."""
    lr = rule.lr / (1 + max(0.0, state.steps - 1) * rule.lr_decay)
    if rule.family is Family.ADADELTA:
        moved = (state.update + rule.eps) / max(state.second + rule.eps, 1e-300)
        return lr * rule.strength * math.sqrt(moved)
    return lr * rule.strength / max(_divisor(rule, state), 1e-300)


def _divisor(rule: Rule, state: _State) -> float:
    second = state.peak if rule.amsgrad else state.second
    if rule.family is Family.ADAM:
        second /= -math.expm1(max(state.steps, 1.0) * math.log(rule.memory)) if rule.memory else 1.0
    return math.sqrt(second) + rule.eps


def _divisor_rate(rule: Rule, state: _State) -> float:
    """|d ln(divisor) / d step|, by how far one step moves it."""
    after = _remember(rule, state, state.log_weight, 1.0)
    now, then = _share(rule, state), _share(rule, after)
    return abs(math.log(then / now)) if now > 0 and then > 0 else 0.0
