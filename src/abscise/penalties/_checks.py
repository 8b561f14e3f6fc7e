"""What weights, steps and parameters of a penalty must be, and how they are read."""

import math
from numbers import Real

import torch
from torch import Tensor

LARGEST = 2.0**100  # 1.3e30; exact in bfloat16 and float32, and far from their overflow
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_weights(name: str, weights: Tensor, *, rows: bool) -> None:
    """Refuse weights that no penalty works on, or without rows where rows are needed.

    Raises:
        ValueError: The dtype is not one of four floating-point types, or there are no rows.
    """
    if weights.dtype not in _DTYPES:
        message = (
            f"{name}: weights must be float16, bfloat16, float32 or float64, got {weights.dtype}"
        )
        raise ValueError(message)
    if rows and weights.ndim != 2:
        message = (
            f"{name}: weights must have the shape (units, size), got {tuple(weights.shape)}: "
            "reshape them to one row per unit"
        )
        raise ValueError(message)


def widened(weights: Tensor) -> Tensor:
    """`weights` in the dtype of the computation, float32 at least; itself where it fits."""
    return weights if weights.dtype == torch.float64 else weights.to(torch.float32)


def read_step(name: str, step: float | Tensor, weights: Tensor) -> Tensor:
    """The step as a scalar float64 tensor on the CPU, or as a tensor of the weights' shape.

    A scalar tensor on the CPU mixes with tensors of any device and dtype, like a number.

    Raises:
        ValueError: A step is negative, too large or NaN, or has another shape than the weights.
    """
    if not isinstance(step, Tensor) or step.ndim == 0:
        if not isinstance(step, Tensor):
            check_number(name, "step", step)
        number = float(step)
        _check_range(name, number, number)
        return torch.tensor(number, dtype=torch.float64, device="cpu")
    if step.shape != weights.shape:
        message = (
            f"{name}: step must be a number or have the weights' shape {tuple(weights.shape)}, "
            f"got the shape {tuple(step.shape)}"
        )
        raise ValueError(message)
    if step.dtype not in _DTYPES:
        message = f"{name}: step must be a floating-point tensor, got {step.dtype}"
        raise ValueError(message)
    if step.numel():
        low, high = torch.aminmax(step.detach())
        _check_range(name, float(low), float(high))
    return step.detach()


def _check_range(name: str, low: float, high: float) -> None:
    if not (low >= 0 and high <= LARGEST):
        wrong = high if low >= 0 else low
        message = f"{name}: step must be in [0, 2^100], got {wrong!r}"
        raise ValueError(message)


def check_number(name: str, field: str, value: object) -> None:
    """Refuse a parameter that is no real number; booleans are none.

    Raises:
        TypeError: The text names penalty, parameter and value.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        message = f"{name}: {field} must be a number, got {value!r:.60}"
        raise TypeError(message)


def check_above(name: str, field: str, value: float, bound: float) -> None:
    """Refuse a parameter that is not finite and above `bound`.

    Raises:
        ValueError: The text names penalty, parameter, rule and value.
    """
    check_number(name, field, value)
    if not bound < value < math.inf:
        message = f"{name}: {field} must be > {bound:g} and finite, got {value!r}"
        raise ValueError(message)


def check_share(name: str, field: str, value: float) -> None:
    """Refuse a parameter outside [0, 1].

    Raises:
        ValueError: The text names penalty, parameter, rule and value.
    """
    check_number(name, field, value)
    if not 0 <= value <= 1:
        message = f"{name}: {field} must be in [0, 1], got {value!r}"
        raise ValueError(message)


def check_shape_parameter(name: str, value: float) -> None:
    """Refuse a parameter `a` of transformed l1 for which arithmetic cannot tell it from a limit.

    Raises:
        ValueError: The text names penalty, parameter, rule, value and what to use instead.
    """
    check_number(name, "a", value)
    if not 1 / LARGEST <= value <= LARGEST:
        message = (
            f"{name}: a must be in [2^-100, 2^100], got {value!r}: "
            "the limits are l0 for a -> 0 and l1 for a -> infinity"
        )
        raise ValueError(message)
