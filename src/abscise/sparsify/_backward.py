"""Backward passes for several outputs: batched where torch can, one by one where it cannot."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from abscise.sparsify._outputs import cotangents

At = Sequence[Tensor | GradientEdge]


def gradients(logits: Tensor, at: At, ahead: Tensor, *, batched: bool) -> list[Tensor | None]:
    """The gradients at each place, `(passes, ...)`; None where nothing arrives.

    The graph is kept, and no `.grad` is touched.

    Args:
        logits: Where the passes begin.
        at: Leaves or edges.
        ahead: `(passes, *logits.shape)`: what each pass begins with.
        batched: All passes in one, by `torch.vmap`.
    """
    inputs = tuple(at)
    if not inputs:
        return []
    if batched and len(ahead) > 1:
        return list(_grad(logits, inputs, ahead, batched=True))
    each = [_grad(logits, inputs, one, batched=False) for one in ahead]
    return [
        None if parts[0] is None else torch.stack(parts) if len(parts) > 1 else parts[0][None]
        for parts in zip(*each, strict=True)
    ]


def can_batch(logits: Tensor, at: At) -> bool:
    """Has every operation of the graph a batched backward pass? Tried on two passes of zeros."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns where it would go one by one, slowly
        try:
            _ = _grad(logits, tuple(at), logits.new_zeros((2, *logits.shape)), batched=True)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, Warning):
            return False
    return True


def chunks(chosen: Tensor, logits: Tensor, size: int, chunk_bytes: int) -> Iterator[Tensor]:
    """The passes, as many at a time as take about `chunk_bytes`, at least one: cotangents each.

    Args:
        chosen: `(passes, examples)`, as of `picked`.
        logits: What is differentiated.
        size: Elements of the gradients that one pass will give.
        chunk_bytes: For these gradients, and as much again for those between.
    """
    each = 2 * logits.element_size() * (logits.numel() + size)
    passes = max(1, chunk_bytes // each)
    if passes >= chosen.shape[0]:
        yield cotangents(chosen, logits)
        return
    for some in chosen.split(passes):
        yield cotangents(some, logits)


def _grad(
    logits: Tensor, at: tuple[Tensor | GradientEdge, ...], ahead: Tensor, *, batched: bool
) -> tuple[Tensor | None, ...]:
    # A weight that was frozen since the sparsifier was attached has no gradient.
    there = [not isinstance(one, Tensor) or one.requires_grad for one in at]
    places: Any = [one for one, wanted in zip(at, there, strict=True) if wanted]  # edges, too
    if not places:
        return (None,) * len(at)
    found = iter(
        torch.autograd.grad(
            logits, places, ahead, retain_graph=True, allow_unused=True, is_grads_batched=batched
        )
    )
    return tuple(next(found) if wanted else None for wanted in there)
