"""Compact tensors: what is known of a value is stored with size 1 wherever it does not vary.

A compact tensor has the rank of its value; each of its sizes is 1 or the value's own. Labels,
constants and liveness are all kept so, which is what makes the passes fast.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def compress(tensor: Tensor) -> Tensor:
    """Narrow every dimension along which `tensor` does not vary to size 1."""
    for dim, size in enumerate(tensor.shape):
        if size > 1:
            first = tensor.narrow(dim, 0, 1)
            if tensor.stride(dim) == 0 or bool((tensor == first).all()):
                tensor = first
    return tensor


def varying(tensor: Tensor) -> tuple[int, ...]:
    """The dimensions along which a compact tensor varies."""
    return tuple(dim for dim, size in enumerate(tensor.shape) if size > 1)


def align(tensor: Tensor, rank: int) -> Tensor:
    """Add leading dimensions of size 1, as broadcasting does."""
    return tensor.reshape((1,) * (rank - tensor.ndim) + tuple(tensor.shape))


def any_to(mask: Tensor, shape: Sequence[int]) -> Tensor:
    """Reduce a boolean compact tensor by `any` to where `shape` has size 1; leading dims may go."""
    for _ in range(mask.ndim - len(shape)):
        mask = mask.any(0)
    for dim, size in enumerate(shape):
        if size == 1 and mask.shape[dim] > 1:
            mask = mask.any(dim, keepdim=True)
    return mask


def any_along(mask: Tensor, dims: Iterable[int]) -> Tensor:
    """Reduce by `any` over some dimensions, which stay with size 1."""
    for dim in dims:
        mask = mask.any(dim, keepdim=True)
    return mask


def any_but(mask: Tensor, dim: int) -> Tensor:
    """Reduce by `any` over all dimensions but `dim`; a vector."""
    return any_along(mask, (place for place in range(mask.ndim) if place != dim)).flatten()


def unsqueezed(mask: Tensor, dims: Iterable[int]) -> Tensor:
    """Put dimensions of size 1 back where a reduction took them away."""
    for dim in sorted(dims):
        mask = mask.unsqueeze(dim)
    return mask


def vector(tensor: Tensor, dim: int, size: int) -> Tensor:
    """A compact tensor that varies along `dim` at most, as a vector of `size`."""
    return tensor.expand([size if place == dim else 1 for place in range(tensor.ndim)]).reshape(
        size
    )


def unvector(values: Tensor, dim: int, rank: int) -> Tensor:
    """A vector as a compact tensor of `rank` dimensions that varies along `dim`."""
    return values.reshape([-1 if place == dim else 1 for place in range(rank)])


def broadcast_shape(*tensors: Tensor) -> tuple[int, ...]:
    """The common shape of compact tensors of one rank."""
    return tuple(torch.broadcast_shapes(*(tensor.shape for tensor in tensors)))
