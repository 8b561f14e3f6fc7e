"""One part of the network under one rule: its numbers, its fate, and why."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from abscise._subnormal import count_subnormal
from abscise.implicit._diagnosis import Fate, Part
from abscise.implicit._law import NEVER, History, decay_rate, history_of, steps_to
from abscise.implicit._network import CARRIERS, Kind
from abscise.implicit._rule import Decay, Family, Rule

FULL_STEP = 1e-2
"""A `ceiling` below it slows the effect down; at 1e-4 Adam behaves like SGD."""

_COARSE = 1e-4
_SECONDS = ("exp_avg_sq", "square_avg", "sum")
_STATE = "state of the optimizer"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about every part.

    Args:
        steps: Of the run, or None.
        threshold: Below it a weight counts as dead.
        gradient_rms: Size of the gradients of each parameter by name, where it is known.
        source: Where those come from.
    """

    steps: int | None
    threshold: float
    gradient_rms: Mapping[str, float]
    source: str


def describe_part(
    place: tuple[int, Kind],
    tensors: Mapping[str, Tensor],
    rule: Rule | None,
    states: Sequence[Mapping[str, Any]],
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
        "start": _rms(tensors.values(), numbers),
        "coarse": _coarse(tensors.values()),
        "subnormal": sum(count_subnormal(tensor) for tensor in tensors.values()),
    }
    if rule is None:
        unknown = "no law is known for this optimizer with these options"
        about |= {"decay": None, "lr": None, "strength": None}
        return Part(**about, fate=Fate.UNKNOWN, why=unknown)
    rms, source, history = _before(rule, tensors, states, question)
    about |= {
        "decay": rule.decay,
        "lr": rule.lr,
        "strength": rule.strength,
        "ceiling": rule.ceiling,
        "stability_bound": rule.stability_bound,
        "cycle": rule.cycle,
        "gradient_rms": rms,
        "gradient_source": source,
        "no_op_share": _no_op_share(rule, tensors.values()),
    }
    about |= _times(rule, about["start"], history, tensors, question)
    asked = kind in CARRIERS and "steps" not in about
    if asked and question.steps is not None:
        about["largest_gradient"] = _largest_gradient(
            rule, about["start"], question, question.steps
        )
    about["noise_floor"] = None if rms is None else noise_floor(rule, rms)
    fate, why = _fate(rule, about, question)
    return Part(**about, fate=fate, why=why)


def pooled(sizes: Iterable[tuple[int, float]]) -> float:
    """Root mean square of all numbers, from the counts and root mean squares of their parts."""
    counts, squares = zip(*((count, count * size**2) for count, size in sizes), strict=True)
    return math.sqrt(sum(squares) / sum(counts))


def noise_floor(rule: Rule, gradient_rms: float) -> float | None:
    """Spread of a weight around its best value while its gradients are noise of that size.

    Without ReLU, or something as exact, no weight gets closer to zero. To first order in the
    learning rate; infinite without decay, None for Adagrad and Adadelta, whose steps change size.
    """
    if rule.decay is Decay.NONE:
        return math.inf
    if rule.family in {Family.ADAGRAD, Family.ADADELTA}:
        return None
    divisor = gradient_rms + rule.eps if rule.adaptive else 1.0
    gain = rule.gain
    jump = gain * rule.lr * gradient_rms / divisor
    pull = rule.ceiling
    if rule.decay is Decay.COUPLED:
        pull = gain * rule.lr * rule.strength / divisor
    return jump / math.sqrt(2 * pull) if pull else math.inf


def _times(
    rule: Rule,
    start: float,
    history: History | None,
    tensors: Mapping[str, Tensor],
    question: Question,
) -> dict[str, float | None]:
    """How long, from `start` to the threshold and to the first subnormal number."""
    tiny = min(torch.finfo(tensor.dtype).tiny for tensor in tensors.values())
    if start == 0:
        return {"steps": 0.0, "steps_at_least": 0.0}
    known = not rule.adaptive or rule.decay is not Decay.COUPLED or history is not None
    names: dict[str, float | None] = {"steps_at_least": steps_to(rule, start, question.threshold)}
    if known:
        names["steps"] = steps_to(rule, start, question.threshold, history)
        names["subnormal_after"] = steps_to(rule, start, tiny, history)
    return names


def _largest_gradient(rule: Rule, start: float, question: Question, steps: int) -> float | None:
    """Largest size of earlier gradients with which a weight dies within `steps`; None: none."""

    def fits(rms: float) -> bool:
        history = history_of(rule, rms, steps)
        return steps_to(rule, start, question.threshold, history) <= steps

    low, high = -12.0, 6.0
    if not fits(10**low):
        return None
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(10**middle) else (low, middle)
    return float(10**low)


def _before(
    rule: Rule,
    tensors: Mapping[str, Tensor],
    states: Sequence[Mapping[str, Any]],
    question: Question,
) -> tuple[float | None, str | None, History | None]:
    """Size of the gradients so far, where it comes from, and what the optimizer remembers."""
    given = [question.gradient_rms[name] for name in tensors if name in question.gradient_rms]
    if len(given) == len(tensors):
        sizes = [tensors[name].numel() for name in tensors]
        rms = pooled(zip(sizes, given, strict=True))
        return rms, question.source, history_of(rule, rms, _age(rule, question))
    history = _remembered(rule, states)
    if history is None:
        return None, None, None
    if rule.family is Family.ADAGRAD:
        mean = history.second / history.steps
    else:
        mean = history.second / (1 - rule.memory**history.steps)
    return math.sqrt(mean), _STATE, history


def _age(rule: Rule, question: Question) -> int:
    """Steps that the given gradients are taken to have lasted: half the run, or the memory."""
    if question.steps is not None:
        return max(1, question.steps // 2)
    return round(10 / (1 - rule.memory)) if rule.memory < 1 else 1


def _remembered(rule: Rule, states: Sequence[Mapping[str, Any]]) -> History | None:
    key = next((name for name in _SECONDS if states and all(name in it for it in states)), None)
    if key is None or not rule.adaptive:
        return None
    if rule.amsgrad and all("max_exp_avg_sq" in state for state in states):
        key = "max_exp_avg_sq"
    steps = int(max(float(state.get("step", 0)) for state in states))
    if steps == 0:
        return None
    numbers = sum(state[key].numel() for state in states)
    second = sum(float(state[key].double().sum()) for state in states) / numbers
    updates = (state["acc_delta"] for state in states if "acc_delta" in state)
    update = sum(float(it.double().sum()) for it in updates) / numbers
    return History(second, update, steps)


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
    if rule.cycle > question.threshold:
        return Fate.CYCLES, f"it keeps jumping by about {rule.cycle:.1g}: the learning rate is high"
    if rule.lr == 0:
        return Fate.STAYS, "the learning rate is 0"
    if about["steps_at_least"] == NEVER:
        return Fate.CYCLES, f"one step of the decay takes {rule.ceiling:.2g} of a weight: too much"
    return None


def _timed(  # noqa: PLR0911 - one return per fate
    about: Mapping[str, Any], run: int | None
) -> tuple[Fate, str]:
    steps, least = about.get("steps"), about["steps_at_least"]
    if run is None:
        told = "at least " if steps is None else ""
        count = least if steps is None else steps
        return Fate.DEPENDS, f"{told}{count:,.0f} steps after its data gradient is gone"
    if steps is None:
        if least > run:
            return Fate.DIES_LATER, f"at least {least:,.0f} steps, the run has {run:,}"
        largest = about.get("largest_gradient")
        told = "next to no gradients" if largest is None else f"gradients below {largest:.1g}"
        return Fate.DEPENDS, f"dies within the run where it had {told}"
    if steps <= run:
        return Fate.DIES, f"{steps:,.0f} of the run's {run:,} steps"
    return Fate.DIES_LATER, f"{steps:,.0f} steps, the run has {run:,}"


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


def _rms(tensors: Collection[Tensor], numbers: int) -> float:
    with torch.no_grad():
        return math.sqrt(sum(float(it.double().square().sum()) for it in tensors) / numbers)


def _coarse(tensors: Collection[Tensor]) -> str | None:
    """bfloat16 and float16 weights: a step below half a unit in the last place is no step."""
    types = {it.dtype for it in tensors if torch.finfo(it.dtype).eps > _COARSE}
    return ", ".join(sorted(str(it).removeprefix("torch.") for it in types)) or None
