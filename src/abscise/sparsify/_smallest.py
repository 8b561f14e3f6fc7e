"""The k smallest of some scores: exactly k, ties by their order, the same on every rank."""

import torch
from torch import Tensor


def smallest(scores: Tensor, count: int) -> Tensor:
    """`(n,)`, bool: the `count` smallest of `scores`; of equal ones the first.

    Raises:
        ValueError: A score is NaN.
    """
    if bool(scores.isnan().any()):
        message = "the smallest weights cannot be told: some are NaN"
        raise ValueError(message)
    if count <= 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    limit = nth(scores, count)
    chosen = scores < limit
    equal = (scores == limit).nonzero().flatten()
    chosen[equal[: count - int(chosen.sum())]] = True
    return chosen


def nth(scores: Tensor, count: int) -> Tensor:
    """The `count`-th smallest, counted from 1; a scalar."""
    if scores.is_cpu:  # selects, where sorting takes ten times as long
        return scores.kthvalue(count).values
    return scores.sort().values[count - 1]  # kthvalue is refused by deterministic algorithms there
