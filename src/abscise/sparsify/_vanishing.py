"""The strength of a decay, from the number of steps in which a weight is to vanish."""

import math

import torch
from torch import nn

from abscise._schedules import check_number
from abscise.sparsify._smallest import nth
from abscise.sparsify._weights import matches, named_tensors


def strength_to_vanish(size: float, threshold: float, steps: int) -> float:
    """The strength at which a weight of `size` without gradient is below `threshold` in `steps`.

    ln(size / threshold) / steps, for w <- w - strength * w: since 1 - x < exp(-x), the weight is
    below the threshold after `steps`. Weights that the loss needs do not follow it.

    Args:
        size: Where the weight begins, such as `typical_size(model)`.
        threshold: Below which it counts as gone, as in `Thresholding`; less than `size`.
        steps: Optimizer steps: epochs wished times batches of an epoch.

    Raises:
        TypeError: An argument is no number.
        ValueError: The threshold is not between 0 and the size, or the steps are too few.

    >>> strength = strength_to_vanish(0.05, 1e-3, steps=1000)
    >>> 0.9e-3 < 0.05 * (1 - strength) ** 1000 < 1e-3
    True
    """
    for what, value in (("size", size), ("threshold", threshold), ("steps", steps)):
        check_number("strength_to_vanish", value, what)
    if not 0 < threshold < size < math.inf:
        message = (
            f"strength_to_vanish: threshold must be > 0 and below the size {size!r}, "
            f"got {threshold!r}"
        )
        raise ValueError(message)
    least = math.floor(math.log(size / threshold)) + 1
    if steps < least:
        message = (
            f"strength_to_vanish: from {size:g} to {threshold:g} takes at least {least} steps, "
            f"got {steps!r}"
        )
        raise ValueError(message)
    return math.log(size / threshold) / steps


def typical_size(
    model: nn.Module, *, quantile: float | None = None, where: tuple[str, ...] = ("*",)
) -> float:
    """The root mean square of a model's weights, or a quantile of their magnitudes.

    Of all parameters of two dimensions and more; what is exactly 0 does not count.

    Args:
        model: Is not changed.
        quantile: In (0, 1]: the size that this share of the weights does not exceed.
        where: Name patterns of parameters or layers, for the size in some layers.

    Raises:
        TypeError: The quantile is no number.
        ValueError: There is no weight that is not 0, or the quantile is impossible.
    """
    if quantile is not None:
        check_number("typical_size", quantile, "quantile")
    if quantile is not None and not 0 < quantile <= 1:
        message = f"typical_size: quantile must be in (0, 1], got {quantile!r}"
        raise ValueError(message)
    found = [
        parameter.detach().flatten()
        for name, parameter in named_tensors(model).items()
        if isinstance(parameter, nn.Parameter) and parameter.ndim >= 2 and matches(name, where)
    ]
    sizes = torch.cat(found).abs() if found else torch.empty(0)
    sizes = sizes[sizes > 0]
    if not len(sizes):
        message = f"typical_size: {', '.join(where)} names no weight that is not 0"
        raise ValueError(message)
    if quantile is None:
        return sizes.double().square().mean().sqrt().item()
    return nth(sizes, math.ceil(quantile * len(sizes))).item()
