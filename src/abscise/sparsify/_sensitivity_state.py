"""The state of a sensitivity at work, as plain values and tensors, read strictly."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor

from abscise.sparsify._fields import read_count, read_keys, read_truth, refuse

FORMAT = 1
KEYS = ("format", "step", "observed", "sensitivities", "generator")


@dataclass(slots=True, eq=False)
class State:
    """What is remembered between two steps.

    Args:
        generator: The state of what draws examples and outputs.
        step: Steps done.
        observed: Was a batch observed since the last step?
        sensitivities: Averaged; empty before the first.
    """

    generator: Tensor
    step: int = 0
    observed: bool = False
    sensitivities: dict[str, Tensor] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values and tensors, which are not copied."""
        return {
            "format": FORMAT,
            "step": self.step,
            "observed": self.observed,
            "sensitivities": dict(self.sensitivities),
            "generator": self.generator,
        }


def read_state(value: object, likes: Mapping[str, Tensor]) -> State:
    """What `as_dict` gave, copied to the devices of `likes`, which have the right shapes.

    Raises:
        ValueError: A key is missing, unknown or has an impossible value; the text names it.
    """
    held = read_keys(value, KEYS, FORMAT)
    step, observed = read_count("step", held["step"]), read_truth("observed", held["observed"])
    sensitivities = _sensitivities(held["sensitivities"], likes)
    if not sensitivities and (step > 0 or observed):
        refuse("sensitivities", "there after a step or an observed batch", {})
    return State(_generator(held["generator"]), step, observed, sensitivities)


def _sensitivities(value: object, likes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not isinstance(value, Mapping):
        refuse("sensitivities", "a dictionary", value)
    if value and set(value) != set(likes):
        refuse("sensitivities", f"of {', '.join(likes):.200}", ", ".join(map(str, value)))
    found = {}
    for key in likes if value else ():
        one, like = value[key], likes[key]
        if not isinstance(one, Tensor) or one.shape != like.shape or one.dtype != like.dtype:
            got = f"{one.dtype} of {tuple(one.shape)}" if isinstance(one, Tensor) else one
            refuse(f"sensitivities.{key}", f"{like.dtype} of {tuple(like.shape)}", got)
        if not bool(((one >= 0) & one.isfinite()).all()):
            refuse(f"sensitivities.{key}", ">= 0 and finite", "another value")
        found[key] = one.to(like.device, copy=True)
    return found


def _generator(value: object) -> Tensor:
    if not isinstance(value, Tensor) or value.dtype != torch.uint8:
        refuse("generator", "the state of a torch.Generator", type(value).__name__)
    state = value.cpu().clone()
    try:
        _ = Generator().set_state(state)
    except RuntimeError:
        refuse("generator", "the state of a torch.Generator", tuple(state.shape))
    return state
