"""The state of a sensitivity at work, as plain values and tensors, read strictly."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor

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
    if not isinstance(value, Mapping) or set(value) != set(KEYS):
        got = ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
        message = f"state_dict: the keys must be {', '.join(KEYS)}, got {got:.200}"
        raise ValueError(message)
    if value["format"] != FORMAT:
        _refuse("format", str(FORMAT), value["format"])
    step = value["step"]
    if not isinstance(step, int) or isinstance(step, bool) or step < 0:
        _refuse("step", "an integer >= 0", step)
    if not isinstance(value["observed"], bool):
        _refuse("observed", "True or False", value["observed"])
    sensitivities = _sensitivities(value["sensitivities"], likes)
    if not sensitivities and (step > 0 or value["observed"]):
        _refuse("sensitivities", "there after a step or an observed batch", {})
    return State(_generator(value["generator"]), step, value["observed"], sensitivities)


def _sensitivities(value: object, likes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not isinstance(value, Mapping):
        _refuse("sensitivities", "a dictionary", value)
    assert isinstance(value, Mapping)
    if value and set(value) != set(likes):
        _refuse("sensitivities", f"of {', '.join(likes):.200}", ", ".join(map(str, value)))
    found = {}
    for key in likes if value else ():
        one, like = value[key], likes[key]
        if not isinstance(one, Tensor) or one.shape != like.shape or one.dtype != like.dtype:
            got = f"{one.dtype} of {tuple(one.shape)}" if isinstance(one, Tensor) else one
            _refuse(f"sensitivities.{key}", f"{like.dtype} of {tuple(like.shape)}", got)
        if not bool(((one >= 0) & one.isfinite()).all()):
            _refuse(f"sensitivities.{key}", ">= 0 and finite", "another value")
        found[key] = one.to(like.device, copy=True)
    return found


def _generator(value: object) -> Tensor:
    if not isinstance(value, Tensor) or value.dtype != torch.uint8:
        _refuse("generator", "the state of a torch.Generator", type(value).__name__)
    assert isinstance(value, Tensor)
    state = value.cpu().clone()
    try:
        _ = Generator().set_state(state)
    except RuntimeError:
        _refuse("generator", "the state of a torch.Generator", tuple(state.shape))
    return state


def _refuse(key: str, rule: str, value: object) -> None:
    message = f"state_dict: {key} must be {rule}, got {value!r:.100}"
    raise ValueError(message)
