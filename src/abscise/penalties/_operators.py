"""The scalar maps that several penalties are made of. All of them let NaN through."""

import torch
from torch import Tensor

_SMALL = 1e-12  # its square, and that of its inverse, are far inside of float32


def soft(x: Tensor, threshold: Tensor) -> Tensor:
    """Shrink every element towards 0 by `threshold` >= 0: the map of l1.

    What is taken away is the weight itself up to the threshold: two passes, and never -0.0.
    """
    if not threshold.shape:
        return x - x.clamp(-float(threshold), float(threshold))
    return x - x.clamp(-threshold, threshold)


def hard(x: Tensor, threshold: Tensor) -> Tensor:
    """Set every element to 0 that is not larger than `threshold`; zeros may be -0.0."""
    if not threshold.shape:
        return torch.hardshrink(x, float(threshold))
    alive = x.abs() > threshold
    return x * alive  # NaN times 0 stays NaN


def row_norms(x: Tensor) -> Tensor:
    """The 2-norms along the last dimension, which becomes 1; no square overflows or underflows."""
    largest = x.detach().abs().amax(-1, keepdim=True)  # the infinity norm is ten times slower
    scale = largest.masked_fill(largest == 0, 1.0)
    norms = torch.linalg.vector_norm(x / scale, dim=-1, keepdim=True) * scale
    return norms.clamp(max=torch.finfo(x.dtype).max)


def quick_row_norms(x: Tensor) -> Tensor:
    """`row_norms` without a gradient, in one pass where nothing can overflow or underflow."""
    norms = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    if x.is_cpu and float(norms.amin()) > _SMALL and float(norms.amax()) < 1 / _SMALL:
        return norms
    return row_norms(x)


def ratio(part: Tensor, whole: Tensor) -> Tensor:
    """`part / whole`, and 0 where both are 0."""
    return part / whole.masked_fill(whole == 0, 1.0)


def transformed_l1(x: Tensor, a: float) -> Tensor:
    """(a + 1) |x| / (a + |x|) of every element."""
    magnitude = x.abs()
    return (a + 1) * (magnitude / (a + magnitude))
