"""Report: one removal as data: what went, both measurements, the certificate, the training."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from abscise._certificate import Certificate
from abscise._environment import Environment
from abscise._measure import Measurement
from abscise.compaction import LayerSummary, Plan
from abscise.implicit import Track
from abscise.report._training import Training


@dataclass(frozen=True, slots=True)
class RemovalSummary:
    """What a plan removes and why the rest stays, without the indices.

    Args:
        layers: One row per layer, in the order in which they run.
        pinned: Reason -> number of units it pins.
        units: Number of all units, each counted once, also where several layers write it.
        pinned_units: How many of them may not be removed.
        removed_units: How many go.
        near_dead: How many stay although they are nearly dead.
        selecting_layers: How many layers read a selection of their inputs.
        dropped_inputs: How many inputs they give up together, whose units stay for others.
        conditions: What a batch must fulfil for the plan to hold; empty: any number of rows.
    """

    layers: tuple[LayerSummary, ...]
    pinned: Mapping[str, int]
    units: int
    pinned_units: int
    removed_units: int
    near_dead: int = 0
    selecting_layers: int = 0
    dropped_inputs: int = 0
    conditions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse more than there is."""
        if self.pinned_units + self.removed_units > self.units:
            message = (
                f"units must be at least the {self.pinned_units} pinned and the "
                f"{self.removed_units} removed ones together, got {self.units}"
            )
            raise ValueError(message)

    @property
    def free_units(self) -> int:
        """Those that no reason pins."""
        return self.units - self.pinned_units


def summary_of(plan: Plan) -> RemovalSummary:
    """The part of `plan` that people read."""
    return RemovalSummary(
        layers=plan.layers,
        pinned=dict(plan.pinned),
        units=plan.units,
        pinned_units=plan.pinned_units,
        removed_units=plan.removed_units,
        near_dead=plan.near_dead,
        selecting_layers=len(plan.selections),
        dropped_inputs=sum(len(item.dropped) for item in plan.selections),
        conditions=plan.conditions,
    )


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
    """Everything that is shown about one removal; None is what nobody looked at.

    Args:
        removal: What was removed, and why the rest stays; see `summary_of`.
        dense: The model before.
        compacted: The model after.
        certificate: The proof, where one was made.
        predictions: Both models on labelled examples, where there are any.
        training: How the dense model came about, where that was seen.
        tracking: What a tracker noted during the training, where one was attached.
        environment: Where all this happened.
        loading: Lines of Python that load the compacted model as `model`.
        title: What the report is about, such as the recipe's name.
    """

    removal: RemovalSummary
    dense: Measurement | None = None
    compacted: Measurement | None = None
    certificate: Certificate | None = None
    predictions: Predictions | None = None
    training: Training | None = None
    tracking: Track | None = None
    environment: Environment | None = None
    loading: tuple[str, ...] = ()
    title: str = "compacted model"

    def __post_init__(self) -> None:
        """Both models were measured, or neither."""
        if (self.dense is None) != (self.compacted is None):
            message = "a report holds the measurements of both models, or of neither"
            raise ValueError(message)

    @property
    def layers(self) -> tuple[LayerSummary, ...]:
        """The rows of the layer table, without the total."""
        return self.removal.layers

    @property
    def total(self) -> LayerSummary:
        """The last row of the layer table: the sum of the others."""
        return total(self.layers)

    def comparisons(self) -> tuple[Comparison, ...]:
        """The rows of the before/after table; of what was measured, unknown ones, too."""
        removal, seen = self.removal, self.predictions
        rows = [Comparison("units", removal.units, removal.units - removal.removed_units)]
        if self.dense is not None and self.compacted is not None:
            rows += _sizes(self.dense, self.compacted)
        before, after = (None, None) if seen is None else (seen.dense, seen.compacted)
        rows.append(Comparison("accuracy", before, after))
        if self.dense is not None and self.compacted is not None:
            rows.append(Comparison("latency_s", self.dense.latency_s, self.compacted.latency_s))
        return tuple(rows)


def _sizes(dense: Measurement, compacted: Measurement) -> list[Comparison]:
    return [
        Comparison("parameters", dense.parameters, compacted.parameters),
        Comparison("nonzero", dense.nonzero, compacted.nonzero),
        Comparison("MACs", dense.macs, compacted.macs),
        Comparison("bytes", dense.size_bytes, compacted.size_bytes),
        *_on_disk(dense.bytes_on_disk, compacted.bytes_on_disk),
    ]


def _on_disk(dense: int | None, compacted: int | None) -> list[Comparison]:
    """A row only where a file was written: of others there is nothing to know."""
    known = dense is not None or compacted is not None
    return [Comparison("bytes on disk", dense, compacted)] if known else []


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
