"""ProximalWorker: what `Proximal` does around each step of one optimizer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from abscise._schedules import check_strength
from abscise.penalties import Kind
from abscise.sparsify._budget import START, Budget, Control
from abscise.sparsify._layers import Layer, Rates, Taken
from abscise.sparsify._masks import hold_, join_
from abscise.sparsify._metric import Metric, rate_of
from abscise.sparsify._sparsifier import Worker
from abscise.sparsify._state import State, read_state
from abscise.sparsify._watch import Watch


class ProximalWorker(Worker):
    """The maps of all layers, the strength of the step, and what is held at 0."""

    def __init__(
        self,
        layers: Sequence[Layer],
        schedule: Callable[[int], float],
        budget: Budget | None,
        *,
        regrow: bool,
        heal_at: int | None,
        watch: Watch,
    ) -> None:
        """Made by `Proximal.bind`."""
        self.layers = tuple(layers)
        self._schedule = schedule
        self._budget = budget
        self._regrow = regrow
        self._heal_at = heal_at
        self._whole = all(layer.penalty.kind is Kind.RADIAL for layer in self.layers)
        self._state = State(control=Control(level=START))
        self._watch = watch

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
    def metrics(self) -> dict[str, Metric]:
        """Parameter name -> the metric in which its map is taken: plain or adaptive, never auto."""
        return {
            piece.name: Metric.ADAPTIVE if layer.adaptive else Metric.PLAIN
            for layer in self.layers
            for piece in layer.bunch.slices
        }

    @override
    def __repr__(self) -> str:
        penalties = dict.fromkeys(str(layer.penalty) for layer in self.layers)
        return (
            f"{type(self).__name__}({', '.join(penalties)}; "
            f"metric {' and '.join(sorted(set(self.metrics.values())))}; "
            f"{sum(layer.bunch.groups for layer in self.layers)} groups; step {self.step})"
        )

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
    def before_step(self, optimizer: Optimizer, *, fresh: bool) -> None:
        self._watch.check(optimizer, fresh=fresh)
        if not self._state.healing:  # what will be refused is, before the optimizer moves
            _ = self.strength
            _ = self._taken(optimizer)

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
        taken = self._taken(optimizer)
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
        if not self._whole:
            state.control = budget.steered(state.control, state.step, self.sparsity)
            return
        before, state.norms = state.norms, self._norms()
        zeros, count = int((state.norms == 0).sum()), budget.count(len(state.norms))
        if zeros >= count:
            self.heal()
        elif len(before):
            wait = float(_waits(before, state.norms).kthvalue(count).values) * budget.every
            share = zeros / len(state.norms)
            state.control = budget.steered_by_wait(state.control, state.step, share, wait)

    def _norms(self) -> Tensor:
        """Of all groups of all layers, on the CPU."""
        return torch.cat([layer.bunch.norms().double().cpu() for layer in self.layers])

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
        return self._state.as_dict(self._acts_on())

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        shapes = {name: mask for layer in self.layers for name, mask in layer.mask_shapes().items()}
        groups = sum(layer.bunch.groups for layer in self.layers)
        self._state = read_state(state, shapes, self._acts_on(), groups)

    def _acts_on(self) -> list[str]:
        """Penalty and parameters of each layer: with others, a run is not the same."""
        return [f"{layer.penalty!r} on {layer.bunch.names}" for layer in self.layers]


def _waits(before: Tensor, norms: Tensor) -> Tensor:
    """After how many looks each group is 0 if its norm goes on falling; infinite if it rises."""
    fallen = before - norms
    waits = torch.where(fallen > 0, norms / fallen, torch.inf)
    return torch.where(norms == 0, 0.0, waits)
