"""The map of the norm of a row, plain and in a diagonal metric."""

import torch
from torch import Tensor

from abscise.penalties._operators import ratio, row_norms


def shrink_rows(x: Tensor, step: Tensor) -> Tensor:
    """Of every row of x `(units, size)`, the y of least sum (y - x)^2 / (2 step) + ||y||.

    `step` is a scalar, or one step size per element.
    """
    if step.shape:
        return shrink_rows_in_metric(x, step)
    norms = row_norms(x)
    return x * ratio((norms - step).clamp(min=0), norms)


def shrink_rows_in_metric(x: Tensor, step: Tensor) -> Tensor:
    """`shrink_rows` for one step size per element, by the norm of the result.

    y = norm x / (norm + step), where sum x^2 / (norm + step)^2 = 1; a row is 0 if its sum at
    norm = 0 is at most 1. One over the root of that sum is concave and rises with the norm, so
    Newton's iteration on it, begun below the solution, rises to it and never passes it: three to
    seven times, whatever the steps.
    """
    scale = x.abs().amax(1, keepdim=True)
    scale = scale.masked_fill(scale == 0, 1.0)
    unit, steps = x / scale, step / scale
    norm = _lower_bound(unit, steps)
    near = 1 + 4 * torch.finfo(x.dtype).eps
    moved = _newton(unit, steps, norm)
    while not bool(((moved <= near * norm) | moved.isnan()).all()):
        norm, moved = moved, _newton(unit, steps, moved)
    return x * ratio(norm, norm + steps)


def _lower_bound(x: Tensor, step: Tensor) -> Tensor:
    """A norm below the solution, at which no term of the sum is above 1."""
    longest = row_norms(x) - step.amax(1, keepdim=True)
    largest = (x.abs() - step).amax(1, keepdim=True)
    return torch.maximum(longest, largest).clamp_(min=0)


def _newton(x: Tensor, step: Tensor, norm: Tensor) -> Tensor:
    """The next, larger norm."""
    shifted = norm + step
    terms = ratio(x, shifted)
    length = torch.linalg.vector_norm(terms, dim=1, keepdim=True)
    slope = (ratio(terms, length).square() / shifted.masked_fill(shifted == 0, 1.0)).sum(
        1, keepdim=True
    )
    return torch.maximum(norm, norm + ratio(length - 1, slope))
