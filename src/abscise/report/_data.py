"""Report: one removal as data, from the plan, the two measurements and the certificate."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from abscise._certificate import Certificate
from abscise._measure import Measurement
from abscise.compaction import LayerSummary, Plan


@dataclass(frozen=True, slots=True)
class Predictions:
    """What both models predict on labelled examples.

    Args:
        dense: Accuracy of the dense model, 0..1.
        compacted: Accuracy of the compacted model, 0..1.
        changed: Number of examples on which the two predict different classes.
        examples: Number of examples, at least 1.
    """

    dense: float
    compacted: float
    changed: int
    examples: int

    def __post_init__(self) -> None:
        """Refuse counts and shares that cannot be."""
        if self.examples < 1 or not 0 <= self.changed <= self.examples:
            message = f"changed must be in 0..examples, got {self.changed} of {self.examples}"
            raise ValueError(message)
        for name, share in (("dense", self.dense), ("compacted", self.compacted)):
            if not 0.0 <= share <= 1.0:
                message = f"{name} accuracy must be in 0..1, got {share}"
                raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One row of the before/after table; `None` is unknown, never left out."""

    quantity: str
    dense: float | None
    compacted: float | None

    @property
    def ratio(self) -> float | None:
        """Dense / compacted: how many times smaller or faster; `None` where that means nothing."""
        if self.dense is None or not self.compacted:
            return None
        ratio = self.dense / self.compacted
        return ratio if math.isfinite(ratio) else None


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is printed about one removal.

    Args:
        plan: What was removed, and why the rest stays.
        dense: The model before.
        compacted: The model after.
        certificate: The proof, where one was made.
        predictions: Both models on labelled examples, where there are any.
    """

    plan: Plan
    dense: Measurement
    compacted: Measurement
    certificate: Certificate | None = None
    predictions: Predictions | None = None

    @property
    def layers(self) -> tuple[LayerSummary, ...]:
        """The rows of the layer table, without the total."""
        return self.plan.layers

    @property
    def total(self) -> LayerSummary:
        """The last row of the layer table: the sum of the others."""
        return total(self.plan.layers)

    def comparisons(self) -> tuple[Comparison, ...]:
        """The rows of the before/after table."""
        dense, compacted, seen = self.dense, self.compacted, self.predictions
        return (
            Comparison("units", self.plan.units, self.plan.units - self.plan.removed_units),
            Comparison("parameters", dense.parameters, compacted.parameters),
            Comparison("nonzero", dense.nonzero, compacted.nonzero),
            Comparison("MACs", dense.macs, compacted.macs),
            Comparison("bytes", dense.size_bytes, compacted.size_bytes),
            Comparison(
                "accuracy",
                None if seen is None else seen.dense,
                None if seen is None else seen.compacted,
            ),
            Comparison("latency_s", dense.latency_s, compacted.latency_s),
        )


def total(layers: tuple[LayerSummary, ...]) -> LayerSummary:
    """The sum of `layers`, as a row of the same form."""
    return LayerSummary(
        layer="total",
        units=sum(row.units for row in layers),
        removed=sum(row.removed for row in layers),
        pinned=sum(row.pinned for row in layers),
        reasons=(),
    )


def reasons(pinned: Mapping[str, int]) -> tuple[tuple[int, str], ...]:
    """(units, reason), the most frequent first."""
    return tuple(sorted(((count, why) for why, count in pinned.items()), reverse=True))
