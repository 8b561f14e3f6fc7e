"""The state of a `Proximal` at work, as plain values and tensors, read strictly."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from abscise.sparsify._budget import Control
from abscise.sparsify._fields import (
    FORMAT,
    read_count,
    read_keys,
    read_number,
    read_truth,
    refuse,
)
from abscise.sparsify._masks import MaskShapes, read_masks


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

    def as_dict(self) -> dict[str, Any]:
        """Plain values and tensors, which are not copied."""
        return {
            "format": FORMAT,
            "step": self.step,
            "healing": self.healing,
            "control": asdict(self.control),
            "masks": dict(self.masks),
        }


def read_state(value: object, shapes: MaskShapes) -> State:
    """What `as_dict` gave; masks are copied to the device of their parameters.

    Raises:
        ValueError: A key is missing, unknown or has an impossible value; the text names it.
    """
    held = read_keys(value, tuple(State().as_dict()))
    return State(
        read_count("step", held["step"]),
        read_truth("healing", held["healing"]),
        _control(held["control"]),
        read_masks(held["masks"], shapes),
    )


def _control(value: object) -> Control:
    names = tuple(asdict(Control()))
    if not isinstance(value, Mapping) or set(value) != set(names):
        refuse("control", f"a dictionary of {', '.join(names)}", value)
    looks = read_count("control.looks", value["looks"])
    rest = [read_number(f"control.{name}", value[name]) for name in names[1:]]
    return Control(looks, *rest)
