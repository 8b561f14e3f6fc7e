"""Pass 3, liveness: which elements of which values something downstream reads.

Backward over the steps, boolean at every element (no gradients, no counts). An element is needed
when a
user output, or a needed element, can tell its value. A removable constant that its reader can
take over
is *excused*: it is not needed there as long as its unit is not kept.
"""

from collections.abc import Collection, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from abscise.graph._compact import align, any_to, varying
from abscise.graph._constants import ConstantPass
from abscise.graph._labels import Labels
from abscise.graph._program import Program


class LivenessPass:
    """The state of one backward pass, for a given set of kept units."""

    def __init__(
        self,
        program: Program,
        labels: Labels,
        constants: ConstantPass,
        kept: NDArray[np.bool_],
        excused: Mapping[int, Tensor],
        demanded: Mapping[int, Tensor],
    ) -> None:
        """`excused` and `demanded`: step position -> boolean vector over that contraction's inputs.

        A demanded channel is read in any case: it carries the constants of others (rule R11).
        """
        self.program = program
        self.labels = labels
        self.constants = constants
        self.position = 0
        self._static = program.static
        self._kept = kept
        self._excused = excused
        self._demanded = demanded
        self._needed: dict[int, Tensor] = {}
        self._held = np.zeros(len(labels.roots), dtype=bool)
        for value in program.outputs:
            self.need_all(value)

    def needed(self, value: int) -> Tensor | None:
        """Compact mask of the needed elements; None where there is none."""
        return self._needed.get(value)

    def need(self, value: int, mask: Tensor) -> None:
        """Some elements of a value are read."""
        rank = len(self.program.values[value].shape)
        mask = align(mask, rank) if mask.ndim < rank else mask
        found = self._needed.get(value)
        if found is not None:
            mask = found | mask
        if bool(mask.any()):
            self._needed[value] = mask

    def need_all(self, value: int) -> None:
        """Every element of a value is read."""
        rank = len(self.program.values[value].shape)
        self._needed[value] = torch.ones([1] * rank, dtype=torch.bool)

    def excused(self, units: Tensor) -> Tensor:
        """Input channels of the contraction at hand that may go, given the units they belong to."""
        may_go = self._excused.get(self.position)
        if may_go is None:
            return torch.zeros(units.shape, dtype=torch.bool)
        gone = ~torch.from_numpy(self._kept)[units.clamp(min=0)] & (units >= 0)
        return may_go & gone

    def demanded(self, size: int) -> Tensor:
        """Input channels of the contraction at hand that must keep their value."""
        found = self._demanded.get(self.position)
        return torch.zeros(size, dtype=torch.bool) if found is None else found

    def staying(self, value: int) -> Tensor:
        """Compact mask of the elements that stay in the compacted model."""
        rank = len(self.program.values[value].shape)
        mask = torch.ones([1] * rank, dtype=torch.bool)
        for layer in self.labels.layers.get(value, ()):
            mask = mask & self._stays(layer)
        return mask

    def hold_nonzero(self, value: int, dims: Collection[int]) -> None:
        """A weight is reduced along `dims`: units with an element there that is not zero stay."""
        known = self.constants.known(value)
        layers = self.labels.layers.get(value, ())
        for layer in layers:
            if not set(varying(layer)) & set(dims):
                continue
            rank = len(self.program.values[value].shape)
            mask = torch.ones([1] * rank, dtype=torch.bool) if known is None else ~known.zero
            for other in layers:
                # What is reduced with it counts there even where its own unit goes.
                if other is not layer and not set(varying(other)) & set(dims):
                    mask = mask & self._stays(other)
            units = self.labels.units(layer)
            live = any_to(mask, tuple(layer.shape)).expand(layer.shape).numpy() & (units >= 0)
            self._held[units[live]] = True

    def _stays(self, layer: Tensor) -> Tensor:
        units = torch.from_numpy(self.labels.units(layer))
        return torch.from_numpy(self._kept)[units.clamp(min=0)] | (units < 0)

    def touched_units(self) -> NDArray[np.bool_]:
        """Unit id -> is any of its elements needed?"""
        found = self._held.copy()
        for value, mask in self._needed.items():
            if value in self._static:
                continue  # a weight's elements go with the units that they belong to
            for layer in self.labels.layers.get(value, ()):
                reduced = any_to(mask, tuple(layer.shape))
                units = self.labels.units(layer)
                live = reduced.expand(layer.shape).numpy() & (units >= 0)
                found[units[live]] = True
        return found
