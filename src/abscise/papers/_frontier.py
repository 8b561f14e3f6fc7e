"""Frontier: looks at the validation part after each epoch, and keeps the sparsest states."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

Validate = Callable[[], tuple[float, float]]
LOOK = ("epoch", "loss", "error", "nonzero")


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the validation part.

    Args:
        epoch: Finished epochs.
        loss: Mean cross-entropy.
        error: Percent of the examples that are wrong.
        nonzero: Parameters that are not 0, biases included.
    """

    epoch: int
    loss: float
    error: float
    nonzero: int

    @property
    def rank(self) -> tuple[int, float, float]:
        """The sparsest first; of those the one with the least error."""
        return self.nonzero, self.error, self.loss


class Frontier:
    """An attachment that notes error and size after each epoch, and copies what is worth it.

    For each rung, an error in percent, the sparsest state is kept whose error on the validation
    part is not above it; and the state with the least error. It changes nothing; attach it behind
    what does. It ends the run when the highest rung, once reached, is missed in `patience` looks in
    a row.

    Args:
        model: The network that is trained.
        rungs: Rising.
        patience: See above.
    """

    def __init__(self, model: nn.Module, rungs: Sequence[float], patience: int) -> None:
        """Nothing is looked at yet."""
        if not rungs or list(rungs) != sorted(set(rungs)):
            message = f"Frontier: rungs must rise, and there must be one, got {list(rungs)}"
            raise ValueError(message)
        if patience < 1:
            message = f"Frontier: patience must be >= 1, got {patience}"
            raise ValueError(message)
        self.rungs = tuple(rungs)
        self._patience = patience
        self._parameters = list(model.parameters())
        self._tensors = model.state_dict(keep_vars=True)
        self._looks: list[Look] = []
        self._states: dict[int, dict[str, Tensor]] = {}

    @property
    def looks(self) -> tuple[Look, ...]:
        """All of them, the first first."""
        return tuple(self._looks)

    @property
    def best(self) -> tuple[Look | None, ...]:
        """For each rung the look at the sparsest state that reaches it; None where none does."""
        return tuple(sparsest(self._looks, rung) for rung in self.rungs)

    def best_at(self, rung: float) -> Look | None:
        """The look that is kept for a rung.

        Raises:
            ValueError: It is none of the rungs.
        """
        return self.best[self.rungs.index(rung)]

    @property
    def least(self) -> Look:
        """The look with the least error; of equals the sparsest.

        Raises:
            ValueError: There was no look.
        """
        return min(self._looks, key=lambda it: (it.error, it.nonzero))

    @property
    def states(self) -> Mapping[int, Mapping[str, Tensor]]:
        """Epoch -> copies of the model's tensors, of the looks in `best` and of the least error."""
        return self._states

    @property
    def stopped(self) -> bool:
        """Whether the highest rung is lost."""
        reached = [look.error <= self.rungs[-1] for look in self._looks]
        return any(reached) and not any(reached[-self._patience :])

    def after_epoch(self, validate: Validate) -> None:
        """Look; copy the state if it is the sparsest for a rung."""
        loss, error = validate()
        if math.isnan(loss) or math.isnan(error):
            message = f"Frontier: validate must give numbers, got {loss!r} and {error!r}"
            raise ValueError(message)
        nonzero = sum(int(weight.detach().count_nonzero()) for weight in self._parameters)
        epoch = len(self._looks) + 1
        self._looks.append(Look(epoch, loss, 100 * error, nonzero))
        wanted = _wanted(self._looks, self.rungs)
        if epoch in wanted:
            self._states[epoch] = {k: v.detach().clone() for k, v in self._tensors.items()}
        self._states = {key: state for key, state in self._states.items() if key in wanted}

    def finish(self) -> None:
        """Nothing: the model stays as it is at the end."""

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors, which are not copied."""
        return {
            "rungs": list(self.rungs),
            "looks": [asdict(look) for look in self._looks],
            "states": {str(epoch): dict(state) for epoch, state in self._states.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """Go on from what `state_dict` gave.

        Raises:
            ValueError: It belongs to other rungs or another network; nothing is changed.
        """
        if set(state) != {"rungs", "looks", "states"} or list(state["rungs"]) != list(self.rungs):
            message = f"Frontier: the state must be of the rungs {list(self.rungs)}"
            raise ValueError(message)
        looks = [_look(value, place) for place, value in enumerate(state["looks"], start=1)]
        states = {int(epoch): self._like(held) for epoch, held in state["states"].items()}
        wanted = _wanted(looks, self.rungs)
        if set(states) != wanted:
            message = f"Frontier: states must be of the epochs {sorted(wanted)}, got {list(states)}"
            raise ValueError(message)
        self._looks, self._states = looks, states

    def _like(self, held: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copies on the devices of the model's own tensors.

        Raises:
            ValueError: Names, shapes or types are others.
        """
        kinds = {name: (one.shape, one.dtype) for name, one in self._tensors.items()}
        if {name: (one.shape, one.dtype) for name, one in held.items()} != kinds:
            message = "Frontier: a state must hold the model's own parameters and buffers"
            raise ValueError(message)
        own = self._tensors
        return {k: torch.empty_like(own[k], requires_grad=False).copy_(v) for k, v in held.items()}


def sparsest(looks: Sequence[Look], rung: float) -> Look | None:
    """The sparsest look whose error is at most `rung`; of equals the first; None: there is none.

    >>> looks = [Look(1, 0.1, 1.5, 90), Look(2, 0.1, 1.7, 40), Look(3, 0.1, 2.5, 20)]
    >>> sparsest(looks, 2.0).epoch
    2
    """
    return min((look for look in looks if look.error <= rung), key=lambda it: it.rank, default=None)


def _wanted(looks: Sequence[Look], rungs: Sequence[float]) -> set[int]:
    """The epochs whose states are kept."""
    found = [sparsest(looks, rung) for rung in rungs] if looks else []
    least = [min(looks, key=lambda it: (it.error, it.nonzero))] if looks else []
    return {look.epoch for look in (*found, *least) if look is not None}


def _look(value: Mapping[str, Any], place: int) -> Look:
    if set(value) != set(LOOK) or value["epoch"] != place or value["nonzero"] < 0:
        message = f"Frontier: look {place} must hold {', '.join(LOOK)}, got {value!r:.80}"
        raise ValueError(message)
    return Look(place, float(value["loss"]), float(value["error"]), int(value["nonzero"]))
