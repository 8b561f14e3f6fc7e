"""Flushing: a training whose units die runs at full speed, wherever it runs."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from abscise._subnormal import count_subnormal

_SUBNORMAL = 2e-39


@contextmanager
def flushing() -> Iterator[None]:
    """Inside, this thread takes subnormal numbers as 0; afterwards as before.

    Weights that die shrink until they are subnormal, which makes many CPUs several times slower.
    Flushed, they stall near 1e-30 in Adam instead: dead all the same, at no threshold of ours
    another count. Threads that torch has started before keep their own setting.
    """
    before = _flushes()
    _ = torch.set_flush_denormal(True)
    try:
        yield
    finally:
        _ = torch.set_flush_denormal(before)


def _flushes() -> bool:
    """The setting of this thread: torch can set it, but not tell it."""
    halved = torch.full((1,), 2 * _SUBNORMAL) * 0.5
    return count_subnormal(halved) == 0
