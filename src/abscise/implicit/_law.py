"""How many optimizer steps a weight without data gradient needs to fall below a threshold.

A dead ReLU unit has an exactly zero data gradient; only the decay moves its weights. With L2 in the
gradient one step then takes the share

    r = lr * strength / (D + eps)

of the weight, where D is what the optimizer divides by: the root of its second moment. D remembers
the gradients of before and forgets them slowly, so that r grows from `lr * strength / rms` towards
`lr * strength / eps`. Momentum turns r into the rate of the slowest mode of its recursion. While
the memory of old gradients decides, the time is

    2 / (1 - beta2) * ln(1 + (1 - beta2) / 2 * rms * ln(start / threshold) / (lr * strength)),

and the general case, in which the weight's own decay feeds D, is integrated below. Where a schedule
changes the learning rate, the sum of the rates takes the place of the steps; D keeps to the steps.

Source: derived here from the update rules; the effect is that of Yaguchi et al. 2018, "Adam Induces
Implicit Weight Sparsity in Rectifier Neural Networks", arXiv 1812.08119.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from abscise.implicit._rule import Decay, Family, Rule

NEVER = math.inf
_STEP = 0.04  # largest change of ln(weight) or ln(divisor) in one stride
_STRIDES = 200_000
_SINGLE, _SINGLES = 50, 1000
_SHORT = 500  # strides in a run, at least, while a weight is in its cycle
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
    if rule.decay is Decay.NONE or rule.lr == 0 or threshold < rule.at_end.cycle:
        return NEVER
    distance = math.log(start / threshold)
    if rule.decay is not Decay.COUPLED:
        plain = replace(rule, momentum=0.0)  # which the decay does not pass through
        return NEVER if rule.ceiling >= 1 else _steady(plain, distance, since)
    if not rule.adaptive:
        return _steady(rule, distance, since)
    found = _integrated(rule, start, threshold, history or History(), since)
    return max(found, _calm(rule, threshold) - since)


def _calm(rule: Rule, threshold: float) -> float:
    """The step from which on the learning rates are too small for a cycle above `threshold`."""
    if rule.rates is None or rule.cycle <= threshold:
        return 0.0
    largest = rule.stability_bound * (threshold + rule.eps / rule.strength)
    return rule.rates.below(largest / rule.lr)


def _steady(rule: Rule, distance: float, since: float) -> float:
    """Steps in which ln|weight| falls by `distance`, where its rate goes by nothing remembered."""
    rate, rates = decay_rate(rule, rule.ceiling), rule.rates
    if rate <= 0:
        return NEVER
    if rates is None or rule.decay is Decay.SHRINK:
        return distance / rate
    falls = rates.through(lambda share: decay_rate(rule, share * rule.ceiling))
    return falls.until(since, distance)


def decay_rate(rule: Rule, share: float) -> float:
    """-ln of the factor per step, where one step without momentum takes `share` of the weight.

    With momentum the weight follows x^2 - (1 + mu - gain * share) x + mu = 0, where the gain is
    1 - beta1 for Adam, whose momentum is an average, and 1 - dampening for the others. At most
    -ln(mu) / 2; negative where the recursion explodes.
    """
    mu = rule.momentum
    if mu == 0:
        return NEVER if share == 1 else -(math.log1p(-share) if share < 1 else math.log(share - 1))
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


def _integrated(
    rule: Rule, start: float, threshold: float, history: History, since: float
) -> float:
    """The first steps one by one, in which momentum builds up; then in strides."""
    state = _State(math.log(start), history.second, history.second, history.update, history.steps)
    end = math.log(threshold)
    state = _begun(rule, state, end, since)
    gone = state.steps - history.steps
    if state.log_weight <= end:
        return gone
    state = _remember(rule, state, state.log_weight, 1.0)
    for _ in range(_STRIDES):
        stride, worth = _stride(rule, state, since + gone)
        rate = max(0.0, decay_rate(rule, worth * _share(rule, state)))
        middle = state.log_weight - rate * stride / 2
        after = _remember(rule, state, middle, stride / 2)
        rate, left = decay_rate(rule, worth * _share(rule, after)), state.log_weight - end
        if stride <= 0 or (rate <= 0 and rule.rates is None):
            return NEVER
        rate = max(0.0, rate)
        if rate * stride >= left:
            return gone + _over(rule, since + gone, left * worth / rate)
        state = state._replace(log_weight=state.log_weight - rate * stride)
        state, gone = _remember(rule, state, middle, stride), gone + stride
    return NEVER


def _stride(rule: Rule, state: _State, at: float) -> tuple[float, float]:
    """Steps in which weight and divisor change little, and the mean share of `lr` in them.

    No steps: the run is over. At the largest rate the weight may be in its cycle, which ends when
    the rate falls: then strides are short.
    """
    rate = decay_rate(rule, _share(rule, state))
    slow = _STEP / max(_divisor_rate(rule, state), 1e-300)
    rates = rule.rates
    if rates is None:
        return min(slow, _STEP / max(rate, 1e-300)), 1.0
    if rate <= 0:
        slow = min(slow, max(1.0, rates.steps / _SHORT))
    fast = rates.until(at, _STEP / rate) if rate > 0 else math.inf
    stride = min(slow, fast, rates.steps - at)
    return stride, rates.between(at, at + stride) / stride if stride > 0 else 0.0


def _over(rule: Rule, at: float, worth: float) -> float:
    """Steps from `at` on that are worth as much as `worth` steps at the largest rate."""
    return worth if rule.rates is None else rule.rates.until(at, worth)


def _begun(rule: Rule, state: _State, end: float, since: float) -> _State:
    """`state` after the first steps, or where it reaches `end`; momentum begins at 0.

    While a unit lives, the data's gradient and the decay cancel on average.
    """
    mu, adam = rule.momentum, rule.family is Family.ADAM
    weight, velocity = math.exp(state.log_weight), 0.0
    for step in range(max(_SINGLE, min(_SINGLES, round(5 / (1 - mu))))):
        at = since + step
        worth = 1.0 if rule.rates is None else rule.rates.between(at, at + 1)
        state = _remember(rule, state, state.log_weight, 1.0)  # a step sees its own gradient
        share = _share(rule, state)
        velocity = mu * velocity + ((1 - mu) * weight if adam else share * weight)
        moved = share * velocity / (1 - mu**state.steps) if adam else velocity
        weight -= worth * moved
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
