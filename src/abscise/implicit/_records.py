"""What a tracker notes: per layer how many units are dead, and how the others are doing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from typing_extensions import override

from abscise._json import printable

HISTOGRAM = tuple(10.0**exponent for exponent in range(-12, 2))
"""Edges of the bins of sizes; below the first and above the last there is one bin more."""


def few_of(names: Sequence[str], most: int = 3) -> str:
    """The first of many names, and how many more there are.

    Example:
        >>> few_of(["a", "b", "c", "d", "e"])
        'a, b, c and 2 more'
    """
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


@dataclass(frozen=True, slots=True)
class LayerRecord:
    """One layer at one step. The size of a unit is |gamma|, or the largest |weight| of its row.

    Args:
        layer: Name of the linear layer, convolution or batch norm.
        units: Number of its units.
        scaled: Whether units go by gamma.
        dead: Threshold -> units whose size is below it.
        revived: Units that were dead at the record before and are not now.
        histogram: Units in each bin of `HISTOGRAM`.
        gradient_to_decay: Size of the data's gradient over that of the decay, both as root mean
            squares over the layer's weights; None without optimizer, gradient or decay.
    """

    layer: str
    units: int
    scaled: bool
    dead: Mapping[float, int]
    revived: int
    histogram: tuple[int, ...]
    gradient_to_decay: float | None


@dataclass(frozen=True, slots=True)
class Record:
    """All layers after `step` steps.

    Args:
        step: Steps done.
        layers: In the order in which they run.
        threshold: Below it a unit counts as dead.
    """

    step: int
    layers: tuple[LayerRecord, ...]
    threshold: float

    @property
    def dead(self) -> int:
        """Dead units of all layers."""
        return sum(layer.dead[self.threshold] for layer in self.layers)

    @property
    def units(self) -> int:
        """Units of all layers."""
        return sum(layer.units for layer in self.layers)

    @property
    def gone(self) -> tuple[str, ...]:
        """Layers that are dead as a whole."""
        return tuple(it.layer for it in self.layers if it.dead[self.threshold] == it.units)

    @override
    def __str__(self) -> str:
        """One line for people."""
        revived = sum(layer.revived for layer in self.layers)
        back = f", {revived:,} came back" if revived else ""
        gone = f"; all of {few_of(self.gone)} is dead" if self.gone else ""
        return (
            f"step {self.step:,}: {self.dead:,} of {self.units:,} units below "
            f"{self.threshold:g}{back}{gone}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        layers = [
            {
                "layer": printable(it.layer),
                "units": it.units,
                "by": "gamma" if it.scaled else "weights",
                "dead": {repr(float(threshold)): count for threshold, count in it.dead.items()},
                "revived": it.revived,
                "histogram": list(it.histogram),
                "gradient_to_decay": it.gradient_to_decay,
            }
            for it in self.layers
        ]
        return {"format": 1, "kind": "weights", "step": self.step, "layers": layers}
