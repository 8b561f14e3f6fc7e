"""The verdict of a diagnosis: one outcome, and one sentence with the numbers that decide it."""

from collections.abc import Sequence

from abscise.implicit._diagnosis import Fate, Outcome, Part
from abscise.implicit._law import NEVER
from abscise.implicit._network import FADES, Kind, Network
from abscise.implicit._outweighed import Against, against
from abscise.implicit._rule import Decay, Rule
from abscise.implicit._slopes import Leak


def verdict_of(  # noqa: PLR0911 - one return per reason
    name: str,
    network: Network,
    parts: Sequence[Part],
    rules: Sequence[Rule | None],
    threshold: float,
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
    moving = [part for part in carriers if part.start > 0]
    if not network.dying and network.living:
        coupled = any(part.decay is Decay.COUPLED for part in moving)
        fading = sorted(FADES & set(network.living))
        if not coupled or not (network.leaks or fading):
            return Outcome.WILL_NOT, _without_relu(network, carriers)
        if fading:
            through = f"{', '.join(fading)} lets next to no gradient through far below 0"
            return _nearly_silent(name, moving, through)
        return _leaking(name, network.leaks[0], (moving, parts, rules), threshold)
    return _timed(name, network, moving)


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


def _leaking(
    name: str,
    leak: Leak,
    found: tuple[Sequence[Part], Sequence[Part], Sequence[Rule | None]],
    threshold: float,
) -> tuple[Outcome, str]:
    """Nothing rectifies, but below a bend only a part of the gradient gets through."""
    moving, parts, rules = found
    through = f"{leak.name} lets {leak.slope:.3g} of a gradient through"
    told = against(leak, parts, rules)
    outcome, text = _nearly_silent(name, moving, through, told or ())
    held = told and not leak.learned and all(it.holds(threshold) for it in told)
    if outcome is Outcome.DEPENDS and told and held:
        floor = min(it.floor for it in told)
        return Outcome.WILL_NOT, f"No unit will die: {through}; noise keeps weights at {floor:.1g}."
    return outcome, text


def _nearly_silent(
    name: str, moving: Sequence[Part], through: str, told: Sequence[Against] = ()
) -> tuple[Outcome, str]:
    """Some units get little gradient: none of them goes faster than one that gets none at all."""
    best = min((it for it in moving if it.decay is Decay.COUPLED), key=_order)
    if not gets_there(best):
        late = best.fate is Fate.DIES_LATER
        reason = f"even without a gradient {best.kind} need {best.why}" if late else best.why
        text = f"No unit will die{' in time' if late else ''}: {_what(name, best)}: {reason}."
        return (Outcome.TOO_SLOW if late else Outcome.WILL_NOT), text
    times = f", {min(it.ratio for it in told):.2g} times what L2 adds" if told else ""
    dies = best.fate is Fate.DIES
    end = f"with none at all {best.kind} vanish in {best.why}" if dies else best.why
    return Outcome.DEPENDS, f"Units may die: {_what(name, best)}: {through}{times}; {end}."


def _what(name: str, part: Part) -> str:
    decay = part.decay.value if part.decay else "decay unknown"
    return f"{name}, {decay} {part.strength or 0:g}"
