"""How long the parameters of a part take to vanish, layer by layer."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from abscise.implicit._diagnosis import Layer
from abscise.implicit._integrate import History
from abscise.implicit._law import history_of, steps_to
from abscise.implicit._rule import Decay, Family, Rule

_SECONDS = ("exp_avg_sq", "square_avg", "sum")
_STATE = "state of the optimizer"
_HALVINGS = 10  # of the run, to find a step of it


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about every part.

    Args:
        steps: Of the run, or None.
        threshold: Below it a weight counts as dead.
        gradient_rms: Size of the gradients of each parameter by name, where it is known.
        source: Where those come from.
        layers: Names of the parameters with which units die.
    """

    steps: int | None
    threshold: float
    gradient_rms: Mapping[str, float]
    source: str
    layers: frozenset[str]


def pooled(sizes: Iterable[tuple[int, float]]) -> float:
    """Root mean square of all numbers, from the counts and root mean squares of their parts."""
    counts, squares = zip(*((count, count * size**2) for count, size in sizes), strict=True)
    return math.sqrt(sum(squares) / sum(counts))


def rms_of(tensors: Collection[Tensor]) -> float:
    """Root mean square of all elements of `tensors`."""
    numbers = sum(it.numel() for it in tensors)
    with torch.no_grad():
        return math.sqrt(sum(float(it.double().square().sum()) for it in tensors) / numbers)


class _Past(NamedTuple):
    """What was before: size of the gradients, where it comes from, what the optimizer remembers."""

    rms: float | None = None
    source: str | None = None
    history: History | None = None


def times_of(
    rule: Rule,
    tensors: Mapping[str, Tensor],
    states: Mapping[str, Mapping[str, Any]],
    question: Question,
) -> dict[str, Any]:
    """The fields of a part about sizes, gradients and times; `states` are the optimizer's, by name.

    Each of `question.layers` has times of its own, by its own size and gradients: those of all
    numbers together are those of the largest layer or of the loudest.
    """
    start = rms_of(tensors.values())
    together = _before(rule, tensors, states, question)
    alone = {name: _before(rule, {name: it}, states, question) for name, it in tensors.items()}
    found: dict[str, Any] = {
        "start": start,
        "gradient_rms": together.rms,
        "gradient_source": together.source,
        "least_gradient_rms": _least(alone, question),
    }
    if start == 0:
        return found | {"steps": 0.0, "steps_at_least": 0.0}
    layers = _layers(rule, tensors, alone, question)
    past = together
    if layers:
        past, start = alone[layers[0].name], layers[0].start
        found["layers"] = layers
        found["steps"] = layers[0].steps
        found["steps_at_least"] = min(it.steps_at_least for it in layers)
        known = (alone[it.name].source for it in layers)
        found["gradient_source"] = together.source or next(filter(None, known), None)
    else:
        found["steps"], found["steps_at_least"] = _steps(rule, start, past.history, question)
    if rule.rates is not None:
        full = _steps(replace(rule, rates=None), start, past.history, question)
        found["steps_at_full_rate"] = full[1] if full[0] is None else full[0]
    found["silent_by"] = _silent_by(rule, start, past.history, question, found["steps"])
    if found["steps"] is not None:
        tiny = min(torch.finfo(tensor.dtype).tiny for tensor in tensors.values())
        found["subnormal_after"] = steps_to(rule, start, tiny, past.history)
    unknown = [it.start for it in layers if it.steps is None]
    if question.steps is not None and (unknown or found["steps"] is None):
        nearest = min(unknown, default=start)
        found["largest_gradient"] = _largest_gradient(rule, nearest, question, question.steps)
    return found


def _least(alone: Mapping[str, _Past], question: Question) -> float | None:
    """The smallest size of a parameter's gradients; None where that of a layer is not known."""
    if any(it.rms is None and name in question.layers for name, it in alone.items()):
        return None
    return min((it.rms for it in alone.values() if it.rms is not None), default=None)


def _layers(
    rule: Rule, tensors: Mapping[str, Tensor], alone: Mapping[str, _Past], question: Question
) -> tuple[Layer, ...]:
    """The layers above the threshold, the first to get below it first; last, what is not known."""
    found = []
    for name in [it for it in tensors if it in question.layers]:
        start = _size_above(tensors[name], question.threshold)
        if start > 0:
            past = alone[name]
            steps, least = _steps(rule, start, past.history, question)
            found.append(Layer(name, tensors[name].numel(), start, past.rms, steps, least))
    return tuple(sorted(found, key=lambda it: it.order))


def _size_above(tensor: Tensor, threshold: float) -> float:
    """Root mean square of the elements above the threshold; 0 where there are none."""
    with torch.no_grad():
        above = tensor[tensor.abs() > threshold]
    return rms_of([above]) if above.numel() else 0.0


def _steps(
    rule: Rule, start: float, history: History | None, question: Question
) -> tuple[float | None, float]:
    """Steps from `start` to the threshold; and the same if the data never gave a gradient."""
    least = steps_to(rule, start, question.threshold, lived(rule, 0.0, start, _age(rule, question)))
    if not rule.adaptive or rule.decay is not Decay.COUPLED:
        return least, least
    if history is None:
        return None, least
    return steps_to(rule, start, question.threshold, history), least


def _silent_by(
    rule: Rule, start: float, history: History | None, question: Question, steps: float | None
) -> float | None:
    """Last step at which a weight may lose its gradient and be gone at the end; None: none is.

    What is gone after `steps` from the first step on need not be after as many from a later one.
    """
    run = question.steps
    if run is None or steps is None or steps > run:
        return None
    if rule.rates is None:
        return run - steps

    def fits(since: float) -> bool:
        return since + steps_to(rule, start, question.threshold, history, since=since) <= run

    low, high = 0.0, float(run)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def lived(rule: Rule, rms: float, start: float, steps: int) -> History:
    """The history of a weight that has had data gradients of that size, and its own decay."""
    decay = rule.strength * start if rule.decay is Decay.COUPLED else 0.0
    return history_of(rule, math.hypot(rms, decay), max(1, steps))


def _largest_gradient(rule: Rule, start: float, question: Question, steps: int) -> float | None:
    """Largest size of earlier gradients with which a weight dies within `steps`; None: none."""

    def fits(rms: float) -> bool:
        history = lived(rule, rms, start, _age(rule, question))
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
    states: Mapping[str, Mapping[str, Any]],
    question: Question,
) -> _Past:
    """What was before of all of `tensors` together."""
    given = [question.gradient_rms[name] for name in tensors if name in question.gradient_rms]
    if len(given) == len(tensors):
        sizes = [tensor.numel() for tensor in tensors.values()]
        rms = pooled(zip(sizes, given, strict=True))
        history = lived(rule, rms, rms_of(tensors.values()), _age(rule, question))
        return _Past(rms, question.source, history)
    remembered = _remembered(rule, [states[name] for name in tensors])
    if remembered is None:
        return _Past()
    if rule.family is Family.ADAGRAD:
        mean = remembered.second / remembered.steps
    else:
        mean = remembered.second / (1 - rule.memory**remembered.steps)
    return _Past(math.sqrt(mean), _STATE, remembered)


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
