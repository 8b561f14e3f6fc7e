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
        norms: Of all groups at the last look of a budget of whole groups; empty before.
    """

    step: int = 0
    healing: bool = False
    control: Control = field(default_factory=Control)
    masks: dict[str, Tensor] = field(default_factory=dict)
    norms: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.float64))

    def as_dict(self) -> dict[str, Any]:
        """Plain values and tensors, which are not copied."""
        return {
            "format": FORMAT,
            "step": self.step,
            "healing": self.healing,
            "control": asdict(self.control),
            "masks": dict(self.masks),
            "norms": self.norms,
        }


def read_state(value: object, shapes: MaskShapes, groups: int) -> State:
    """What `as_dict` gave; masks are copied to the device of their parameters.

    Raises:
        ValueError: A key is missing, unknown or has an impossible value; the text names it.
    """
    keys = tuple(State().as_dict())
    if not isinstance(value, Mapping) or set(value) != set(keys):
        got = ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
        message = f"state_dict: the keys must be {', '.join(keys)}, got {got:.200}"
        raise ValueError(message)
    if value["format"] != FORMAT:
        message = f"state_dict: format must be {FORMAT}, got {value['format']!r:.60}"
        raise ValueError(message)
    step = value["step"]
    if not isinstance(step, int) or isinstance(step, bool) or step < 0:
        _refuse("step", "an integer >= 0", step)
    if not isinstance(value["healing"], bool):
        _refuse("healing", "True or False", value["healing"])
    control = _control(value["control"])
    masks = _masks(value["masks"], shapes)
    return State(step, value["healing"], control, masks, _norms(value["norms"], groups))


def _norms(value: object, groups: int) -> Tensor:
    if not isinstance(value, Tensor) or value.dtype != torch.float64:
        _refuse("norms", "a float64 tensor", value)
    assert isinstance(value, Tensor)
    if value.shape not in ((0,), (groups,)):
        _refuse("norms", f"one number for each of {groups} groups, or empty", tuple(value.shape))
    return value.to("cpu", copy=True)


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
