"""Cuts: the lowest ranked filters are taken off, as many for every ranking, without fine-tuning.

A filter is taken off by setting the scale of its BatchNorm to 0: what is left of it is a constant,
its rectified shift, that its readers can take over. The same for all rankings, so that only the
choice differs.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor, nn

import abscise
from abscise._units import UnitMap
from abscise.compaction import writing_slices
from abscise.graph import analyse
from abscise.papers._shipping import errors_on
from abscise.train import Split

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Shares of all filters that go."""


class Ranking(StrEnum):
    """By what filters are ranked; the lowest go first.

    GAMMA: |scale| of the BatchNorm, over all layers, as network slimming does (arXiv 1708.06519).
    NORM: sum of the |weights| of the filter, within its layer, so that all layers lose equal
    shares (H. Li, A. Kadav, I. Durdanovic, H. Samet, H. P. Graf 2017, "Pruning Filters for
    Efficient ConvNets", arXiv 1608.08710, without its choice of spared layers).
    """

    GAMMA = "gamma"
    NORM = "norm"


@dataclass(frozen=True, slots=True)
class Filters:
    """The filters of one convolution that a BatchNorm follows.

    Args:
        layer: Name of the convolution.
        scale: Name of the scales.
        units: Their ids in the map of units.
    """

    layer: str
    scale: str
    units: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cut:
    """A network without its lowest filters.

    Args:
        share: Of the filters that was to go.
        gone: Filters that are gone.
        parameters: That are left without them. Where constants cannot be folded, as before a
            padded convolution, removal keeps one filter of the layer to carry them.
        error: On the test set in percent.
    """

    share: float
    gone: int
    parameters: int
    error: float


def filters_of(model: nn.Module, example: Tensor) -> tuple[tuple[Filters, ...], UnitMap]:
    """The filters of all layers in the order in which they run, and the map of all units.

    Raises:
        InputError, CaptureError, ModelError: See `abscise.find_units`.
    """
    units = abscise.find_units(model, example)
    inputs = abscise.Inputs((example,))
    found = tuple(
        Filters(item.layer, item.parameter, tuple(units.layers[item.layer].tolist()))
        for item in writing_slices(analyse(model, inputs))
        if item.writes and item.kind == "scale" and _convolves(model, item.layer)
    )
    return found, units


def cuts_of(
    model: nn.Module,
    found_in: tuple[Sequence[Filters], UnitMap],
    ranking: Ranking,
    levels: Sequence[float],
    tested: Split,
) -> tuple[Cut, ...]:
    """Cut copies of `model` at every level. The last filter of a layer stays.

    Args:
        model: In eval mode, on the device of `tested`; stays as it was.
        found_in: What `filters_of` gave for it.
        ranking: Which filters go first.
        levels: Shares of all filters, rising.
        tested: The test part.
    """
    layers, units = found_in
    order = order_of(scores_of(model, layers, ranking))
    ids = [unit for layer in layers for unit in layer.units]
    found = []
    for level in levels:
        gone = order[: min(round(level * len(ids)), len(order))]
        small = copy.deepcopy(model)
        silence_(small, layers, gone)
        left = parameters_left(model, units, [ids[place] for place in gone])
        found.append(Cut(level, len(gone), left, errors_on([small], tested)[0]))
    return tuple(found)


def scores_of(model: nn.Module, layers: Sequence[Filters], ranking: Ranking) -> list[Tensor]:
    """Per layer, what its filters are ranked by; the largest of each layer is infinite."""
    found = []
    for layer in layers:
        if ranking is Ranking.GAMMA:
            scores = model.get_parameter(layer.scale).detach().abs().double()
        else:
            weight = model.get_parameter(f"{layer.layer}.weight").detach().double()
            scores = _places(weight.abs().flatten(1).sum(1))
        scores = scores.cpu()
        scores[scores.argmax()] = torch.inf
        found.append(scores)
    return found


def order_of(scores: Sequence[Tensor]) -> list[int]:
    """Places in the list of all filters, the first to go first; without those that stay."""
    joined = torch.cat(list(scores))
    order: list[int] = torch.argsort(joined, stable=True).tolist()
    return order[: int(joined.isfinite().sum())]


def silence_(model: nn.Module, layers: Sequence[Filters], gone: Sequence[int]) -> None:
    """Set the scales of these filters to 0; places count through all layers."""
    taken, first = set(gone), 0
    with torch.no_grad():
        for layer in layers:
            own = [at for at in range(len(layer.units)) if first + at in taken]
            model.get_parameter(layer.scale)[own] = 0.0
            first += len(layer.units)


def parameters_left(model: nn.Module, units: UnitMap, gone: Sequence[int]) -> int:
    """The parameters of `model` once these units, with all that belongs to them, are removed."""
    sizes: dict[str, list[int]] = {
        name: list(weight.shape) for name, weight in model.named_parameters()
    }
    for (name, axis), ids in units.axes.items():
        if name in sizes:
            sizes[name][axis] -= int(np.isin(ids, np.asarray(gone, dtype=np.int64)).sum())
    return sum(int(np.prod(shape)) for shape in sizes.values())


def _places(sizes: Tensor) -> Tensor:
    """The place of each size within its layer, in [0, 1)."""
    return sizes.argsort(stable=True).argsort(stable=True).double() / len(sizes)


def _convolves(model: nn.Module, layer: str) -> bool:
    return isinstance(model.get_submodule(layer), nn.Conv2d)
