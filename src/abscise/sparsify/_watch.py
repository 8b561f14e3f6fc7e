"""Before each step: is everything still as it was when the sparsifier was attached?

What is refused here is refused before the optimizer changes anything.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim import Optimizer

from abscise.sparsify._slices import Bunch


@dataclass(slots=True, eq=False)
class Watch:
    """What may not change beneath a sparsifier.

    Args:
        bunches: What it acts on.
        gradients: Also look at every gradient; costs a pass over them, and waits for the device.
    """

    bunches: Sequence[Bunch]
    gradients: bool
    _held: int = -1
    _kinds: dict[int, tuple[torch.dtype, torch.device]] = field(default_factory=dict)

    def begin(self, optimizer: Optimizer) -> None:
        """Remember what there is.

        Raises:
            ValueError: A group of the optimizer has no learning rate.
        """
        if any("lr" not in group for group in optimizer.param_groups):
            message = (
                f"{type(optimizer).__name__} has no learning rate ('lr' in its param groups), "
                "which says how far a sparsifier goes: use SGD or Adam"
            )
            raise ValueError(message)
        self._held = _count(optimizer)
        self._kinds = {
            id(piece.parameter): (piece.parameter.dtype, piece.parameter.device)
            for bunch in self.bunches
            for piece in bunch.slices
        }

    def check(self, optimizer: Optimizer, *, fresh: bool) -> None:
        """Refuse what has changed, and with `fresh`, gradients that are NaN or infinite.

        Raises:
            ValueError: The text names the parameter, or the option, and the way out.
        """
        held = _count(optimizer)
        if held != self._held:
            message = (
                f"the optimizer held {self._held} parameters when the sparsifier was attached, and "
                f"holds {held} now: detach, and attach again"
            )
            raise ValueError(message)
        for group in optimizer.param_groups:
            rate = float(group["lr"])
            if not 0 <= rate < math.inf:
                message = f"the learning rate must be >= 0 and finite, got {rate!r}"
                raise ValueError(message)
        for bunch in self.bunches:
            self._check_bunch(bunch)
        if fresh and self.gradients:
            _check_gradients(self.bunches)

    def _check_bunch(self, bunch: Bunch) -> None:
        frozen = [piece.name for piece in bunch.slices if not piece.parameter.requires_grad]
        if frozen and len(frozen) < len(bunch.slices):
            message = (
                f"{', '.join(frozen)}: frozen since the sparsifier was attached, but of the same "
                f"groups as other parameters of {bunch.names}: freeze all or none, or detach, and "
                "attach again without it (exclude)"
            )
            raise ValueError(message)
        for piece in bunch.slices:
            kind = (piece.parameter.dtype, piece.parameter.device)
            if kind != self._kinds[id(piece.parameter)]:
                was = ", ".join(map(str, self._kinds[id(piece.parameter)]))
                message = (
                    f"{piece.name} is {kind[0]}, {kind[1]}, and was {was} when the sparsifier was "
                    "attached: move or cast the model first, then attach"
                )
                raise ValueError(message)


def _count(optimizer: Optimizer) -> int:
    return sum(len(group["params"]) for group in optimizer.param_groups)


def _check_gradients(bunches: Sequence[Bunch]) -> None:
    """Refuse NaN and infinity, by one number for all gradients where there are none.

    Raises:
        ValueError: The text names the parameter.
    """
    found: dict[str, Tensor] = {}
    for bunch in bunches:
        for piece in bunch.slices:
            gradient = piece.parameter.grad
            if gradient is not None:
                dense = gradient.coalesce().values() if gradient.is_sparse else gradient
                found[piece.name] = dense.detach()
    if not found or math.isfinite(float(torch.nn.utils.get_total_norm(found.values()))):
        return  # a norm may overflow where each number is finite
    bad = [name for name, gradient in found.items() if not bool(gradient.isfinite().all())]
    if bad:
        message = (
            f"the gradient of {bad[0]} is NaN or infinite, and no step was made: lower the "
            "learning rate, clip the gradients, or skip such batches; check_gradients=False lets "
            "them through"
        )
        raise ValueError(message)
