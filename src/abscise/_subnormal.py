"""Subnormal numbers: so small that many CPUs take a slow path for each of them.

A weight that dies of L2 inside Adam does not become 0: it halves and halves, and ends among them.
"""

import torch
from torch import Tensor


def count_subnormal(tensor: Tensor) -> int:
    """Elements that are not 0 but smaller than the smallest normal number of their type.

    By the bits: comparisons take subnormals as 0 where the CPU flushes them.
    """
    layouts = {
        torch.float64: (torch.int64, 0x7FF0 << 48),
        torch.float32: (torch.int32, 0x7F80 << 16),
        torch.float16: (torch.int16, 0x7C00),
        torch.bfloat16: (torch.int16, 0x7F80),
    }
    if tensor.is_meta or tensor.dtype not in layouts:
        return 0
    integer, exponent = layouts[tensor.dtype]
    magnitude = tensor.detach().contiguous().view(integer) & torch.iinfo(integer).max
    return int(((magnitude > 0) & ((magnitude & exponent) == 0)).sum())
