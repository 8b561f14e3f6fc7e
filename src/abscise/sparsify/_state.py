"""The state of a `Proximal` at work, as plain values and tensors, read strictly."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from abscise.sparsify._budget import Control

FORMAT = 2
MaskShapes = Mapping[str, tuple[torch.Size, torch.device]]


@dataclass(slots=True, eq=False)
class State:
    """What is remembered between two steps.

    Args:
        step: Steps done.
        healing: Does nothing shrink any more?
        control: Of the budget's steering.
        masks: Parameter name -> what is held at 0.
    """

    step: int = 0
    healing: bool = False
    control: Control = field(default_factory=Control)
    masks: dict[str, Tensor] = field(default_factory=dict)

    def as_dict(self, acts_on: list[str]) -> dict[str, Any]:
        """Plain values and tensors, which are not copied.

        Args:
            acts_on: What the sparsifier is, in words, so that no other one takes up the state.
        """
        return {
            "format": FORMAT,
            "acts_on": acts_on,
            "step": self.step,
            "healing": self.healing,
            "control": asdict(self.control),
            "masks": dict(self.masks),
        }


def read_state(value: object, shapes: MaskShapes, acts_on: list[str]) -> State:
    """What `as_dict` gave; masks are copied to the device of their parameters.

    Args:
        value: The state.
        shapes: Of the masks.
        acts_on: What the sparsifier is that it must belong to.

    Raises:
        ValueError: A key is missing, unknown or has an impossible value; the text names it.
    """
    keys = tuple(State().as_dict([]))
    if not isinstance(value, Mapping) or set(value) != set(keys):
        got = ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
        message = f"state_dict: the keys must be {', '.join(keys)}, got {got:.200}"
        raise ValueError(message)
    if value["format"] != FORMAT:
        message = f"state_dict: format must be {FORMAT}, got {value['format']!r:.60}"
        raise ValueError(message)
    if value["acts_on"] != acts_on:
        message = (
            "state_dict: it belongs to another sparsifier: resume with the penalty and groups of "
            f"{_differing(value['acts_on'], acts_on):.200}"
        )
        raise ValueError(message)
    step = value["step"]
    if not isinstance(step, int) or isinstance(step, bool) or step < 0:
        _refuse("step", "an integer >= 0", step)
    if not isinstance(value["healing"], bool):
        _refuse("healing", "True or False", value["healing"])
    control = _control(value["control"])
    return State(step, value["healing"], control, _masks(value["masks"], shapes))


def _differing(found: object, acts_on: list[str]) -> str:
    """The first of `found` that is not in `acts_on`, or all there is to say."""
    listed = found if isinstance(found, list) else [found]
    return next((str(one) for one in listed if one not in acts_on), f"{len(listed)} layers")


def _control(value: object) -> Control:
    names = tuple(asdict(Control()))
    if not isinstance(value, Mapping) or set(value) != set(names):
        _refuse("control", f"a dictionary of {', '.join(names)}", value)
    assert isinstance(value, Mapping)
    looks = value["looks"]
    if not isinstance(looks, int) or isinstance(looks, bool) or looks < 0:
        _refuse("control.looks", "an integer >= 0", looks)
    rest = [_number(f"control.{name}", value[name]) for name in names[1:]]
    return Control(looks, *rest)


def _number(name: str, value: object) -> float:
    if not isinstance(value, float) or not math.isfinite(value):
        _refuse(name, "a finite number", value)
    assert isinstance(value, float)
    return value


def _masks(value: object, shapes: MaskShapes) -> dict[str, Tensor]:
    if not isinstance(value, Mapping):
        _refuse("masks", "a dictionary", value)
    assert isinstance(value, Mapping)
    found = {}
    for name, mask in value.items():
        if name not in shapes:
            _refuse("masks", "of parameters that are shrunk", name)
        shape, device = shapes[name]
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != shape:
            what = (
                f"{mask.dtype} of {tuple(mask.shape)}" if isinstance(mask, Tensor) else repr(mask)
            )
            _refuse(f"masks.{name}", f"a bool tensor of {tuple(shape)}", what)
        found[name] = mask.to(device, copy=True)
    return found


def _refuse(key: str, rule: str, value: object) -> None:
    message = f"state_dict: {key} must be {rule}, got {value!r:.100}"
    raise ValueError(message)
