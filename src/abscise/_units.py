"""UnitMap: which parameter slices live and die together. Pure index data, no model, no graph."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Axis = tuple[str, int]
"""One dimension of one parameter or buffer: (its qualified name, the dimension)."""

NO_UNIT = -1


@dataclass(frozen=True, slots=True)
class UnitMap:
    """For every axis, the unit id of each index; for every pinned unit, the reason.

    Args:
        axes: `(parameter name, dimension)` -> int64 array, one unit id per index, `NO_UNIT`
        where the
            index belongs to none.
        pinned: unit id -> why it may not be removed.
        layers: name of the module that computes units -> ids of its outputs, in order. A unit that
            several layers write (a residual stream) is listed under each of them.
    """

    axes: Mapping[Axis, NDArray[np.int64]]
    pinned: Mapping[int, str]
    layers: Mapping[str, NDArray[np.int64]]

    @property
    def units(self) -> frozenset[int]:
        """Ids of all units, pinned ones included."""
        return frozenset(int(unit) for ids in self.layers.values() for unit in ids if unit >= 0)

    def members(self, unit: int) -> dict[Axis, tuple[int, ...]]:
        """The slices of `unit`: axis -> indices along it."""
        found = {
            axis: tuple(np.flatnonzero(ids == unit).tolist()) for axis, ids in self.axes.items()
        }
        return {axis: indices for axis, indices in found.items() if indices}

    def without(self, removed: Mapping[Axis, Collection[int]]) -> "UnitMap":
        """The map of the same network once these indices, and with them whole units, are gone."""
        units = {
            unit
            for axis, gone in removed.items()
            if axis in self.axes
            for unit in self.axes[axis][list(gone)].tolist()
        } - {NO_UNIT}
        return UnitMap(
            {
                axis: np.delete(ids, list(removed[axis])) if axis in removed else ids
                for axis, ids in self.axes.items()
            },
            {unit: reason for unit, reason in self.pinned.items() if unit not in units},
            {layer: ids[~np.isin(ids, list(units))] for layer, ids in self.layers.items()},
        )

    def homes(self) -> dict[int, tuple[str, int]]:
        """Unit id -> (layer, index) where it is first written; the name that users read."""
        found: dict[int, tuple[str, int]] = {}
        for layer, ids in self.layers.items():
            for index, unit in enumerate(ids.tolist()):
                if unit >= 0:
                    _ = found.setdefault(unit, (layer, index))
        return found
