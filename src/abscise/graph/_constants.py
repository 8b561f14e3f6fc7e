"""Pass 2, constants: which elements of which values do not depend on the inputs.

Three states: unknown; *fixed* (the same for every input of this shape); *constant* (one value
per unit, at
any shape). All inputs are unknown. Values are float64, whatever the model's dtype. Nothing is
signalled by NaN; a result that is not finite becomes unknown.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from abscise.graph._compact import compress
from abscise.graph._program import Program

UNKNOWN, FIXED, CONSTANT = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Known:
    """Compact tensors: the state of each element (int8), its value (float64, 0 if unknown)."""

    kind: Tensor
    value: Tensor

    @property
    def zero(self) -> Tensor:
        """Where the element is exactly 0 at any input shape (compact, boolean)."""
        return (self.kind == CONSTANT) & (self.value == 0)


class ConstantPass:
    """The state of the pass: what rules read and write."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._known: dict[int, Known | None] = {}
        self._nonzero: dict[tuple[int, int, int], Tensor] = {}
        self._remembered: dict[tuple[str | int, ...], Tensor] = {}

    def known(self, value: int) -> Known | None:
        """What is known of a value; None where nothing is."""
        if value not in self._known:
            data = self.program.values[value].data
            self._known[value] = None if data is None else self._of_data(data)
        return self._known[value]

    def give(self, value: int, kind: Tensor, content: Tensor) -> None:
        """Record what is known of a value; results that are not finite become unknown."""
        finite = torch.isfinite(content)
        if not bool(finite.all()):
            kind = torch.where(finite, kind, torch.zeros((), dtype=kind.dtype))
            content = torch.where(finite, content, torch.zeros((), dtype=content.dtype))
        if bool((kind > UNKNOWN).any()):
            self._known[value] = Known(compress(kind), compress(content))

    def tensor(self, value: int) -> Tensor | None:
        """The whole tensor where every element is known, in its own dtype for plain parameters."""
        entry = self.program.values[value]
        if entry.data is not None:
            return entry.data
        known = self.known(value)
        if known is None or bool((known.kind == UNKNOWN).any()):
            return None
        return known.value.expand(entry.shape)

    def nonzero(self, value: int, out_axis: int, in_axis: int) -> Tensor | None:
        """Of a weight: (outputs, inputs) -> is any element of the kernel different from 0.0?"""
        key = (value, out_axis, in_axis)
        if key not in self._nonzero:
            weight = self.tensor(value)
            if weight is None:
                return None
            mask = weight.ne(0).movedim((out_axis, in_axis), (0, 1))
            self._nonzero[key] = (mask.flatten(2).any(2) if mask.ndim > 2 else mask).cpu()
        return self._nonzero[key]

    def remember(self, key: tuple[str | int, ...], make: Callable[[], Tensor]) -> Tensor:
        """What `make` gives, computed once."""
        if key not in self._remembered:
            self._remembered[key] = make()
        return self._remembered[key]

    @staticmethod
    def _of_data(data: Tensor) -> Known | None:
        if data.is_meta or data.is_complex():
            return None
        value = compress(data.detach().cpu()).to(torch.float64)
        kind = torch.full([1] * data.ndim, CONSTANT, dtype=torch.int8)
        return Known(kind, value)


def channel_view(known: Known, dim: int, size: int) -> tuple[Tensor, Tensor]:
    """Along `dim`: state and value of each index; a value that varies elsewhere is UNKNOWN.

    Returns:
        kind: int8 vector of `size`; value: float64 vector of `size`, 0 where the kind is UNKNOWN.
    """
    kind = _reduce(known.kind, dim, size, "amin")
    low = _reduce(known.value, dim, size, "amin")
    high = _reduce(known.value, dim, size, "amax")
    kind = torch.where(low == high, kind, torch.zeros((), dtype=kind.dtype))
    return kind, torch.where(kind > UNKNOWN, low, torch.zeros((), dtype=low.dtype))


def _reduce(tensor: Tensor, dim: int, size: int, how: str) -> Tensor:
    others = [place for place in range(tensor.ndim) if place != dim]
    function: Any = getattr(torch, how)
    reduced = function(tensor, others) if others else tensor
    return reduced.expand(size)
