"""What a diagnosis says beside its verdict: what else matters, and what to change."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from abscise.implicit._diagnosis import Fate, Part
from abscise.implicit._law import steps_to
from abscise.implicit._network import Network
from abscise.implicit._part import FULL_STEP
from abscise.implicit._recursion import NEVER
from abscise.implicit._rule import Decay, Family, Rule
from abscise.implicit._times import lived
from abscise.implicit._verdict import carriers_of, gets_there

_LONGER = "a learning rate that stays high for longer"
_TOO_MUCH = 0.5  # of a weight, for one step
_MANY = 0.01  # share of weights from which a decay that does nothing is worth a line


def findings_of(
    network: Network,
    parts: Sequence[Part],
    rules: Sequence[Rule | None],
    facts: Mapping[str, Sequence[Any]],
    steps: int | None,
) -> tuple[str, ...]:
    """What else matters, one line each."""
    return (
        *_about_network(network),
        *_about_schedule(rules, facts),
        *_about_rules(rules),
        *_about_parts(parts, steps),
        *_about_gradients(parts),
        *_about_parameters(facts),
    )


def _about_network(network: Network) -> list[str]:
    found = []
    if network.dying:
        found.append(f"{', '.join(network.dying)}: a unit that never fires gets gradient exactly 0")
    if network.living:
        found.append(f"{', '.join(network.living)}: units behind it never fall silent exactly")
    found += [
        f"{it.name}: a unit below its bend gets {it.slope:.3g} of the gradient"
        for it in network.leaks
    ]
    if not network.dying and not network.living:
        seen = "functions and modules" if network.looked else "modules (give example inputs)"
        found.append(f"no activation known to us among the {seen}")
    if not network.batch_norms:
        found.append("no batch norm: a unit dies by its incoming weights, never by a scale")
    return found


def _about_schedule(rules: Sequence[Rule | None], facts: Mapping[str, Sequence[Any]]) -> list[str]:
    known = [rule for rule in rules if rule is not None]
    found = [
        f"the learning rate is at most {rule.lr:.3g}, at the end {rule.at_end.lr:.3g}"
        for rule in known
        if rule.rates is not None
    ]
    if facts["driven"] and known:
        found.append(
            "a scheduler changes the learning rate: give scheduler=, or the times are those of "
            f"{max(rule.lr for rule in known):g}, as it is now"
        )
    return list(dict.fromkeys(found))


def _about_rules(rules: Sequence[Rule | None]) -> list[str]:
    found: list[str] = []
    for rule in filter(None, rules):
        if rule.decay is Decay.COUPLED and rule.adaptive and rule.ceiling < FULL_STEP:
            found.append(
                f"a*lam/eps {rule.ceiling:.1g} is below {FULL_STEP:g}: eps keeps L2 from full steps"
            )
        if rule.cycle > 0:
            found.append(
                f"a*lam/eps {rule.ceiling:.2g} is above {rule.stability_bound:.3g}: dead weights "
                f"jump by about {rule.cycle:.1g} until the learning rate falls"
            )
        if rule.amsgrad:
            found.append("AMSGrad never forgets large gradients: L2 stays a small part of a step")
        if rule.family is Family.ADAGRAD:
            found.append("Adagrad never forgets a gradient: L2 stays a small part of a step")
        if rule.decay is Decay.COUPLED and not rule.adaptive:
            found.append("SGD does not divide by the gradient: L2 stays as weak as it is")
    return list(dict.fromkeys(found))


def _about_parts(parts: Sequence[Part], steps: int | None) -> list[str]:
    found: list[str] = []
    for part in parts:
        where = f"group {part.group}, {part.kind}"
        if part.strength and part.no_op_share is not None and part.no_op_share > _MANY:
            share = f"{100 * part.no_op_share:.0f} %"
            found.append(f"{where}: the decay is rounded away on {share} of the numbers")
        if part.coarse:
            found.append(
                f"{where}: {part.coarse} rounds small steps away; the times here are too short"
            )
        if part.subnormal:
            found.append(f"{where}: {part.subnormal:,} subnormal numbers slow CPUs down now")
        elif steps is not None and (part.subnormal_after or NEVER) < steps:
            after = f"{part.subnormal_after:,.0f} steps after death"
            if part.steps_at_full_rate is not None:
                after = f"from step {part.subnormal_after:,.0f} on"
            found.append(f"{where}: subnormal, slow on CPUs, {after}: snap_")
    return found


def _about_gradients(parts: Sequence[Part]) -> list[str]:
    found = [
        f"group {part.group}, {part.kind}: {part.why}"
        for part in carriers_of(parts)
        if part.fate is Fate.DEPENDS and part.largest_gradient is not None
    ]
    sources = {part.gradient_source for part in parts}
    if sources == {None} and any(part.decay is Decay.COUPLED for part in parts):
        found.append("the size of the gradients is unknown: a fresh optimizer remembers none")
    return found


def _about_parameters(facts: Mapping[str, Sequence[Any]]) -> list[str]:
    found = []
    if facts["gone"]:
        found.append(f"dead as a whole layer already: {_some(facts['gone'])}")
    if facts["missing"]:
        names = _some(facts["missing"])
        found.append(f"the optimizer does not hold {names}: they stay as they are")
    if facts["foreign"]:
        found.append(f"{len(facts['foreign'])} parameters of the optimizer are not the model's")
    if facts["fixed"]:
        found.append(f"no gradient is asked for {_some(facts['fixed'])}: they stay as they are")
    return found


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def more_of(
    network: Network,
    parts: Sequence[Part],
    rules: Sequence[Rule | None],
    steps: int | None,
    batch_size: int | None,
    threshold: float,
) -> tuple[str, ...]:
    """How to get more dead units, the strongest means first."""
    known = [rule for rule in rules if rule is not None]
    found: list[str] = []
    if not network.dying and network.living:
        found.append(f"ReLU in place of {', '.join(network.living)}")
    found += _more_by_rules(known)
    if network.dying or not network.living:
        found += _more_by_schedule(parts, steps)
        found += _more_by_memory(parts, rules, steps, threshold)
        found += _more_by_decay(parts, rules, steps, threshold)
    if any(rule.decay is Decay.COUPLED and rule.adaptive for rule in known):
        end = "" if _LONGER in found else ", or smaller learning rates at the end"
        found.append(f"more weight_decay{end}")
        size = "" if batch_size is None else f" than {batch_size}"
        smaller = "" if batch_size == 1 else f", or smaller batches{size} for as many epochs"
        found.append(f"more steps: longer{smaller}")
    return tuple(dict.fromkeys(found))


def _more_by_rules(rules: Iterable[Rule]) -> list[str]:
    found = []
    for rule in rules:
        if rule.decay is Decay.NONE:
            found.append("weight_decay > 0 with Adam, e.g. 1e-3")
        elif rule.decay is not Decay.COUPLED:
            found.append("Adam instead of AdamW: the same weight_decay inside the gradient")
        elif rule.family in {Family.SGD, Family.ADAGRAD}:
            found.append("Adam with this weight_decay")
        if rule.amsgrad:
            found.append("amsgrad=False")
        coupled = rule.decay is Decay.COUPLED and rule.family in {Family.ADAM, Family.RMSPROP}
        if coupled and rule.ceiling < FULL_STEP:
            found.append(f"eps of at most {rule.lr * rule.strength / FULL_STEP:.0e}")
    return found


def _more_by_schedule(parts: Sequence[Part], steps: int | None) -> list[str]:
    """A learning rate that falls later, where it alone brings death into the first half."""
    part = _late(parts)
    full = None if part is None else part.steps_at_full_rate
    return [_LONGER] if steps is not None and full is not None and full <= steps / 2 else []


def _more_by_memory(
    parts: Sequence[Part], rules: Sequence[Rule | None], steps: int | None, threshold: float
) -> list[str]:
    """A shorter memory, where it alone brings death into the first half of the run."""
    part = _late(parts)
    if steps is None or part is None or len({*rules}) != 1:
        return []
    rule, first = rules[part.group], part.layers[0]
    if rule is None or not _forgets(rule) or first.gradient_rms is None:
        return []
    for memory in (0.995, 0.99, 0.98, 0.95):
        shorter = replace(rule, memory=memory)
        history = lived(shorter, first.gradient_rms, first.start, steps // 2)
        count = steps_to(shorter, first.start, threshold, history, since=steps / 2)
        if memory < rule.memory and count <= steps / 2:
            name = "beta2" if rule.family is Family.ADAM else "alpha"
            return [f"{name} {memory:g}: death in {count:,.0f} steps"]
    return []


def _forgets(rule: Rule) -> bool:
    """Does a shorter memory bring L2 to full steps sooner?"""
    remembers = rule.family in {Family.ADAM, Family.RMSPROP} and not rule.amsgrad
    return remembers and rule.decay is Decay.COUPLED


def _more_by_decay(
    parts: Sequence[Part], rules: Sequence[Rule | None], steps: int | None, threshold: float
) -> list[str]:
    """What a decoupled decay would need to be to kill in the second half of the run."""
    part = _late(parts)
    rule = None if part is None else rules[part.group]
    if steps is None or part is None or rule is None or rule.decay is not Decay.DECOUPLED:
        return []
    half = steps / 2
    worth = half if rule.rates is None else rule.rates.between(half, steps)
    if worth == 0:
        return []
    enough = math.log(part.layers[0].start / threshold) / (rule.lr * worth)
    if rule.lr * enough >= _TOO_MUCH:
        return []
    return [f"or weight_decay={enough:.2g}, which living units feel too"]


def _late(parts: Sequence[Part]) -> Part | None:
    """What gets there first, if it is late or too late; None where it is not, or not known."""
    layered = [it for it in carriers_of(parts) if it.layers and it.steps is not None]
    first = min(layered, key=lambda it: it.steps or 0.0, default=None)
    late = first is not None and first.fate in {Fate.DIES_LATE, Fate.DIES_LATER}
    return first if late else None


def less_of(parts: Sequence[Part], rules: Sequence[Rule | None]) -> tuple[str, ...]:
    """How to keep units alive, where some would die."""
    if not any(gets_there(part) for part in carriers_of(parts)):
        return ()
    found = []
    adam = [rule for rule in rules if rule is not None and rule.family is Family.ADAM]
    if any(rule.decay is Decay.COUPLED for rule in adam):
        found.append("AdamW with the same weight_decay")
        found += ["amsgrad=True, or eps=1e-3"] if not all(rule.amsgrad for rule in adam) else []
    found.append("less weight_decay, or none on gamma")
    return tuple(found)
