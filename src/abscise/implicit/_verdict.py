"""The verdict of a diagnosis: one outcome, and one sentence with the numbers that decide it."""

from collections.abc import Sequence

from abscise.implicit._diagnosis import Fate, Outcome, Part
from abscise.implicit._functions import FADES
from abscise.implicit._network import Network
from abscise.implicit._outweighed import Against, against
from abscise.implicit._recursion import NEVER
from abscise.implicit._rule import Decay, Rule

_RANKS = (
    Fate.DIES,
    Fate.DEPENDS,
    Fate.DIES_LATE,
    Fate.DIES_LATER,
    Fate.CYCLES,
    Fate.STAYS,
    Fate.UNKNOWN,
)
"""Which of two parts a unit dies with."""


def verdict_of(  # noqa: PLR0911 - one return per reason
    name: str,
    network: Network,
    parts: Sequence[Part],
    rules: Sequence[Rule | None],
    threshold: float,
    *,
    driven: bool,
) -> tuple[Outcome, str]:
    """The outcome, and one sentence with the numbers that decide it.

    A unit dies with its weights or with its gamma: the first of them counts. `driven`: by a
    scheduler that is not known.
    """
    carriers = carriers_of(parts)
    if any(rule is None for rule in rules) and not any(gets_there(it) for it in carriers):
        return Outcome.UNKNOWN, f"Unknown: no law is known for {name} with these options."
    if not carriers:
        held = "no weights of this model" if not parts else "none of the weights that write units"
        return Outcome.WILL_NOT, f"No unit will die: the optimizer holds {held}."
    if all(part.strength == 0 for part in carriers):
        return (
            Outcome.WILL_NOT,
            f"No unit will die: {name} has no weight decay on what writes units.",
        )
    stopped = any(part.strength and part.lr == 0 for part in carriers)
    if driven and stopped and not any(gets_there(it) for it in carriers):
        way_out = "a scheduler changes it: give scheduler= and steps="
        return Outcome.UNKNOWN, f"Unknown: the learning rate is 0 now, and {way_out}."
    moving = [part for part in carriers if part.layers or part.fate is Fate.UNKNOWN]
    if not moving:
        told = f"all weights and scales of units are below {threshold:g} already"
        return Outcome.WILL_DIE, f"Nothing is left to die: {told}."
    best = min(moving, key=_order)
    if not network.dying and network.living and gets_there(best):
        found = against(network.leaks[0], parts, rules) if network.leaks else ()
        return _without_relu(name, best, network, found, threshold)
    return _timed(name, network, best)


def carriers_of(parts: Sequence[Part]) -> list[Part]:
    """The parts with which a unit dies: weights and gamma of what writes units."""
    return [part for part in parts if part.carries]


def _timed(name: str, network: Network, best: Part) -> tuple[Outcome, str]:
    what, kind, why = _what(name, best), best.kind, best.why
    told = {
        Fate.DIES: (Outcome.WILL_DIE, f"Units can die: {what}: {kind} of a silent unit vanish in"),
        Fate.DIES_LATE: (Outcome.FEW, f"Few units can die: {what}: {_early(best)} vanish in"),
        Fate.DEPENDS: (Outcome.DEPENDS, f"Units may die: {what}: {kind}:"),
        Fate.DIES_LATER: (Outcome.TOO_SLOW, f"No unit will die in time: {what}: {kind} need"),
    }
    outcome, begin = told.get(best.fate, (Outcome.WILL_NOT, f"No unit will die: {what}:"))
    unseen = outcome.deadly and not network.dying
    return outcome, f"{begin} {why}.{' It takes a ReLU, and none was found.' if unseen else ''}"


def _early(part: Part) -> str:
    """Which units have the time that it takes."""
    return f"{part.kind} of a unit that is silent by step {part.silent_by or 0:,.0f}"


def gets_there(part: Part) -> bool:
    """Does it die within the run, as far as is known?"""
    return part.fate in {Fate.DIES, Fate.DIES_LATE, Fate.DEPENDS}


def _order(part: Part) -> tuple[int, float]:
    steps = part.steps if part.steps is not None else part.steps_at_least
    return _RANKS.index(part.fate), NEVER if steps is None else steps


def _without_relu(
    name: str, best: Part, network: Network, found: Sequence[Against], threshold: float
) -> tuple[Outcome, str]:
    """Nothing silences a unit exactly; what gets little gradient may die nearly as fast."""
    fading = sorted(FADES & set(network.living))
    if fading:
        through = f"{', '.join(fading)} lets next to no gradient through far from 0"
        return _nearly_silent(name, best, through)
    held = best.decay is Decay.DECOUPLED or _held(network, found, threshold)
    if network.leaks and not held:
        leak = network.leaks[0]
        times = f", {min(it.ratio for it in found):.2g} times what L2 adds" if found else ""
        through = f"{leak.name} lets {leak.slope:.3g} of a gradient through{times}"
        return _nearly_silent(name, best, through)
    rest = min((it.floor for it in found), default=best.noise_floor or 0.0)
    floor = f"; noise of that size keeps {best.kind} at about {rest:.1g}"
    text = f"Units hardly die: {', '.join(network.living)} always lets a gradient through"
    return Outcome.UNLIKELY, f"{text}{floor if rest > threshold else ''}."


def _held(network: Network, found: Sequence[Against], threshold: float) -> bool:
    learned = any(it.learned for it in network.leaks)
    return bool(found) and not learned and all(it.holds(threshold) for it in found)


def _nearly_silent(name: str, best: Part, through: str) -> tuple[Outcome, str]:
    dies = best.fate in {Fate.DIES, Fate.DIES_LATE}
    end = f"with none at all {best.kind} vanish in {best.why}" if dies else best.why
    return Outcome.DEPENDS, f"Units may die: {_what(name, best)}: {through}; {end}."


def _what(name: str, part: Part) -> str:
    decay = part.decay.value if part.decay else "decay unknown"
    return f"{name}, {decay} {part.strength or 0:g}"
