"""The verdict of a diagnosis: one outcome, and one sentence with the numbers that decide it."""

from collections.abc import Sequence

from abscise.implicit._diagnosis import Fate, Outcome, Part
from abscise.implicit._law import NEVER
from abscise.implicit._network import Kind, Network
from abscise.implicit._outweighed import HELD, LOST, Outweighed, outweighed
from abscise.implicit._rule import Rule


def verdict_of(  # noqa: PLR0911 - one return per reason
    name: str, network: Network, parts: Sequence[Part], rules: Sequence[Rule | None]
) -> tuple[Outcome, str]:
    """The outcome, and one sentence with the numbers that decide it.

    A unit dies with its weights or with its gamma: the first of them counts.
    """
    carriers = carriers_of(parts)
    if any(rule is None for rule in rules) and not any(gets_there(it) for it in carriers):
        return Outcome.UNKNOWN, f"Unknown: no law is known for {name} with these options."
    if not carriers:
        return Outcome.WILL_NOT, "No unit will die: the optimizer holds no weights of this model."
    if all(part.strength == 0 for part in carriers):
        return Outcome.WILL_NOT, f"No unit will die: {name} has no weight decay."
    if all(part.start == 0 for part in carriers):
        return Outcome.WILL_DIE, "Nothing is left to die: all weights and scales are 0 already."
    if not network.dying and network.living:
        found = outweighed(network.leaks, parts, rules)
        if found is None:
            return Outcome.WILL_NOT, _without_relu(network, carriers)
        return _leaking(name, found)
    return _timed(name, network, [part for part in carriers if part.start > 0])


def carriers_of(parts: Sequence[Part]) -> list[Part]:
    """The parts with which a unit dies: weights and gamma."""
    return [part for part in parts if part.kind in {Kind.WEIGHT, Kind.GAMMA}]


def _timed(name: str, network: Network, carriers: Sequence[Part]) -> tuple[Outcome, str]:
    best = min(carriers, key=_order)
    what = _what(name, best)
    unseen = "" if network.dying else ", if there is a ReLU: none was found"
    match best.fate:
        case Fate.DIES:
            text = f"Units can die: {what}: {best.kind} of a silent unit vanish in {best.why}"
            return Outcome.WILL_DIE, f"{text}{unseen}."
        case Fate.DEPENDS:
            text = f"Units may die: {what}: {best.kind}: {best.why}"
            return Outcome.DEPENDS, f"{text}{unseen}."
        case Fate.DIES_LATER:
            text = f"No unit will die in time: {what}: {best.kind} need {best.why}."
            return Outcome.TOO_SLOW, text
        case _:
            return Outcome.WILL_NOT, f"No unit will die: {what}: {best.why}."


def gets_there(part: Part) -> bool:
    """Does it die within the run, as far as is known?"""
    return part.fate in {Fate.DIES, Fate.DEPENDS}


def _order(part: Part) -> tuple[int, float]:
    rank = [Fate.DIES, Fate.DEPENDS, Fate.DIES_LATER, Fate.CYCLES, Fate.STAYS, Fate.UNKNOWN]
    steps = part.steps if part.steps is not None else part.steps_at_least
    return rank.index(part.fate), NEVER if steps is None else steps


def _without_relu(network: Network, carriers: Sequence[Part]) -> str:
    floors = [part.noise_floor for part in carriers if part.noise_floor is not None]
    floor = f"; noise keeps weights at about {min(floors):.1g}" if floors else ""
    names = ", ".join(network.living)
    return f"No unit will die: {names} always lets a gradient through{floor}."


def _leaking(name: str, found: Outweighed) -> tuple[Outcome, str]:
    """Nothing rectifies, but below a bend only a part of the gradient gets through."""
    part, what = found.part, _what(name, found.part)
    leaks = f"{found.leak.name} lets {found.leak.slope:g} of a gradient through"
    if found.ratio is None:
        few = f"where gradients are below about {found.largest_gradient:.1g}"
        return Outcome.DEPENDS, f"Units may die: {what}: {leaks}, and L2 outweighs that {few}."
    if found.ratio >= HELD:
        floor = f"noise keeps {part.kind} at about {found.floor:.1g}"
        return Outcome.WILL_NOT, f"No unit will die: {leaks}; {floor}."
    if found.ratio > LOST:
        times = f"{found.ratio:.1f} times what L2 adds, so that chance decides"
        return Outcome.DEPENDS, f"Units may die: {what}: {leaks}, {times}."
    return _lost(part, what, f"{leaks}, and L2 outweighs that")


def _lost(part: Part, what: str, lost: str) -> tuple[Outcome, str]:
    """Below the bend all goes on nearly as without any gradient."""
    match part.fate:
        case Fate.DIES:
            text = f"Units can die: {what}: {lost}: {part.kind} of a unit below the bend vanish"
            return Outcome.WILL_DIE, f"{text} in about {part.why}."
        case Fate.DEPENDS:
            return Outcome.DEPENDS, f"Units may die: {what}: {lost}: {part.kind}: {part.why}."
        case Fate.DIES_LATER:
            text = f"No unit will die in time: {what}: {lost}, but {part.kind} need {part.why}."
            return Outcome.TOO_SLOW, text
        case _:
            return Outcome.WILL_NOT, f"No unit will die: {what}: {part.why}."


def _what(name: str, part: Part) -> str:
    decay = part.decay.value if part.decay else "decay unknown"
    return f"{name}, {decay} {part.strength or 0:g}"
