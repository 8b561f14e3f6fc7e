"""The largest threshold that a validation loss allows: bisection over the ranks of the weights."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from abscise._schedules import check_number, check_whole
from abscise.sparsify._slices import Slice
from abscise.sparsify._sparsifier import Validate


@dataclass(frozen=True, slots=True)
class Bisection:
    """The threshold is looked for whenever the validation loss has stopped falling.

    It is the largest at which the loss stays <= (1 + tolerance) * the best since the last time; a
    best loss below 0 may be missed by as large a share of its size.

    Args:
        tolerance: >= 0.
        plateau: Checks without a new best loss before the search.
        evaluations: Of the validation set, in one search; 20 find it to a millionth of the weights.
    """

    tolerance: float = 0.05
    plateau: int = 3
    evaluations: int = 20

    def __post_init__(self) -> None:
        check_number("Bisection", self.tolerance, "tolerance")
        if not 0 <= self.tolerance < math.inf:
            message = f"Bisection: tolerance must be >= 0 and finite, got {self.tolerance!r}"
            raise ValueError(message)
        for name, value in (("plateau", self.plateau), ("evaluations", self.evaluations)):
            check_whole("Bisection", value, name, 1)


def largest_threshold(
    pieces: Sequence[Slice],
    masks: Mapping[str, Tensor],
    how: Bisection,
    limit: float,
    validate: Validate,
) -> float:
    """The largest threshold that leaves the loss within the limit; the weights are as before.

    Thresholds are magnitudes of weights that are not held at 0, so that at least one is left.
    """
    sizes = torch.cat([_alive(piece, masks) for piece in pieces]).sort().values
    before = [piece.parameter.detach().clone() for piece in pieces]

    def allowed(rank: int) -> bool:
        for piece, values in zip(pieces, before, strict=True):
            small = values.abs() < sizes[rank]
            _ = piece.parameter.detach().copy_(values.masked_fill(small, 0.0))
        loss, _ = validate()
        return float(loss) <= limit

    try:
        rank = largest_allowed(allowed, len(sizes), how.evaluations)
    finally:
        for piece, values in zip(pieces, before, strict=True):
            _ = piece.parameter.detach().copy_(values)
    return sizes[rank].item() if len(sizes) else 0.0


def largest_allowed(allowed: Callable[[int], bool], count: int, evaluations: int) -> int:
    """The largest rank in [0, count) that is allowed, if all below an allowed one are.

    Rank 0 is allowed without asking. What is returned was allowed, whatever the others are.

    Args:
        allowed: Is asked at most `evaluations` times.
        count: How many ranks.
        evaluations: With fewer than log2(count), the answer is count / 2^evaluations too small at
            most.

    >>> largest_allowed(lambda rank: rank <= 700, 1000, 20)
    700
    """
    low, beyond = 0, max(count, 1)
    while beyond - low > 1 and evaluations > 0:
        middle = (low + beyond) // 2
        evaluations -= 1
        if allowed(middle):
            low = middle
        else:
            beyond = middle
    return low


def _alive(piece: Slice, masks: Mapping[str, Tensor]) -> Tensor:
    sizes = piece.parameter.detach().abs().flatten()
    return sizes[~masks[piece.name].flatten()] if piece.name in masks else sizes
