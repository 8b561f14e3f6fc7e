"""What a pass over data says of each layer, as plain numbers: what is written, and read back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from typing_extensions import override

from abscise._json import printable
from abscise.implicit._records import few_of

CURVE = 101
"""Most points of a curve of sorted selectivities."""


@dataclass(frozen=True, slots=True)
class LayerFiring:
    """The units of one rectified layer on all samples.

    Args:
        layer: The linear layer or convolution that ran last before; "name#2" for a second time.
        units: Number of its units.
        silent: How many of them never fire.
        selectivity: Mean over the units that fire, in [0, 1]; None where none does.
        curve: Selectivities of all units, rising; of many units `CURVE` of them, evenly chosen,
            the smallest and the largest among them. A silent unit has 1.
        of_one_class: Per class, units that fire for it and for no other; None without labels.
    """

    layer: str
    units: int
    silent: int
    selectivity: float | None
    curve: tuple[float, ...]
    of_one_class: tuple[int, ...] | None

    @property
    def universality(self) -> float | None:
        """Share of the samples on which a unit fires, over the units that ever do."""
        return None if self.selectivity is None else 1 - self.selectivity


@dataclass(frozen=True, slots=True)
class Firing:
    """All rectified layers after `step` steps.

    Args:
        step: Steps done.
        samples: Number of samples.
        wall_s: Seconds that the pass took.
        layers: In the order in which they run.
    """

    step: int
    samples: int
    wall_s: float
    layers: tuple[LayerFiring, ...]

    @property
    def gone(self) -> tuple[str, ...]:
        """Layers of which no unit ever fires."""
        return tuple(it.layer for it in self.layers if it.silent == it.units)

    @override
    def __str__(self) -> str:
        """One line for people, with the cost."""
        units = sum(it.units for it in self.layers)
        silent = sum(it.silent for it in self.layers)
        gone = f"; no unit of {few_of(self.gone)} ever fires" if self.gone else ""
        return (
            f"step {self.step:,}: {silent:,} of {units:,} units silent on {self.samples:,} samples "
            f"(this pass took {self.wall_s:.2g} s){gone}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, which `read_track` reads."""
        layers = [
            {
                "layer": printable(it.layer),
                "units": it.units,
                "silent": it.silent,
                "selectivity": it.selectivity,
                "curve": list(it.curve),
                "of_one_class": None if it.of_one_class is None else list(it.of_one_class),
            }
            for it in self.layers
        ]
        shown: Mapping[str, Any] = {"samples": self.samples, "wall_s": self.wall_s}
        return {"format": 1, "kind": "activity", "step": self.step, **shown, "layers": layers}
