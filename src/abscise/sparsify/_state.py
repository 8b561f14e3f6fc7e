"""The state of a `Proximal` at work, as plain values and tensors, read strictly."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from abscise.sparsify._budget import Control
from abscise.sparsify._fields import (
    read_count,
    read_keys,
    read_number,
    read_truth,
    refuse,
)
from abscise.sparsify._masks import MaskShapes, read_masks

FORMAT = 2


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
            "norms": self.norms,
        }


def read_state(value: object, shapes: MaskShapes, acts_on: list[str], groups: int) -> State:
    """What `as_dict` gave; masks are copied to the device of their parameters.

    Args:
        value: The state.
        shapes: Of the masks.
        acts_on: What the sparsifier is that it must belong to.
        groups: How many it has.

    Raises:
        ValueError: A key is missing, unknown or has an impossible value; the text names it.
    """
    held = read_keys(value, tuple(State().as_dict([])), FORMAT)
    if held["acts_on"] != acts_on:
        message = (
            "state_dict: it belongs to another sparsifier: resume with the penalty and groups of "
            f"{_differing(held['acts_on'], acts_on):.200}"
        )
        raise ValueError(message)
    return State(
        read_count("step", held["step"]),
        read_truth("healing", held["healing"]),
        _control(held["control"]),
        read_masks(held["masks"], shapes),
        _norms(held["norms"], groups),
    )


def _norms(value: object, groups: int) -> Tensor:
    if not isinstance(value, Tensor) or value.dtype != torch.float64:
        refuse("norms", "a float64 tensor", value)
    assert isinstance(value, Tensor)
    if value.shape not in ((0,), (groups,)):
        refuse("norms", f"one number for each of {groups} groups, or empty", tuple(value.shape))
    return value.to("cpu", copy=True)


def _differing(found: object, acts_on: list[str]) -> str:
    """The first of `found` that is not in `acts_on`, or all there is to say."""
    listed = found if isinstance(found, list) else [found]
    return next((str(one) for one in listed if one not in acts_on), f"{len(listed)} layers")


def _control(value: object) -> Control:
    names = tuple(asdict(Control()))
    if not isinstance(value, Mapping) or set(value) != set(names):
        refuse("control", f"a dictionary of {', '.join(names)}", value)
    looks = read_count("control.looks", value["looks"])
    rest = [read_number(f"control.{name}", value[name]) for name in names[1:]]
    return Control(looks, *rest)
