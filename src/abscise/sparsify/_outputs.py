"""Which outputs are differentiated: all, the target's, or one drawn at random."""

from enum import StrEnum
from math import prod

import torch
from torch import Generator, Tensor


class Outputs(StrEnum):
    """Whose derivatives a sensitivity is made of.

    ALL: those of every output, all alike ("unspecific"). TARGET: that of the target's output
    ("specific").
    """

    ALL = "all"
    TARGET = "target"


class Mean(StrEnum):
    """What is averaged before the absolute value is taken.

    EXAMPLES: nothing; absolute values of single examples are averaged, E|.|. BATCH: the derivatives
    of the batch, whose signs cancel: |E.|.
    """

    EXAMPLES = "examples"
    BATCH = "batch"


def check_logits(logits: object) -> Tensor:
    """Refuse what nothing can be differentiated of.

    Raises:
        TypeError: It is no tensor of floating-point numbers.
        ValueError: Its shape is not `(examples, outputs, ...)`, or it does not require grad.
    """
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        got = f"a tensor of {logits.dtype}" if isinstance(logits, Tensor) else type(logits).__name__
        message = (
            f"observe: logits must be a tensor of floating-point numbers, got {got}: pass the "
            "logits themselves, and logits=function to tell where the model's output has them"
        )
        raise TypeError(message)
    if logits.ndim < 2 or 0 in logits.shape:
        message = (
            "observe: logits must have the shape (examples, outputs, ...), none of them 0, got "
            f"{tuple(logits.shape)}"
        )
        raise ValueError(message)
    if not logits.requires_grad:
        message = (
            "observe: the logits do not require grad: call the model outside of no_grad, and "
            "observe what it returns before detach()"
        )
        raise ValueError(message)
    return logits


def check_target(logits: Tensor, target: object) -> Tensor:
    """Refuse what names no output of each example.

    Raises:
        TypeError: It is no tensor of integers.
        ValueError: Its shape is not that of the logits without the outputs, or it is out of range.
    """
    if not isinstance(target, Tensor) or target.is_floating_point() or target.dtype == torch.bool:
        got = f"a tensor of {target.dtype}" if isinstance(target, Tensor) else type(target).__name__
        message = f"observe: target must be a tensor of class indices (integers), got {got}"
        raise TypeError(message)
    shape = (logits.shape[0], *logits.shape[2:])
    if target.shape != shape:
        message = (
            f"observe: target must have the shape {tuple(shape)} for logits of "
            f"{tuple(logits.shape)}, got {tuple(target.shape)}"
        )
        raise ValueError(message)
    low, high = (int(one) for one in torch.aminmax(target))
    if low < 0 or high >= logits.shape[1]:
        found = low if low < 0 else high
        message = f"observe: target must be in 0 .. {logits.shape[1] - 1}, got {found}"
        raise ValueError(message)
    return target


def looks_like_softmax(logits: Tensor) -> bool:
    """Are these probabilities? Their sum is constant, so their derivatives add up to nothing."""
    if logits.shape[1] < 2:
        return False
    values = logits.detach().float()
    inside = (values >= 0) & (values <= 1)
    return bool((inside.all() & ((values.sum(1) - 1).abs() < 1e-2).all()).item())


def picked(
    shape: torch.Size, target: Tensor | None, draw: Generator | None, *, alike: bool
) -> Tensor:
    """Which output of each example is differentiated in each pass: `(passes, examples)`.

    Outputs count along all dimensions of the logits but the first, flattened. The mean over the
    passes is the sensitivity's sum over outputs, or with `draw` its unbiased estimate.

    Args:
        shape: Of the logits.
        target: `(examples, ...)`: only the target's output, at each position; None: all outputs.
        draw: One pass: of these, one is drawn for each example. None: all of them.
        alike: With `draw`: the same one for all examples.
    """
    examples, outputs = shape[0], prod(shape[1:])
    if target is None:
        if draw is not None:
            drawn = torch.randint(outputs, (1, 1 if alike else examples), generator=draw)
            return drawn.expand(1, examples)
        return torch.arange(outputs)[:, None].expand(outputs, examples)
    positions = prod(shape[2:])
    where = torch.arange(positions, device=target.device)
    named = (target.reshape(examples, positions).long() * positions + where).t()
    if draw is None or positions == 1:
        return named
    drawn = torch.randint(positions, (1, 1 if alike else examples), generator=draw)
    return named.gather(0, drawn.expand(1, examples).to(named.device))


def cotangents(chosen: Tensor, logits: Tensor) -> Tensor:
    """`(passes, *logits.shape)`: 1 at the chosen output of each example, else 0."""
    passes, examples = chosen.shape
    zeros = logits.new_zeros((passes, examples, prod(logits.shape[1:])))
    index = chosen.to(logits.device)[..., None]
    return zeros.scatter_(2, index, 1.0).view(passes, *logits.shape)
