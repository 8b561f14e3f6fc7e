"""A weight without data gradient under an optimizer that divides by what it remembers, in strides.

Where a schedule lowers the learning rate, the weight may have jumped around zero before: see
`Rule.cycle`. It counts as gone from the last time on at which it falls below the threshold.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from abscise.implicit._recursion import NEVER, decay_rate
from abscise.implicit._rule import Family, Rule

_STEP = 0.04  # largest change of ln(weight) or ln(divisor) in one stride
_STRIDES = 200_000
_SINGLE, _SINGLES = 50, 1000
_SHORT = 500  # strides in a run, at least, while a weight is in its cycle


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


class _State(NamedTuple):
    """Where the weight is: ln|weight|, and the moments that the divisor is made of.

    `steps` are those that the moments have seen, `at` is the step of the run.
    """

    log_weight: float
    second: float
    peak: float
    update: float
    steps: float
    at: float


def stays_below(
    rule: Rule, start: float, threshold: float, history: History, since: float
) -> float:
    """Steps from `since` on, until the weight stays below `threshold`; `NEVER`: not in the run."""
    past = (history.second, history.second, history.update, history.steps)
    end = math.log(threshold)
    state = _begun(rule, _State(math.log(start), *past, since), end)
    while True:
        below = _fallen(rule, state, end)
        if below is None:
            return NEVER
        above = _risen(rule, below, threshold)
        if above is None:
            return below.at - since
        state = above


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
        moved = share * velocity / (1 - mu**state.steps) if adam else velocity
        moved *= _worth(rule, state.at, 1.0)
        weight -= moved
        state = state._replace(at=state.at + 1)
        size = max(abs(weight), abs(moved) if mu else 0.0)  # it may swing through zero
        if size <= math.exp(end):
            return state._replace(log_weight=end)
        state = state._replace(log_weight=math.log(size))
    return _remember(rule, state, state.log_weight, 1.0)


def _fallen(rule: Rule, state: _State, end: float) -> _State | None:
    """`state` where the weight next reaches `end`; None: it does not, or not within the run."""
    for _ in range(_STRIDES):
        if state.log_weight <= end:
            return state
        stride = _stride(rule, state)
        if stride <= 0:
            return None
        worth = _worth(rule, state.at, stride)
        rate = max(0.0, decay_rate(rule, worth * _share(rule, state)))
        middle = state.log_weight - rate * stride / 2
        rate = decay_rate(rule, worth * _share(rule, _remember(rule, state, middle, stride / 2)))
        if rate <= 0 and rule.rates is None:
            return None
        left = state.log_weight - end
        if rate * stride >= left:
            stride, after = _over(rule, state.at, left * worth / rate), end
        else:
            after = _after(rule, state.log_weight, rate * stride, worth)
        state = _remember(rule, state, middle, stride)
        state = state._replace(log_weight=after, at=state.at + stride)
    return None


def _after(rule: Rule, log_weight: float, falls: float, worth: float) -> float:
    """ln|weight| after a stride; a weight that explodes ends in its cycle."""
    if falls >= 0:
        return log_weight - falls
    cycle = rule.jump(worth)
    return max(log_weight, min(log_weight - falls, math.log(cycle))) if cycle > 0 else log_weight


def _risen(rule: Rule, state: _State, threshold: float) -> _State | None:
    """Where a weight below `threshold` begins to jump above it again; None: it does not.

    It does once the old gradients, which the divisor forgets, and its own are too small for the
    learning rate.
    """
    rates = rule.rates
    if rates is None or rule.cycle <= threshold:
        return None
    places = np.arange(math.ceil(state.at), rates.steps)
    ahead = places - state.at
    second = state.second * rule.memory**ahead
    known = second
    if rule.family is Family.ADAM and rule.memory:
        known = second / -np.expm1((state.steps + ahead) * math.log(rule.memory))
    bound = rates.shares[places] * (rule.lr * rule.strength / rule.stability_bound)
    missing = np.maximum(bound - rule.eps, 0.0) ** 2 - known
    found = np.flatnonzero(missing > (rule.strength * threshold) ** 2)
    if not len(found):
        return None
    first = int(found[0])
    return state._replace(
        log_weight=math.log(math.sqrt(float(missing[first])) / rule.strength),
        second=float(second[first]),
        steps=state.steps + float(ahead[first]),
        at=float(places[first]),
    )


def _stride(rule: Rule, state: _State) -> float:
    """Steps in which weight and divisor change little; 0: the run is over.

    At the largest rate the weight may be in its cycle, which ends when the rate falls: then strides
    are short.
    """
    share, rates = _share(rule, state), rule.rates
    rate = decay_rate(rule, share)
    slow = _STEP / max(_divisor_rate(rule, state), 1e-300)
    if rates is None:
        return min(slow, _STEP / max(rate, 1e-300))
    if rate > 0:
        fast = rates.until(state.at, _STEP / rate)
    else:
        now = decay_rate(rule, share * rates.between(state.at, state.at + 1))
        fast = min(max(1.0, rates.steps / _SHORT), _STEP / max(now, 1e-300))
    return min(slow, fast, rates.steps - state.at)


def _worth(rule: Rule, at: float, steps: float) -> float:
    """Mean share of the largest learning rate in so many steps."""
    return 1.0 if rule.rates is None else rule.rates.between(at, at + steps) / steps


def _over(rule: Rule, at: float, worth: float) -> float:
    """Steps from `at` on that are worth as much as `worth` steps at the largest rate."""
    return worth if rule.rates is None else rule.rates.until(at, worth)


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
    return _State(state.log_weight, second, peak, update, state.steps + steps, state.at)


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
