"""The state of a `Thresholding` at work, as plain values and tensors, read strictly."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from abscise.sparsify._fields import FORMAT, read_count, read_keys, refuse
from abscise.sparsify._kept import Check, Kept, read_check, read_figure, read_kept
from abscise.sparsify._masks import MaskShapes, read_masks

LOST = "the error target is lost"
STILL = "nothing more falls"
_PLAIN = ("step", "fallen", "best", "waiting", "lost", "still", "stopped")


@dataclass(slots=True, eq=False)
class ThresholdState:
    """What is remembered between two steps.

    Args:
        step: Steps done.
        fallen: The zeros when it was last asked whether more had fallen.
        best: The least loss since the last search.
        waiting: Checks since then without a new best loss.
        lost: Checks in a row that missed the target, once it was met.
        still: Times in a row that nothing fell, once something had.
        stopped: Why it has stopped, or empty.
        checks: All of them.
        masks: Parameter name -> what is held at 0.
        kept: The sparsest state that met the target.
    """

    step: int = 0
    fallen: int = 0
    best: float = math.inf
    waiting: int = 0
    lost: int = 0
    still: int = 0
    stopped: str = ""
    checks: list[Check] = field(default_factory=list)
    masks: dict[str, Tensor] = field(default_factory=dict)
    kept: Kept | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values and tensors, which are not copied."""
        return {
            "format": FORMAT,
            **{name: getattr(self, name) for name in _PLAIN},
            "checks": [asdict(check) for check in self.checks],
            "masks": dict(self.masks),
            "kept": None if self.kept is None else self.kept.as_dict(),
        }


def read_threshold_state(
    value: object, tensors: Mapping[str, Tensor], shapes: MaskShapes
) -> ThresholdState:
    """What `as_dict` gave, with copies of the tensors where those of the model are.

    Raises:
        ValueError: A key is missing, unknown or has an impossible value; the text names it.
    """
    held = read_keys(value, tuple(ThresholdState().as_dict()))
    if held["stopped"] not in ("", LOST, STILL):
        refuse("stopped", f"empty, {LOST!r} or {STILL!r}", held["stopped"])
    if not isinstance(held["checks"], list):
        refuse("checks", "a list", held["checks"])
    kept = held["kept"]
    return ThresholdState(
        read_count("step", held["step"]),
        read_count("fallen", held["fallen"]),
        read_figure("best", held["best"]),
        read_count("waiting", held["waiting"]),
        read_count("lost", held["lost"]),
        read_count("still", held["still"]),
        held["stopped"],
        [read_check(check, f"checks.{index}") for index, check in enumerate(held["checks"])],
        read_masks(held["masks"], shapes),
        None if kept is None else read_kept(kept, tensors, shapes),
    )
