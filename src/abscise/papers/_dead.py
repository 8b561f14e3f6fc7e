"""Dead units of a trained network, counted by three kinds of evidence, before anything is removed.

By weights: the largest |weight| that writes a unit (the scale of its BatchNorm, else its incoming
row) is below a threshold, as the papers count. By activation: the unit's largest |activation| over
all examples is at most 1e-12, which for a unit behind a ReLU is 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

import abscise
from abscise._inputs import Inputs
from abscise._json import Fields
from abscise.compaction import writing_slices
from abscise.graph import analyse

THRESHOLDS = (1e-3, 1e-6, 1e-12)
"""The papers' threshold; the one below which controls must show none; where Adam's end."""

GONE = THRESHOLDS[0]
"""What is below it, the papers call gone."""

SILENT = 1e-12
_EXAMPLES, _BATCH = 64, 1000
_FIELDS = ("layer", "units", "below", "silent")


@dataclass(frozen=True, slots=True)
class DeadLayer:
    """One layer with units that may go.

    Args:
        layer: Its name.
        units: All of them.
        below: Threshold -> units whose weights are below it; every one of `THRESHOLDS`.
        silent: Units that no example makes fire.
    """

    layer: str
    units: int
    below: Mapping[float, int]
    silent: int


@dataclass(frozen=True, slots=True)
class DeadUnits:
    """All layers that have units that may go, in the order in which they run."""

    layers: tuple[DeadLayer, ...]

    @property
    def units(self) -> int:
        """Of all layers."""
        return sum(it.units for it in self.layers)

    @property
    def silent(self) -> int:
        """Units that no example makes fire, in all layers."""
        return sum(it.silent for it in self.layers)

    def below(self, threshold: float) -> int:
        """Units of all layers whose weights are below one of `THRESHOLDS`."""
        return sum(it.below[threshold] for it in self.layers)

    def to_json(self) -> list[dict[str, Any]]:
        """Plain values; `dead_from_fields` reads them again."""
        return [
            {
                "layer": it.layer,
                "units": it.units,
                "below": counts_to_json(it.below),
                "silent": it.silent,
            }
            for it in self.layers
        ]


def count_dead(model: nn.Module, examples: Tensor) -> DeadUnits:
    """Count the dead units of `model`, which stays as it was; the outputs' layer has none.

    Args:
        model: In eval mode, on the CPU.
        examples: `(examples, ...)`: all of the training part.

    Raises:
        InputError, CaptureError, ModelError: See `abscise.inspect`.
    """
    few = Inputs((examples[:_EXAMPLES].clone(),))
    found = abscise.inspect(model, few, data=[Inputs((it,)) for it in examples.split(_BATCH)])
    pinned = {row.layer for row in found.plan.layers if row.pinned == row.units}
    silent = {it.layer: it.silent for it in found.layers}
    layers = {  # a layer that runs twice is one
        item.layer: DeadLayer(
            item.layer,
            len(item.units),
            {limit: int((item.magnitude < limit).sum()) for limit in THRESHOLDS},
            (silent[item.layer] or {})[SILENT],
        )
        for item in writing_slices(analyse(model, few))
        if item.writes and item.layer not in pinned
    }
    return DeadUnits(tuple(layers.values()))


def dead_from_fields(notes: Fields, name: str) -> DeadUnits:
    """What `to_json` gave, read strictly.

    Raises:
        AbsciseError: Of the class that `notes` has: a field is missing, unknown or out of range.
    """
    return DeadUnits(tuple(_layer(one) for one in notes.objects(name, _FIELDS)))


def counts_to_json(below: Mapping[float, int]) -> dict[str, int]:
    """Counts below each of `THRESHOLDS` as plain values."""
    return {_name(threshold): below[threshold] for threshold in THRESHOLDS}


def counts_from_fields(one: Fields, name: str, most: int) -> dict[float, int]:
    """What `counts_to_json` gave, none above `most`."""
    held = one.mapping(name)
    if set(held) != set(map(_name, THRESHOLDS)):
        one.refuse(name, f"counts below {', '.join(map(_name, THRESHOLDS))}")
    counts = Fields(held, f"{one.where}: {name}", one.error)
    return {threshold: counts.integer(_name(threshold), 0, most) for threshold in THRESHOLDS}


def _layer(one: Fields) -> DeadLayer:
    units = one.integer("units", 1)
    below = counts_from_fields(one, "below", units)
    return DeadLayer(one.name("layer"), units, below, one.integer("silent", 0, units))


def _name(threshold: float) -> str:
    return f"{threshold:g}"
