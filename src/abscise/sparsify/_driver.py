"""ProximalWorker: what `Proximal` does around each step of one optimizer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.optim import Optimizer
from typing_extensions import override

from abscise._schedules import check_strength
from abscise.sparsify._attach import Worker
from abscise.sparsify._budget import Budget
from abscise.sparsify._layers import Layer, Rates, Taken
from abscise.sparsify._masks import hold_, join_
from abscise.sparsify._metric import rate_of
from abscise.sparsify._state import State, read_state


class ProximalWorker(Worker):
    """The maps of all layers, the strength of the step, and what is held at 0."""

    def __init__(
        self,
        optimizer: Optimizer,
        layers: Sequence[Layer],
        schedule: Callable[[int], float],
        budget: Budget | None,
        *,
        regrow: bool,
        heal_at: int | None,
    ) -> None:
        """Made by `Proximal.bind`; changes nothing.

        Raises:
            ValueError: Groups over several parameters cannot be shrunk at their learning rates.
        """
        self.layers = tuple(layers)
        self._schedule = schedule
        self._budget = budget
        self._regrow = regrow
        self._heal_at = heal_at
        self._state = State()
        _ = self._taken(optimizer)

    @property
    def step(self) -> int:
        """Steps done."""
        return self._state.step

    @property
    def healing(self) -> bool:
        """Whether nothing shrinks any more, and what is 0 stays 0."""
        return self._state.healing

    @property
    def strength(self) -> float:
        """Of the next step, before the factors of layers."""
        step = self._state.step + 1
        strength = float(self._schedule(step))
        check_strength(f"Proximal: step {step}", strength)
        if self._budget is None:
            return strength
        return strength * self._state.control.factor

    @property
    def sparsity(self) -> float:
        """The share that is 0: of groups, where whole groups shrink, of weights, where not."""
        counts = [layer.zeros() for layer in self.layers]
        zeros = sum(float(count) for count, _ in counts)
        return zeros / sum(total for _, total in counts)

    def heal(self) -> None:
        """From now on nothing shrinks, what is 0 stays 0, and the rest trains on."""
        with torch.no_grad():
            self._freeze()
        self._state.healing = True

    @override
    def after_step(self, optimizer: Optimizer) -> None:
        with torch.no_grad():
            if not self._state.healing:
                self._shrink(optimizer)
            else:
                self._hold()
        self._state.step += 1
        if self._state.healing:
            return
        if self._state.step == self._heal_at:
            self.heal()
        elif self._budget is not None and self._state.step % self._budget.every == 0:
            self._steer(self._budget)

    def _shrink(self, optimizer: Optimizer) -> None:
        strength = self.strength
        taken = self._taken(optimizer)  # refuses before anything is changed
        if strength == 0:
            self._hold()
            return
        if not self._regrow:
            self._hold()
        for layer, one in zip(self.layers, taken, strict=True):
            layer.shrink(one, strength)
        if not self._regrow:
            self._freeze()

    def _taken(self, optimizer: Optimizer) -> list[Taken]:
        """The layers that the optimizer has just changed, with their learning rates."""
        rates: Rates = {
            id(parameter): (rate_of(optimizer, group, parameter), group)
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        return [layer.taken(optimizer, rates) for layer in self.layers]

    def _steer(self, budget: Budget) -> None:
        state = self._state
        state.control = budget.steered(state.control, state.step, self.sparsity)

    def _freeze(self) -> None:
        for layer in self.layers:
            join_(self._state.masks, layer.masks())

    def _hold(self) -> None:
        """Set to 0 what is held there."""
        if self._state.masks:
            hold_(
                (piece for layer in self.layers for piece in layer.bunch.slices), self._state.masks
            )

    @override
    def state_dict(self) -> dict[str, Any]:
        return self._state.as_dict()

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        shapes = {name: mask for layer in self.layers for name, mask in layer.mask_shapes().items()}
        self._state = read_state(state, shapes)
