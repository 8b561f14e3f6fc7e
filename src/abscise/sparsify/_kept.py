"""What a `Thresholding` keeps: its checks, and the tensors of the sparsest state so far."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor

from abscise.sparsify._fields import read_count, read_keys, refuse
from abscise.sparsify._masks import MaskShapes, read_masks


@dataclass(frozen=True, slots=True)
class Check:
    """One look at the validation set.

    Args:
        step: Optimizer steps done.
        loss: As the user's function gave it.
        error: As it gave it.
        zeros: How many weights were held at 0.
        threshold: Below which weights fell in this check; 0 if none was looked for.
    """

    step: int
    loss: float
    error: float
    zeros: int
    threshold: float


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """The state of a model at one check.

    Args:
        check: What was seen.
        tensors: Copies of all its parameters and buffers.
        masks: What was held at 0.
    """

    check: Check
    tensors: dict[str, Tensor]
    masks: dict[str, Tensor]

    @classmethod
    def of(cls, check: Check, tensors: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> "Kept":
        """Copies."""
        copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        return cls(check, copies, dict(masks))

    def restore_(self, tensors: Mapping[str, Tensor]) -> None:
        """Write the copies back."""
        with torch.no_grad():
            for name, tensor in tensors.items():
                _ = tensor.detach().copy_(self.tensors[name])

    def as_dict(self) -> dict[str, Any]:
        """Plain values and tensors, which are not copied."""
        return {
            "check": asdict(self.check),
            "tensors": dict(self.tensors),
            "masks": dict(self.masks),
        }


def read_kept(value: object, tensors: Mapping[str, Tensor], shapes: MaskShapes) -> Kept:
    """What `as_dict` gave, copied to the devices of the model's tensors.

    Raises:
        ValueError: It is none, or belongs to another model.
    """
    held = read_keys(value, ("check", "tensors", "masks"))
    own = held["tensors"]
    if not isinstance(own, Mapping) or set(own) != set(tensors):
        got = ", ".join(map(str, own)) if isinstance(own, Mapping) else type(own).__name__
        refuse("kept.tensors", "the model's parameters and buffers", got)
    copies = {}
    for name, tensor in tensors.items():
        one = own[name]
        if not isinstance(one, Tensor) or (one.shape, one.dtype) != (tensor.shape, tensor.dtype):
            what = f"{one.dtype} of {tuple(one.shape)}" if isinstance(one, Tensor) else repr(one)
            refuse(f"kept.tensors.{name}", f"{tensor.dtype} of {tuple(tensor.shape)}", what)
        copies[name] = torch.empty_like(tensor, requires_grad=False).copy_(one)
    check = read_check(held["check"], "kept.check")
    return Kept(check, copies, read_masks(held["masks"], shapes, "kept.masks"))


def read_check(value: object, key: str) -> Check:
    """What `asdict` gave.

    Raises:
        ValueError: It is none.
    """
    held = read_keys(value, tuple(field.name for field in fields(Check)))
    return Check(
        read_count(f"{key}.step", held["step"]),
        read_figure(f"{key}.loss", held["loss"]),
        read_figure(f"{key}.error", held["error"]),
        read_count(f"{key}.zeros", held["zeros"]),
        read_figure(f"{key}.threshold", held["threshold"]),
    )


def read_figure(key: str, value: object) -> float:
    """A number, perhaps infinite.

    Raises:
        ValueError: It is none, or NaN.
    """
    if not isinstance(value, float) or math.isnan(value):
        refuse(key, "a number", value)
    return value
