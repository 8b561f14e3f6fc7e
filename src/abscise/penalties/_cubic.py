"""The map of transformed l1: the largest root of a cubic, in few passes and without masks.

For x >= 0 and a step t the root is y = x - (a + x) h with h (1 - h)^2 = p and
p = t a (a + 1) / (a + x)^3, at most 4/27 wherever y is not 0. So h = 4/3 sin^2(asin(r) / 3) with
r = sqrt(27/4 p): an asin of a small number, where the published acos of one near 1 loses the
shrinkage. On a CPU bool tensors, and `where`, cost as much as ten passes of arithmetic, so what
dies is found by numbers: y rises with x, and what is not above the value to which it jumps is 0.
"""

import math

import numpy as np
import torch
from numpy.polynomial import chebyshev
from torch import Tensor

_SERIES = (1, 2, 7, 30)
"""h = p + 2 p^2 + 7 p^3 + 30 p^4 + ..., by Lagrange's inversion."""
_LARGEST = 1e38  # finite in float32


def shrink_transformed_l1(x: Tensor, a: float, step: Tensor) -> Tensor:
    """Of every element, the y of least (y - x)^2 / 2 + step * transformed_l1(y).

    `step` is a scalar on the CPU, or a tensor that broadcasts to the shape of x. What becomes 0 may
    be -0.0. No power is formed that could overflow.
    """
    if step.shape:
        return _by_steps(x, a, step)
    number = float(step)
    if number == 0:
        return x.clone()
    terms, scale, jump = numbers_of(a, number, x.dtype)
    y = x.abs()
    shifted = y + a
    if terms:
        h = _series(shifted.mul(scale).reciprocal_().pow_(3), terms)
    else:
        h = _from_sine(shifted.mul(scale).rsqrt_().pow_(3))
    _ = y.addcmul_(shifted, h, value=-1)
    return torch.threshold_(y, jump, 0.0).copysign_(x)


def numbers_of(a: float, step: float, dtype: torch.dtype) -> tuple[int, float, float]:
    """What the map needs to know of a step > 0.

    Returns:
        How many terms of the series reach the rounding wherever y is not 0, 0 if too many; the
        inverse cube root of p (a + x)^3, or without a series of 27/4 of it; and the jump.
    """
    eps, largest = torch.finfo(dtype).eps, step * ((a + 1) / a) / a
    enough = [count for count in (1, 2, 3) if _SERIES[count] * largest**count <= eps / 4]
    terms = enough[0] if enough else 0
    scale = _inverse_root(a, step if terms else 6.75 * step)
    return terms, scale, max(0.0, math.sqrt(2 * (a + 1)) * math.sqrt(step) - a)


def shrink_by_polynomial(
    x: Tensor, a: float, terms: int, scale: Tensor, jump: Tensor, root: tuple[float, ...]
) -> Tensor:
    """`shrink_transformed_l1` for code that is compiled, where asin and sin are slow.

    `terms`, `scale` and `jump` are those of `numbers_of`, `root` that of `root_polynomial`.
    """
    y = x.abs()
    shifted = y + a
    inverse = 1 / (shifted * scale)
    cube = inverse * inverse * inverse
    if terms:
        h = _series(cube, terms)
    else:
        square = cube.clamp(max=1.0)
        z = 2 * (1 - square).sqrt() - 1
        h = z * root[-1] + root[-2]
        for coefficient in root[-3::-1]:
            h = h * z + coefficient
        h = h * square
    y = y - shifted * h
    return torch.where(y <= jump, 0.0, y).copysign(x)


def root_polynomial(dtype: torch.dtype) -> tuple[float, ...]:
    """Of h over 27/4 p in 2 sqrt(1 - 27/4 p) - 1, to the rounding of a dtype; constant first.

    Smooth in that variable on the whole of [-1, 1]: interpolation gains a digit every 1.3 degrees.
    """
    degree = 20 if dtype == torch.float64 else 10
    places = chebyshev.chebpts1(degree + 1)
    half = (1 - places) / 2  # of 1 - z, so that nothing cancels near z = 1
    sine = np.sqrt(half * (2 - half))
    values = 4 / 3 * np.square(np.sin(np.arcsin(sine) / 3) / sine)  # no place is z = 1
    series = chebyshev.chebfit(places, values, degree)
    return tuple(float(one) for one in chebyshev.cheb2poly(series))


def _by_steps(x: Tensor, a: float, step: Tensor) -> Tensor:
    y = x.abs()
    shifted = y + a
    root = step.sqrt()
    sine = shifted.mul(_inverse_root(a, 6.75)).rsqrt_().pow_(3).mul_(root)
    _ = y.addcmul_(shifted, _from_sine(sine), value=-1)
    alive = torch.gt(y, _jump(a, step), out=sine)  # as a number: NaN times 0 stays NaN
    return y.mul_(alive).copysign_(x)


def _jump(a: float, step: Tensor) -> Tensor:
    """The value from which y falls to 0; 0 where it falls without a jump."""
    return step.sqrt().mul_(math.sqrt(2 * (a + 1))).sub_(a).clamp_(min=0)


def _series(p: Tensor, terms: int) -> Tensor:
    if terms == 1:
        return p
    h = p.mul(_SERIES[terms - 1])
    for coefficient in _SERIES[terms - 2 :: -1]:
        _ = h.add_(coefficient).mul_(p)
    return h


def _from_sine(sine: Tensor) -> Tensor:
    """The h of sqrt(27/4 p), in place."""
    return sine.clamp_(max=1.0).asin_().mul_(1 / 3).sin_().mul_(2 / math.sqrt(3)).square_()


def _inverse_root(a: float, step: float) -> float:
    """(step a (a + 1))^(-1/3)."""
    root = step ** (1 / 3) * a ** (1 / 3) * (a + 1) ** (1 / 3)
    return min(1 / root, _LARGEST)
