"""Diagnosis: whether and when units will die, as data with numbers and reasons."""

import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from abscise.implicit._network import Kind, Network
from abscise.implicit._rule import Decay

FORMAT = 2


class Fate(StrEnum):
    """What becomes of a weight once its unit gets no data gradient any more."""

    DIES = "dies"
    DIES_LATE = "dies, if silent early in the run"
    DIES_LATER = "dies after the run"
    DEPENDS = "depends on its gradients"
    CYCLES = "jumps around zero"
    STAYS = "stays"
    UNKNOWN = "unknown"


class Outcome(StrEnum):
    """What becomes of the units of the network."""

    WILL_DIE = "units can die within the run"
    FEW = "few units can die within the run"
    DEPENDS = "depends on the gradients"
    TOO_SLOW = "units die too slowly"
    UNLIKELY = "units hardly die"
    WILL_NOT = "units do not die"
    UNKNOWN = "unknown"

    @property
    def deadly(self) -> bool:
        """May units die within the run?"""
        return self in {Outcome.WILL_DIE, Outcome.FEW, Outcome.DEPENDS}


@dataclass(frozen=True, slots=True)
class Layer:
    """One parameter whose units can die, under the rule of its part; `None` is unknown.

    Args:
        name: Qualified name of the parameter.
        numbers: Number of its elements.
        start: Root mean square of its elements now.
        gradient_rms: Size of its own gradients before death.
        steps: As of a part.
        steps_at_least: As of a part.
    """

    name: str
    numbers: int
    start: float
    gradient_rms: float | None
    steps: float | None
    steps_at_least: float

    @property
    def soonest(self) -> float:
        """Steps, as far as they are known."""
        return self.steps_at_least if self.steps is None else self.steps

    @property
    def order(self) -> tuple[bool, float]:
        """By which layers are ordered: what is known first, and then the fastest."""
        return self.steps is None, self.soonest


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """All parameters of one kind in one parameter group; `None` is unknown.

    Sizes are those of all of them together; times are those of the layer that gets there first.

    Args:
        group: Index of the parameter group.
        kind: Weights, biases, gamma or beta.
        tensors: Number of parameters.
        numbers: Number of their elements.
        decay: How the decay reaches them; None: an optimizer whose law is not known.
        lr: Learning rate; with a scheduler, the largest of the run.
        strength: Of the decay.
        start: Root mean square of their elements now.
        ceiling: lr * strength / eps with L2 and an adaptive optimizer: the largest share of a
            weight that one step can take. Below 0.01 the effect slows down.
        stability_bound: A `ceiling` above it ends in a cycle instead of at zero.
        cycle: Size of that cycle, 0 where there is none; smaller learning rates end it.
        gradient_rms: Size of their gradients before death.
        gradient_source: Where it comes from.
        steps: Optimizer steps from `start` to the threshold after the data gradient is gone; with a
            scheduler, from now on, and infinite where the run ends before.
        steps_at_least: The same if there never was a gradient.
        steps_at_full_rate: The same if the learning rate stayed at its largest; None without a
            scheduler.
        silent_by: Last step of the run at which a unit may fall silent and be gone at its end.
        largest_gradient: Size of earlier gradients up to which `steps` fit in the run.
        noise_floor: Spread of a weight that lives, around its best value, with such gradients.
        subnormal_after: Steps until dead weights are subnormal numbers; infinite: never.
        subnormal: Elements that are subnormal now.
        no_op_share: Share of the elements that one step of the decay alone leaves bit for bit.
        coarse: Name of the type of numbers where it is so coarse that small steps do nothing.
        carries: Can units die with it? Not with biases, embeddings, or what no activation reads.
        least_gradient_rms: The smallest that one of its weights and scales has.
        layers: Those with which units die and that are above the threshold, each with its own
            times, the first to get there first; last those of which nothing is known.
        fate: What becomes of one whose unit gets no data gradient.
        why: The reason, one line.
    """

    group: int
    kind: Kind
    tensors: int
    numbers: int
    decay: Decay | None
    lr: float | None
    strength: float | None
    start: float
    ceiling: float | None = None
    stability_bound: float | None = None
    cycle: float | None = None
    gradient_rms: float | None = None
    gradient_source: str | None = None
    steps: float | None = None
    steps_at_least: float | None = None
    steps_at_full_rate: float | None = None
    silent_by: float | None = None
    largest_gradient: float | None = None
    noise_floor: float | None = None
    subnormal_after: float | None = None
    subnormal: int = 0
    no_op_share: float | None = None
    coarse: str | None = None
    carries: bool = False
    least_gradient_rms: float | None = None
    layers: tuple[Layer, ...] = ()
    fate: Fate
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What `diagnose` found.

    Args:
        optimizer: Name of its class.
        network: Activations and norms.
        parts: Per parameter group and kind of parameter.
        steps: That the run still has; None where it was not told.
        scheduled: Do the times go by a scheduler of the learning rate?
        batch_size: Examples per step; None where it was not told.
        threshold: Below it a weight counts as dead.
        outcome: Whether units will die.
        verdict: The same as one sentence with the numbers that decide.
        findings: What else matters, one line each.
        more: How to get more dead units.
        less: How to get fewer.
    """

    optimizer: str
    network: Network
    parts: tuple[Part, ...]
    steps: int | None
    scheduled: bool
    batch_size: int | None
    threshold: float
    outcome: Outcome
    verdict: str
    findings: tuple[str, ...]
    more: tuple[str, ...]
    less: tuple[str, ...]

    @property
    def first(self) -> Layer | None:
        """The layer that gets there first, of all parts; of those whose times are known, if any."""
        layers = [it for part in self.parts for it in part.layers]
        return min(layers, key=lambda it: it.order, default=None)

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON.

        Steps that never come are null, with `fate` as the reason; of a layer they are unknown where
        `steps` alone is null, and never come where `steps_at_least` is, too.
        """
        return {"format": FORMAT, **_plain(asdict(self))}


def _plain(value: Any) -> Any:  # noqa: PLR0911 - one return per kind
    match value:
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case StrEnum():
            return value.value
        case float():
            return value if math.isfinite(value) else None
        case _:
            return value
