"""Plan: what will be removed, as data. No torch, no weights, no constants (rule R13)."""

from collections.abc import Mapping
from dataclasses import dataclass

FORMAT = 2


@dataclass(frozen=True, slots=True)
class Removal:
    """One unit that goes: where users find it, and why nothing downstream can tell."""

    unit: int
    layer: str
    index: int
    why: str  # "unread" or "constant"


@dataclass(frozen=True, slots=True)
class AxisEdit:
    """Indices deleted from one axis of one parameter or buffer."""

    name: str
    axis: int
    size: int
    removed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GroupedEdit:
    """Indices deleted from axis 1 of a grouped convolution's weight, per group (rule R8).

    `removed[g]` are offsets inside group `g`; `None` where the whole group goes with its rows.
    """

    name: str
    groups: int
    size: int
    removed: tuple[tuple[int, ...] | None, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """A layer that reads only some of the inputs that stay, although their units live on.

    `size` is the dense number of its inputs; `dropped` are dense indices, none of which an axis
    edit of the layer's weight removes.
    """

    module: str
    size: int
    dropped: tuple[int, ...]

    @property
    def weight(self) -> str:
        """Qualified name of the weight that loses the columns."""
        return f"{self.module}.weight" if self.module else "weight"


@dataclass(frozen=True, slots=True)
class Fold:
    """Constants of removed units that move into one reader.

    `into` is "bias", "running_mean", "new_bias" or "carrier"; `target` is the qualified name of the
    bias or running mean that takes them (for a carrier: of the reader's weight).
    """

    reader: str
    into: str
    target: str


@dataclass(frozen=True, slots=True)
class Attribute:
    """A size that a module keeps beside its weights, and its new value."""

    module: str
    name: str
    value: int


@dataclass(frozen=True, slots=True)
class LayerSummary:
    """One row of the printed plan: units of one layer, how many go, how many are pinned and why."""

    layer: str
    units: int
    removed: int
    pinned: int
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What `apply` will do. Structure only: the constants are recomputed from the checkpoint.

    Args:
        fingerprint: Of the architecture it belongs to (names, shapes and dtypes of its tensors).
        inputs: JSON description of the example inputs (shapes, dtypes, plain values).
        removals: One entry per removed unit.
        edits: Plain axis edits, at most one per axis.
        grouped: Edits of grouped convolution weights.
        selections: Layers that read a selection of their inputs, at most one per layer.
        folds: Where constants go.
        attributes: Sizes that modules keep beside their weights (`out_channels`, `groups`, ...).
        layers: The printed table.
        pinned: Reason -> number of units it pins.
        units: Number of all units; `pinned_units` of them may not be removed.
        conditions: What a batch must fulfil, in words; empty: any batch of the example's sizes.
    """

    fingerprint: str
    inputs: Mapping[str, object]
    removals: tuple[Removal, ...]
    edits: tuple[AxisEdit, ...]
    grouped: tuple[GroupedEdit, ...]
    folds: tuple[Fold, ...]
    attributes: tuple[Attribute, ...]
    layers: tuple[LayerSummary, ...]
    pinned: Mapping[str, int]
    units: int
    pinned_units: int
    near_dead: int = 0
    selections: tuple[Selection, ...] = ()
    conditions: tuple[str, ...] = ()
    format: int = FORMAT

    @property
    def removed_units(self) -> int:
        """How many units go."""
        return len(self.removals)

    @property
    def changes_nothing(self) -> bool:
        """Does every tensor keep its size and its numbers?"""
        return not (self.removals or self.edits or self.grouped or self.folds or self.selections)

    def columns(self, name: str) -> tuple[int, ...]:
        """What goes from axis 1 of the parameter `name`: whole units, and what is not selected."""
        units = (item.removed for item in self.edits if (item.name, item.axis) == (name, 1))
        dropped = (item.dropped for item in self.selections if item.weight == name)
        return tuple(sorted(index for found in (*units, *dropped) for index in found))
