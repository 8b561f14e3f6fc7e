"""What a model returned, as a flat table of named tensors and plain values."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Plain = str | bytes | int | float | complex | bool | None | torch.dtype | torch.device | type
Leaves = dict[str, Tensor | Plain]

_MAX_LEAVES = 100_000


def flatten(output: Any) -> Leaves:
    """Place of each leaf (`[0]`, `['boxes']`) -> tensor (strided, detached) or plain value.

    Tuples, lists, mappings, dataclasses and objects with attributes (caches) are walked through; a
    container's type and length are leaves too, so that two tables have the same keys and the same
    plain values only if the structures agree.

    Raises:
        TypeError: It holds something that cannot be compared (an iterator, a callable).
    """
    leaves: Leaves = {}
    _walk(output, "", leaves, ())
    return leaves


def tensors(leaves: Leaves) -> dict[str, Tensor]:
    """The tensors among the leaves."""
    return {place: leaf for place, leaf in leaves.items() if isinstance(leaf, Tensor)}


def first_mismatch(expected: Leaves, found: Leaves) -> str | None:
    """How structure, shapes, dtypes or plain values differ, in one sentence; None if they agree."""
    for place in [*expected, *found]:
        name = f"output{place}"
        if place not in found or place not in expected:
            whose = "compacted" if place not in found else "dense"
            return f"{name} is missing in the {whose} model's outputs"
        one, other = expected[place], found[place]
        if isinstance(one, Tensor) and isinstance(other, Tensor):
            if (one.shape, one.dtype) != (other.shape, other.dtype):
                return f"{name} is {_text(other)}, must be {_text(one)} as in the dense model"
        elif type(one) is not type(other) or not _equal(one, other):
            return f"{name} is {_text(other)}, must be {_text(one)} as in the dense model"
    return None


def first_not_finite(runs: Sequence[Leaves]) -> str | None:
    """Place of the first tensor that holds NaN or infinity in any run."""
    return next(
        (
            place
            for leaves in runs
            for place, leaf in tensors(leaves).items()
            if not bool(torch.isfinite(leaf).all())
        ),
        None,
    )


def first_integer_difference(expected: Sequence[Leaves], found: Sequence[Leaves]) -> str | None:
    """Place of the first integer or boolean tensor that is not the same in both, run by run."""
    return next(
        (
            place
            for one, other in zip(expected, found, strict=True)
            for place, leaf in tensors(one).items()
            if not (leaf.is_floating_point() or leaf.is_complex())
            and not torch.equal(leaf, tensors(other)[place])
        ),
        None,
    )


def _equal(one: Any, other: Any) -> bool:
    return bool(one == other) or (one != one and other != other)  # noqa: PLR0124 - NaN is itself


def _text(leaf: Tensor | Plain) -> str:
    if isinstance(leaf, Tensor):
        return f"{tuple(leaf.shape)} {str(leaf.dtype).removeprefix('torch.')}"
    return repr(leaf)[:60]


def _walk(value: Any, place: str, leaves: Leaves, above: tuple[int, ...]) -> None:
    if len(leaves) > _MAX_LEAVES or id(value) in above:
        message = f"output{place} has no end: it holds itself, or more than {_MAX_LEAVES} values"
        raise TypeError(message)
    if isinstance(value, Tensor):
        leaves[place] = _dense(value)
    elif isinstance(value, Plain):
        leaves[place] = value
    else:
        children = list(_children(value, place))
        leaves[f"{place}:type"] = f"{type(value).__qualname__} of {len(children)}"
        for step, child in children:
            _walk(child, f"{place}{step}", leaves, (*above, id(value)))


def _dense(tensor: Tensor) -> Tensor:
    """A plain copy: models may return an input or a buffer that a later run changes."""
    tensor = tensor.detach()
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    return tensor.clone()


def _children(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((f"[{key!r}]", item) for key, item in value.items())
    elif isinstance(value, tuple | list):
        yield from ((f"[{index}]", item) for index, item in enumerate(value))
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield f".{field.name}", getattr(value, field.name)
    elif hasattr(value, "__dict__") and not callable(value):
        yield from ((f".{name}", item) for name, item in vars(value).items())
    else:
        message = f"output{place} is a {type(value).__qualname__}, which cannot be compared"
        raise TypeError(message)
