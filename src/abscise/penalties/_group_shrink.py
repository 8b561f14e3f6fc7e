"""The map of the norm of a row, plain and in a diagonal metric."""

import torch
from torch import Tensor

from abscise.penalties._operators import quick_row_norms, ratio, row_norms

_ROUNDS = 30


def shrink_rows(x: Tensor, step: Tensor) -> Tensor:
    """Of every row of x `(units, size)`, the y of least sum (y - x)^2 / (2 step) + ||y||.

    `step` is a scalar, or one step size per element.
    """
    if step.shape:
        return shrink_rows_in_metric(x, step)
    norms = quick_row_norms(x)
    return x * ratio((norms - step).clamp(min=0), norms)


def shrink_rows_(x: Tensor, step: Tensor) -> Tensor:
    """`shrink_rows` that may overwrite x; returns the result."""
    if step.shape:
        return shrink_rows_in_metric(x, step)
    norms = quick_row_norms(x)
    return x.mul_(ratio((norms - step).clamp(min=0), norms))


def shrink_rows_in_metric(x: Tensor, step: Tensor) -> Tensor:
    """`shrink_rows` for one step size per element, by the norm of the result.

    y = norm x / (norm + step), where F = 1, F^2 = sum x^2 / (norm + step)^2; a row is 0 if F is at
    most 1 at norm = 0. 1 / F is concave and rises with the norm, so Newton's iteration on it passes
    from any start to a norm that is not above the solution, and from there rises to it.
    """
    norm = _solve(x, step, _halley(x, step, quick_row_norms(x)), 0)
    y = (step + norm).reciprocal_().mul_(x).mul_(norm)
    if not x.is_meta and bool((lost := ~norm.isfinite()[:, 0]).any()):
        y[lost] = _from_below(x[lost], step[lost])
    return y


def _terms(x: Tensor, step: Tensor, norm: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """F, its negative slope times F, and the terms of that slope."""
    inverse = (step + norm).reciprocal_()
    terms = x * inverse
    slopes = inverse.mul_(terms)
    length = torch.linalg.vector_norm(terms, dim=1, keepdim=True)
    return length, terms.mul_(slopes).sum(1, keepdim=True), slopes


def _halley(x: Tensor, step: Tensor, norm: Tensor) -> Tensor:
    """A start near the solution: one step of third order from the norm of x, which is above it."""
    length, slope, slopes = _terms(x, step, norm)
    spread = torch.linalg.vector_norm(slopes, dim=1, keepdim=True) * length / slope
    bend = 1.5 * (1 - length) * (spread.square() - 1)
    start = norm - length.square() * ((1 - length) / slope) / (1 + bend)
    return torch.where(slope == 0, 0.0, start.clamp(min=0))


def _solve(x: Tensor, step: Tensor, norm: Tensor, rounds: int) -> Tensor:
    """Newton's iteration, on those rows alone that have not converged; not finite where it fails.

    The relative error after a step is at most 1.5 times the square of that before, so a step of a
    quarter of the root of the rounding is the last.
    """
    eps = torch.finfo(x.dtype).eps
    while rounds < _ROUNDS and not x.is_meta:
        length, slope, _ = _terms(x, step, norm)
        moved = (norm + length.square() * ((length - 1) / slope)).clamp(min=0)
        moved = torch.where(slope == 0, 0.0, moved)
        near = (moved - norm).abs() <= 0.25 * eps**0.5 * moved
        open_ = ~(near | ((length - 1).abs() <= 16 * eps) | moved.isnan())[:, 0]
        left = int(open_.sum())
        norm, rounds = moved, rounds + 1
        if left == 0:
            return norm
        if left <= len(x) // 2:
            norm[open_] = _solve(x[open_], step[open_], norm[open_], rounds)
            return norm
    return torch.full_like(norm, torch.nan)


def _from_below(x: Tensor, step: Tensor) -> Tensor:
    """The result for any numbers: steps of 0, or twenty orders apart.

    From a lower bound at which no term is above 1, Newton's iteration needs three to seven steps.
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
