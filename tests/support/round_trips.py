"""Tensors with zeros among their elements, and equality by bits: -0.0 is not 0.0."""

import numpy as np
import torch
from torch import Tensor


def sparse_tensor(dtype: torch.dtype, shape: tuple[int, ...], share: float, seed: int) -> Tensor:
    """Random bits where not 0, so also -0.0, NaNs with payloads, infinities and subnormals."""
    generator = np.random.default_rng(seed)
    count = int(np.prod(shape))
    if dtype is torch.bool:
        content = generator.integers(0, 2, count, np.uint8)
    else:
        content = generator.integers(0, 256, count * dtype.itemsize, np.uint8)
    tensor = torch.from_numpy(content).view(dtype) if count else torch.zeros(0, dtype=dtype)
    kept = torch.from_numpy(generator.random(count) < share)
    whole = tensor.view(torch.uint8).view(count, -1) if count else tensor
    if count:
        whole[~kept] = 0
    return tensor.view(shape)


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Equal dtype, shape and every bit."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    flat = (
        it.detach().resolve_conj().resolve_neg().contiguous().view(-1).view(torch.uint8)
        for it in (one, other)
    )
    return torch.equal(*flat)
