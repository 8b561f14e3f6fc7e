"""The state of a shrinking run, as plain values and tensors, read strictly."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from abscise._errors import PlanError
from abscise.compaction import Plan, plan_from_json, plan_to_json

FORMAT = 1
_KEYS = ("format", "step", "small", "plan")


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """What a resumed run needs.

    Args:
        step: Optimizer steps done.
        small: Layer -> for each unit, the looks in a row at which it was small.
        plan: Everything removed so far; None where nothing was.
    """

    step: int
    small: Mapping[str, Tensor]
    plan: Plan | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values and tensors."""
        text = "" if self.plan is None else json.dumps(plan_to_json(self.plan))
        return {"format": FORMAT, "step": self.step, "small": dict(self.small), "plan": text}


def read_state(value: object) -> State:
    """What `as_dict` gave.

    Raises:
        ValueError: A key is missing, unknown or has an impossible value; the text names it.
    """
    if not isinstance(value, Mapping) or set(value) != set(_KEYS):
        got = ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
        _refuse("the keys", ", ".join(_KEYS), got)
    assert isinstance(value, Mapping)
    step, small, text = value["step"], value["small"], value["plan"]
    if value["format"] != FORMAT:
        _refuse("format", str(FORMAT), value["format"])
    if type(step) is not int or step < 0:
        _refuse("step", "an integer >= 0", step)
    if not isinstance(small, Mapping) or not all(isinstance(it, Tensor) for it in small.values()):
        _refuse("small", "a dictionary of tensors", small)
    if not isinstance(text, str):
        _refuse("plan", "a text", text)
    try:
        return State(step, small, plan_from_json(json.loads(text)) if text else None)
    except (PlanError, ValueError) as problem:
        message = f"state_dict: plan: {problem}"
        raise ValueError(message) from problem


def _refuse(key: str, rule: str, value: object) -> None:
    message = f"state_dict: {key} must be {rule}, got {value!r:.100}"
    raise ValueError(message)
