"""Groups of a unit map: all slices that write a unit, over several parameters, as one group."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from abscise._units import UnitMap
from abscise.sparsify._groups import TRANSPOSED
from abscise.sparsify._slices import Bunch, Slice
from abscise.sparsify._weights import Weights, is_direction

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Writing:
    """One parameter's axis that writes units: the unit of each index, -1 for none."""

    name: str
    axis: int
    units: Ids


def unit_bunches(
    weights: Weights, units: UnitMap, chosen: Collection[str], *, pinned: bool
) -> list[Bunch]:
    """Bunches of units that the optimizer trains; columns that read a unit are in none.

    Raises:
        ValueError: The map belongs to another model, which axis writes cannot be told, or of a unit
            only a part is trained.
    """
    _check_belongs(weights, units)
    held = np.fromiter(() if pinned else units.pinned, dtype=np.int64)
    signatures: dict[int, tuple[int, ...]] = {}
    writings: list[_Writing] = []
    for found in _writings(weights, units, chosen):
        own = np.where(np.isin(found.units, held), -1, found.units)
        for unit, count in zip(*np.unique(own[own >= 0], return_counts=True), strict=True):
            signatures[int(unit)] = (*signatures.get(int(unit), ()), len(writings), int(count))
        writings.append(_Writing(found.name, found.axis, own))
    alike: dict[tuple[int, ...], list[int]] = {}
    for unit, signature in signatures.items():
        alike.setdefault(signature, []).append(unit)
    made = [_bunch(weights, writings, signature, ids) for signature, ids in alike.items()]
    return [bunch for bunch in made if _trained(weights, bunch)]


def _check_belongs(weights: Weights, units: UnitMap) -> None:
    for (name, axis), ids in units.axes.items():
        if name in weights.buffers:
            continue
        if name not in weights.all:
            message = f"groups: the unit map names {name}, which the model does not have"
            raise ValueError(message)
        shape = tuple(weights.all[name].shape)
        if axis >= len(shape) or shape[axis] != len(ids):
            message = (
                f"groups: the unit map has {len(ids)} indices along axis {axis} of {name}, whose "
                f"shape is {shape}: it belongs to another model"
            )
            raise ValueError(message)


def _writings(weights: Weights, units: UnitMap, chosen: Collection[str]) -> list[_Writing]:
    """The writing axis of every parameter that has one, in the model's order."""
    by_name: dict[str, dict[int, Ids]] = {}
    for (name, axis), ids in units.axes.items():
        by_name.setdefault(name, {})[axis] = ids
    first = {id(tensor): name for name, tensor in weights.once().items()}
    order = {name: place for place, name in enumerate(weights.all)}
    found: dict[int, _Writing] = {}
    for name in sorted(by_name.keys() & weights.all.keys(), key=order.__getitem__):
        tensor = weights.all[name]
        if first[id(tensor)] not in chosen or is_direction(weights, name):
            continue
        along = _writing_axis(weights, units.layers, name, by_name[name])
        if along is not None:
            _ = found.setdefault(id(tensor), _Writing(name, along, by_name[name][along]))
    return list(found.values())


def _writing_axis(
    weights: Weights, layers: Mapping[str, Ids], name: str, axes: Mapping[int, Ids]
) -> int | None:
    """The axis along which a parameter writes units: rows of a layer's weight, a vector's only one.

    Raises:
        ValueError: Both axes of a weight outside a linear layer or convolution hold the same units.
    """
    names = (name, name.rpartition(".")[0] or "(model)", name.partition(".parametrizations.")[0])
    own = [layers[layer] for layer in names if layer in layers]
    same = [axis for axis, ids in axes.items() if any(np.array_equal(ids, one) for one in own)]
    if len(same) > 1:  # a layer whose outputs are added to what it reads
        if not name.endswith("weight"):
            message = (
                f"groups: {name} reads and writes the same units, and which axis does which cannot "
                "be told: leave it out by exclude"
            )
            raise ValueError(message)
        return 1 if isinstance(weights.owners[name], TRANSPOSED) else 0
    if same:
        return same[0]
    vector = sum(size > 1 for size in weights.all[name].shape) <= 1
    return next(iter(axes)) if vector and len(axes) == 1 else None


def _bunch(
    weights: Weights, writings: list[_Writing], signature: tuple[int, ...], units: list[int]
) -> Bunch:
    ids = np.array(units, dtype=np.int64)
    pieces = []
    for place, count in zip(signature[::2], signature[1::2], strict=True):
        writing = writings[place]
        parameter = weights.all[writing.name]
        inside = np.flatnonzero(np.isin(writing.units, ids))
        position = {unit: index for index, unit in enumerate(units)}
        order = np.array([position[unit] for unit in writing.units[inside].tolist()])
        rows = inside[np.argsort(order, kind="stable")]
        whole = np.array_equal(rows, np.arange(len(writing.units)))
        index = None if whole else torch.from_numpy(rows).to(parameter.device)
        shape = tuple(parameter.shape)
        pieces.append(Slice(writing.name, parameter, shape, writing.axis, index, count))
    return Bunch(tuple(pieces))


def _trained(weights: Weights, bunch: Bunch) -> bool:
    """Are its parameters trained?

    Raises:
        ValueError: Some are, some are not.
    """
    idle = [piece.name for piece in bunch.slices if not weights.trains(piece.name)]
    if idle and len(idle) < len(bunch.slices):
        busy = next(piece.name for piece in bunch.slices if piece.name not in idle)
        message = (
            f"{', '.join(idle)}: frozen, or not in the optimizer, but of the same units as {busy}, "
            "which is trained: train both, or leave one out by exclude"
        )
        raise ValueError(message)
    return not idle
