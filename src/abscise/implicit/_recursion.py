"""The recursion of a weight that loses the same share at each step, with momentum."""

import math

from abscise.implicit._rule import Family, Rule

NEVER = math.inf


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
