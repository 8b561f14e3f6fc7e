"""Pass 1, labels: which indices of which axes live and die together.

Every axis of every parameter and buffer has a fresh label per index (int64, never cast: rule
R3). A value
carries *layers*: compact label tensors, one for each group of dimensions that units run along.
Rules move layers, join them (element-wise operations) and consume them (contractions).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from abscise.graph._compact import align, compress, varying
from abscise.graph._program import Program, Step

Layers = tuple[Tensor, ...]
Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Balance:
    """Rows of labels of which an equal number must stay (chunks; channels of a group).

    Args:
        rows: Label arrays, one per part. For a grouped convolution `rows` are its output groups.
        inputs: Labels of the input groups of a grouped convolution (None: its inputs are no units);
            a group that is dead on both sides may go whole.
        step: Position of the step in the program.
    """

    rows: tuple[Ids, ...]
    step: int
    inputs: tuple[Ids, ...] | None = None
    grouped: bool = False


@dataclass(frozen=True, slots=True)
class Labels:
    """The result of the label pass.

    Args:
        layers: value id -> its layers, as unit ids.
        roots: label -> unit id.
        pins: unit id -> reason.
        axes: (value id of a parameter, dimension) -> its labels.
        writers: (step position, labels of the outputs) of every contraction.
    """

    layers: Mapping[int, Layers]
    roots: Ids
    pins: Mapping[int, str]
    axes: Mapping[tuple[int, int], Ids]
    writers: tuple[tuple[int, Ids], ...]
    balances: tuple[Balance, ...]

    def units(self, layer: Tensor) -> Ids:
        """Unit ids of a layer, -1 where there is none; same shape."""
        ids: Ids = layer.numpy()
        return ids

    @property
    def candidates(self) -> NDArray[np.bool_]:
        """Unit id -> is it written by a contraction and not pinned?"""
        found = np.zeros(len(self.roots), dtype=bool)
        for _, labels in self.writers:
            found[self.roots[labels[labels >= 0]]] = True
        if self.pins:
            found[np.fromiter(self.pins, dtype=np.int64)] = False
        return found


def unit_ids(roots: Ids, labels: Ids) -> Ids:
    """`roots[labels]`, with -1 kept."""
    return np.where(labels >= 0, roots[np.maximum(labels, 0)], -1)


class LabelPass:
    """The state of the pass: what rules read and write."""

    def __init__(
        self, program: Program, given: Mapping[tuple[int, int], Ids] | None = None
    ) -> None:
        """With `given`, the axes' labels are not fresh but those of an earlier program."""
        self.program = program
        self.static = program.static
        self.compared = given is not None
        self.position = 0
        self.axes: dict[tuple[int, int], Ids] = {}
        self._layers: dict[int, Layers] = {}
        self._edges: list[tuple[Ids, Ids]] = []
        self._pins: list[tuple[Ids, str]] = []
        self._writers: list[tuple[int, Ids]] = []
        self._balances: list[Balance] = []
        self._count = 0
        for value, entry in enumerate(program.values):
            if entry.data is not None:
                self._label_axes(value, entry.shape, named=entry.name is not None, given=given)
        if given is not None:
            self._count = 1 + max((int(ids.max(initial=-1)) for ids in given.values()), default=-1)

    def layers(self, value: int) -> Layers:
        """The layers of a value; empty where none of its dimensions belongs to units."""
        return self._layers.get(value, ())

    def give(self, value: int, layers: Iterable[Tensor]) -> None:
        """Set the layers of a value."""
        kept = tuple(layers)
        if kept:
            self._layers[value] = kept

    def join(self, left: Tensor, right: Tensor, reason: str) -> None:
        """These labels live and die together, element by element (broadcasting)."""
        a, b = (item.numpy() for item in torch.broadcast_tensors(left, right))
        both = (a >= 0) & (b >= 0)
        if not both.all():
            self.pin(torch.from_numpy(a[~both]), reason)
            self.pin(torch.from_numpy(b[~both]), reason)
        self._edges.append((a[both], b[both]))

    def pin(self, labels: Tensor, reason: str) -> None:
        """These labels may not be removed."""
        ids = labels.numpy().ravel()
        ids = ids[ids >= 0]
        if len(ids):
            self._pins.append((ids, reason))

    def pin_value(self, value: int, reason: str) -> None:
        """No unit of this value may be removed."""
        for layer in self.layers(value):
            self.pin(layer, reason)

    def write(self, labels: Tensor) -> None:
        """The step at hand computes these units."""
        self._writers.append((self.position, labels.numpy().ravel()))

    def balance(self, balance: Balance) -> None:
        """An equal number of each row must stay."""
        self._balances.append(balance)

    def flatten_to(self, layer: Tensor, dim: int, reason: str) -> Tensor:
        """Join a layer over all dimensions but `dim` (rule R5); it then varies along `dim` only."""
        for other in varying(layer):
            if other != dim:
                first = layer.narrow(other, 0, 1)
                self.join(layer, first, reason)
                layer = first
        return layer

    @property
    def edge_count(self) -> int:
        """How many joins there are so far."""
        return len(self._edges)

    @property
    def pin_count(self) -> int:
        """How many pins there are so far."""
        return len(self._pins)

    def edges_from(self, start: int) -> list[tuple[Ids, Ids]]:
        """The joins since `edge_count` was `start`."""
        return self._edges[start:]

    def pins_from(self, start: int) -> list[Ids]:
        """The labels pinned since `pin_count` was `start`."""
        return [labels for labels, _ in self._pins[start:]]

    def finish(self) -> Labels:
        """Close the pass: user outputs are pinned, products made (rule R2), labels resolved."""
        for value in self.program.outputs:
            self.pin_value(value, "output of the model")
        roots = components(self._count, self._edges)
        while self._split_products(roots):
            roots = components(self._count, self._edges)
        pins: dict[int, str] = {}
        for labels, reason in self._pins:
            for unit in np.unique(roots[labels]).tolist():
                _ = pins.setdefault(unit, reason)
        resolved = {
            value: tuple(torch.from_numpy(unit_ids(roots, layer.numpy())) for layer in layers)
            for value, layers in self._layers.items()
        }
        return Labels(
            layers=resolved,
            roots=roots,
            pins=pins,
            axes=self.axes,
            writers=tuple(self._writers),
            balances=tuple(self._balances),
        )

    def _label_axes(
        self,
        value: int,
        shape: tuple[int, ...],
        *,
        named: bool,
        given: Mapping[tuple[int, int], Ids] | None,
    ) -> None:
        layers = []
        for dim, size in enumerate(shape):
            if given is not None and (value, dim) in given:
                ids = given[value, dim]
            elif size > 1 and given is None:
                ids = np.arange(self._count, self._count + size, dtype=np.int64)
                self._count += size
            else:
                continue
            self.axes[value, dim] = ids
            layer = torch.from_numpy(ids).reshape(
                [-1 if d == dim else 1 for d in range(len(shape))]
            )
            layers.append(layer)
            if not named:
                self.pin(layer, "a tensor that is neither a parameter nor a buffer fixes this size")
        self.give(value, layers)

    def _split_products(self, roots: Ids) -> bool:
        """Join the first units that still vary along several dimensions at once (rule R2)."""
        for value, layers in self._layers.items():
            for layer in layers:
                if len(varying(layer)) < 2:
                    continue
                units = compress(torch.from_numpy(unit_ids(roots, layer.numpy())))
                dims = varying(units)
                if len(dims) > 1:
                    name = self.program.values[value].name or "a view"
                    _ = self.flatten_to(units, dims[-1], f"{name} splits these units unevenly")
                    return True  # what follows may be a product by now
        return False


def components(count: int, edges: list[tuple[Ids, Ids]]) -> Ids:
    """Label -> smallest label of its connected component."""
    parent = np.arange(count, dtype=np.int64)
    if not edges:
        return parent
    left = np.concatenate([a for a, _ in edges])
    right = np.concatenate([b for _, b in edges])
    while True:
        a, b = parent[left], parent[right]
        open_ = a != b
        if not open_.any():
            return parent
        low, high = np.minimum(a, b)[open_], np.maximum(a, b)[open_]
        np.minimum.at(parent, high, low)
        while True:
            jumped = parent[parent]
            if (jumped == parent).all():
                break
            parent = jumped


def join_elementwise(
    ctx: LabelPass, step: Step, operands: list[tuple[Layers, tuple[int, ...]]], rank: int
) -> Layers:
    """Layers of the result of an operation that combines its operands element by element.

    Operands broadcast; a size-1 dimension that is broadcast joins nothing (rule R4). Where a
    full-sized operand carries no units along a layer's dimensions, the layer's units are pinned.
    """
    operands = [(tuple(align(t, rank) for t in layers), shape) for layers, shape in operands]
    sizes = [(1,) * (rank - len(shape)) + tuple(shape) for _, shape in operands]
    result: list[Tensor] = []
    for place, (layers, _) in enumerate(operands):
        for layer in layers:
            dims = varying(layer)
            if not dims:
                # In a comparison the last unit of its axis may be broadcast.
                if ctx.compared or all(size == sizes[place] for size in sizes):
                    _merge_scalar(ctx, result, layer)
                continue
            for other, (others, _) in enumerate(operands):
                wide = any(sizes[other][dim] > 1 for dim in dims)
                if other != place and wide and not _overlapping(others, dims):
                    ctx.pin(layer, f"combined with a tensor of fixed size by {step.where}")
            _merge(ctx, step, result, layer)
    return tuple(result)


def _overlapping(layers: Iterable[Tensor], dims: tuple[int, ...]) -> list[Tensor]:
    return [layer for layer in layers if set(varying(layer)) & set(dims)]


def _merge(ctx: LabelPass, step: Step, result: list[Tensor], layer: Tensor) -> None:
    for place, other in enumerate(result):
        if set(varying(other)) & set(varying(layer)):
            ctx.join(other, layer, f"combined with elements of no unit by {step.where}")
            if other.numel() < layer.numel():
                result[place] = layer
            return
    result.append(layer)


def _merge_scalar(ctx: LabelPass, result: list[Tensor], layer: Tensor) -> None:
    for other in result:
        if not varying(other):
            ctx.join(other, layer, "combined with an element of no unit")
            return
    result.append(layer)
