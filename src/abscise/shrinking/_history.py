"""All removals of a run as one plan for the network it began with.

Each removal speaks of the indices of its own day. Put together in those of the first day, they are
an ordinary plan: `apply(plan, network, structure_only=True)` gives the shapes of the shrunk one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from abscise.compaction import Attribute, AxisEdit, GroupedEdit, LayerSummary, Plan, Removal

Ids = NDArray[np.int64]
Groups = tuple[tuple[int, ...] | None, ...]


@dataclass(slots=True, eq=False)
class History:
    """What is left of the first network.

    Args:
        dense: The plan of that network that removes nothing.
        units: Layer -> ids of its units in the first unit map, in order.
    """

    dense: Plan
    units: Mapping[str, Ids]
    _kept: dict[tuple[str, int], tuple[int, Ids]] = field(default_factory=dict)
    _layers: dict[str, Ids] = field(default_factory=dict)
    _groups: dict[str, tuple[int, list[Ids | None]]] = field(default_factory=dict)
    _attributes: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, plan: Plan, gone: Mapping[str, Ids]) -> None:
        """Note a removal.

        Args:
            plan: In the indices of the network at that time; it folds and selects nothing.
            gone: Layer -> the places, of its outputs at that time, that go.
        """
        for edit in plan.edits:
            size, kept = self._kept.get((edit.name, edit.axis), (edit.size, np.arange(edit.size)))
            self._kept[edit.name, edit.axis] = size, np.delete(kept, list(edit.removed))
        for grouped in plan.grouped:
            self._add_groups(grouped)
        for layer, places in gone.items():
            kept = self._layers.get(layer, np.arange(len(self.units[layer])))
            self._layers[layer] = np.delete(kept, places)
        for attribute in plan.attributes:
            self._attributes[attribute.module, attribute.name] = attribute.value

    def plan(self) -> Plan:
        """All removals so far, in the indices of the first network."""
        edits = [
            AxisEdit(name, axis, size, _missing(size, kept))
            for (name, axis), (size, kept) in sorted(self._kept.items(), key=lambda it: it[0])
        ]
        grouped = [
            GroupedEdit(name, len(kept), size, _missing_groups(size, kept))
            for name, (size, kept) in sorted(self._groups.items())
        ]
        return replace(
            self.dense,
            removals=self._removals(),
            edits=tuple(edits),
            grouped=tuple(grouped),
            attributes=tuple(
                Attribute(module, name, value)
                for (module, name), value in sorted(self._attributes.items())
            ),
            layers=tuple(self._summary(row) for row in self.dense.layers),
        )

    def _add_groups(self, edit: GroupedEdit) -> None:
        size, kept = self._groups.get(
            edit.name, (edit.size, [np.arange(edit.size) for _ in range(edit.groups)])
        )
        offsets = iter(edit.removed)
        new: list[Ids | None] = []
        for group in kept:
            removed = None if group is None else next(offsets)
            if group is None or removed is None:
                new.append(None)
            else:
                new.append(np.delete(group, list(removed)))
        self._groups[edit.name] = size, new

    def _removals(self) -> tuple[Removal, ...]:
        found: dict[int, Removal] = {}
        for layer, kept in self._layers.items():
            for index in _missing(len(self.units[layer]), kept):
                unit = int(self.units[layer][index])
                _ = found.setdefault(unit, Removal(unit, layer, index, "unread"))
        return tuple(found[unit] for unit in sorted(found))

    def _summary(self, row: LayerSummary) -> LayerSummary:
        kept = self._layers.get(row.layer)
        return row if kept is None else replace(row, removed=row.units - len(kept))


def _missing(size: int, kept: Ids) -> tuple[int, ...]:
    return tuple(np.setdiff1d(np.arange(size), kept).tolist())


def _missing_groups(size: int, kept: list[Ids | None]) -> Groups:
    return tuple(None if group is None else _missing(size, group) for group in kept)
