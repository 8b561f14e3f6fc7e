"""One part of the network under one rule: its numbers, its fate, and why."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from abscise._subnormal import count_subnormal
from abscise.implicit._diagnosis import Fate, Layer, Part
from abscise.implicit._network import Kind
from abscise.implicit._recursion import NEVER, decay_rate
from abscise.implicit._rule import Decay, Family, Rule
from abscise.implicit._times import Question, rms_of, times_of

FULL_STEP = 1e-2
"""A `ceiling` below it slows the effect down; at 1e-4 Adam behaves like SGD."""

_COARSE = 1e-4
_APART = 1.05


def describe_part(
    place: tuple[int, Kind],
    tensors: Mapping[str, Tensor],
    rule: Rule | None,
    states: Mapping[str, Mapping[str, Any]],
    question: Question,
) -> Part:
    """Numbers and fate of `tensors`, which share a parameter group and a kind."""
    group, kind = place
    numbers = sum(tensor.numel() for tensor in tensors.values())
    about: dict[str, Any] = {
        "group": group,
        "kind": kind,
        "tensors": len(tensors),
        "numbers": numbers,
        "carries": any(name in question.layers for name in tensors),
        "coarse": _coarse(tensors.values()),
        "subnormal": sum(count_subnormal(tensor) for tensor in tensors.values()),
    }
    if rule is None:
        unknown = "no law is known for this optimizer with these options"
        start = rms_of(tensors.values())
        about |= {"decay": None, "lr": None, "strength": None, "start": start}
        return Part(**about, fate=Fate.UNKNOWN, why=unknown)
    about |= {
        "decay": rule.decay,
        "lr": rule.lr,
        "strength": rule.strength,
        "ceiling": rule.ceiling,
        "stability_bound": rule.stability_bound,
        "cycle": rule.cycle,
        "no_op_share": _no_op_share(rule, tensors.values()),
    }
    about |= times_of(rule, tensors, states, question)
    rms = about["gradient_rms"]
    about["noise_floor"] = None if rms is None else noise_floor(rule, rms)
    fate, why = _fate(rule, about, question)
    return Part(**about, fate=fate, why=why)


def noise_floor(rule: Rule, gradient_rms: float) -> float | None:
    """Spread of a weight around its best value while its gradients are noise of that size.

    Without ReLU, or something as exact, no weight gets closer to zero. To first order in the
    learning rate; infinite without decay, None for Adagrad and Adadelta, whose steps change size,
    and for no gradient over no eps.
    """
    if rule.decay is Decay.NONE:
        return math.inf
    if rule.family in {Family.ADAGRAD, Family.ADADELTA}:
        return None
    divisor = gradient_rms + rule.eps if rule.adaptive else 1.0
    gain = rule.gain
    if divisor == 0:
        return None
    jump = gain * rule.lr * gradient_rms / divisor
    pull = rule.ceiling
    if rule.decay is Decay.COUPLED:
        pull = gain * rule.lr * rule.strength / divisor
    return jump / math.sqrt(2 * pull) if pull else math.inf


def _fate(rule: Rule, about: Mapping[str, Any], question: Question) -> tuple[Fate, str]:
    unmoved = _unmoved(rule, about, question)
    return _timed(about, question.steps) if unmoved is None else unmoved


def _unmoved(  # noqa: PLR0911 - one return per reason
    rule: Rule, about: Mapping[str, Any], question: Question
) -> tuple[Fate, str] | None:
    """The fate of what no number of steps brings to the threshold; None: steps decide."""
    if about["start"] == 0:
        return Fate.DIES, "all of it is zero already"
    if rule.decay is Decay.NONE:
        return Fate.STAYS, "no decay: nothing pulls it to zero"
    if rule.decay is not Decay.COUPLED and about["no_op_share"] == 1:
        return (
            Fate.STAYS,
            "the decay is smaller than half a unit in the last place: it does nothing",
        )
    if rule.rates is None and rule.cycle > question.threshold:
        return _cycles(rule)
    if rule.lr == 0:
        return Fate.STAYS, "the learning rate is 0"
    if about["carries"] and not about.get("layers"):
        return Fate.DIES, f"all of it is below {question.threshold:g} already"
    if rule.rates is not None:
        return _never_in_the_run(rule, about, question.threshold)
    return _never(rule, about)


def _cycles(rule: Rule) -> tuple[Fate, str]:
    told = f"it keeps jumping by about {rule.at_end.cycle:.1g}: the learning rate is high"
    return Fate.CYCLES, told


def _never(rule: Rule, about: Mapping[str, Any]) -> tuple[Fate, str] | None:
    """Why no number of steps is enough, where that is so."""
    if about["steps_at_least"] == NEVER:
        if rule.adaptive and rule.decay is Decay.COUPLED:
            return Fate.STAYS, "the steps of the decay get too small to bring it there"
        return _takes_too_much(rule)
    if about["steps"] == NEVER:
        return Fate.STAYS, "its gradients were so large that the decay does next to nothing"
    return None


def _never_in_the_run(
    rule: Rule, about: Mapping[str, Any], threshold: float
) -> tuple[Fate, str] | None:
    """The same with a schedule; None also where a longer run might be enough."""
    if NEVER not in {about["steps"], about["steps_at_least"]}:
        return None
    if rule.at_end.cycle > threshold:
        return _cycles(rule)
    divided = rule.adaptive and rule.decay is Decay.COUPLED
    if not divided and rule.ceiling >= rule.stability_bound:
        return _takes_too_much(rule)
    return None


def _takes_too_much(rule: Rule) -> tuple[Fate, str]:
    return Fate.CYCLES, f"one step of the decay takes {rule.ceiling:.2g} of a weight: too much"


def _timed(about: Mapping[str, Any], run: int | None) -> tuple[Fate, str]:
    steps, least = about["steps"], about["steps_at_least"]
    layers: tuple[Layer, ...] = about.get("layers", ())
    first = f" ({layers[0].name})" if _differ(layers) else ""
    if run is None:
        told = "at least " if steps is None else ""
        count = f"{told}{count_of(least if steps is None else steps)} steps{first}"
        return Fate.DEPENDS, f"{count} after its data gradient is gone{_unknown(layers)}"
    if steps is not None and steps <= run:
        fate = Fate.DIES if (about["silent_by"] or 0) >= run / 2 else Fate.DIES_LATE
        return fate, f"{count_of(steps)}{first}{_rest(layers, run)}"
    if any(it.steps is None and it.soonest <= run for it in layers) or (
        steps is None and least <= run
    ):
        largest = about.get("largest_gradient")
        told = "next to no gradients" if largest is None else f"gradients below {largest:.1g}"
        return Fate.DEPENDS, f"dies within the run where it had {told}{_unknown(layers)}"
    return Fate.DIES_LATER, f"{_too_many(about, first, run)}{_unknown(layers)}"


def _too_many(about: Mapping[str, Any], first: str, run: int) -> str:
    """How many steps it takes, where the run has fewer; with a scheduler, at its largest rate."""
    full: float | None = about.get("steps_at_full_rate")
    if full == NEVER:
        return f"more than the run's {run:,} steps, at the learning rates that they have"
    steps, at_least = about["steps"], "" if about["steps"] is not None else "at least "
    if full is None or NEVER not in {steps, about["steps_at_least"]}:
        count = f"{at_least}{count_of(steps or about['steps_at_least'])} steps{first}"
        return f"{count}, the run has {run:,}"
    count = f"{at_least}{count_of(full)} steps{first} at the largest learning rate"
    if full > run:
        return f"{count}, the run has {run:,}"
    return f"{count}, which the run's {run:,} do not have for long enough"


def count_of(steps: float) -> str:
    """In words; more than a hundred million are not counted."""
    return f"{steps:,.0f}" if steps < 1e8 else f"{steps:.2g}".replace("e+0", "e+")


def _differ(layers: Sequence[Layer]) -> bool:
    """Are the times of the layers so far apart that the first one is worth its name?"""
    known = _known(layers)
    return len(layers) > 1 and known[-1].soonest > _APART * known[0].soonest


def _known(layers: Sequence[Layer]) -> Sequence[Layer]:
    """The layers whose times are known, if there are any."""
    return [it for it in layers if it.steps is not None] or layers


def _rest(layers: Sequence[Layer], run: int) -> str:
    """What becomes of the layers after the first, and how long the run is."""
    known = _known(layers)
    late = sum(it.soonest > run for it in known)
    last = f" to {count_of(known[-1].soonest)} ({known[-1].name})" if _differ(layers) else ""
    told = f"{'' if late else last} of the run's {run:,} steps"
    if late:
        told += f"; {late} of {len(layers)} layers {'needs' if late == 1 else 'need'} more"
    return told + _unknown(layers)


def _unknown(layers: Sequence[Layer]) -> str:
    """Of how many layers, but not of all, the gradients are not known."""
    unknown = sum(it.steps is None for it in layers)
    if unknown in {0, len(layers)}:
        return ""
    return f"; the gradients of {unknown} of {len(layers)} layers are not known"


def _no_op_share(rule: Rule, tensors: Collection[Tensor]) -> float | None:
    """What one step of the decay alone leaves as it is; None with L2 in an adaptive optimizer."""
    if rule.decay is Decay.NONE:
        return 1.0
    if rule.decay is Decay.COUPLED and rule.adaptive:
        return None
    share = rule.ceiling
    if rule.decay is Decay.COUPLED:
        share = max(0.0, -math.expm1(-decay_rate(rule, share)))
    with torch.no_grad():
        same = sum(int(((it * (1 - share) == it) & (it != 0)).sum()) for it in tensors)
        nonzero = sum(int(it.count_nonzero()) for it in tensors)
    return same / nonzero if nonzero else None


def _coarse(tensors: Collection[Tensor]) -> str | None:
    """bfloat16 and float16 weights: a step below half a unit in the last place is no step."""
    types = {it.dtype for it in tensors if torch.finfo(it.dtype).eps > _COARSE}
    return ", ".join(sorted(str(it).removeprefix("torch.") for it in types)) or None
