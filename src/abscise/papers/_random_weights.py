"""RandomWeights: the baseline that chooses nothing: weights drawn by lot become 0."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from abscise.sparsify import Cubic, Sparsifier, Worker


@dataclass(frozen=True, slots=True, eq=False)
class RandomWeights(Sparsifier["RandomWorker"]):
    """As `Magnitude` over all layers, with lots in the place of magnitudes.

    Args:
        target_sparsity: In [0, 1): the share of the weights, of all parameters of two dimensions
            and more, that is 0 at the end.
        steps: Over how many steps the share rises, on a cubic course.
        every: Steps between two prunings.
        seed: Of the lot; the lots of one that takes over are the same.
        after: How many steps pass before.
    """

    target_sparsity: float
    steps: int
    every: int
    seed: int
    after: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.target_sparsity < 1:
            message = (
                f"RandomWeights: target_sparsity must be in [0, 1), got {self.target_sparsity!r}"
            )
            raise ValueError(message)
        if self.steps < 1 or self.every < 1:
            message = (
                f"RandomWeights: steps and every must be >= 1, got {self.steps} and {self.every}"
            )
            raise ValueError(message)

    @override
    def bind(self, optimizer: Optimizer, model: nn.Module) -> "RandomWorker":
        return RandomWorker(self, [one for one in model.parameters() if one.ndim >= 2])


class RandomWorker(Worker):
    """The lots, and the steps done."""

    def __init__(self, options: RandomWeights, weights: list[nn.Parameter]) -> None:
        """Made by `RandomWeights.bind`; changes nothing."""
        self._options = options
        self._weights = weights
        self._share = Cubic(options.target_sparsity, options.steps, options.after)
        sizes = [one.numel() for one in weights]
        generator = Generator().manual_seed(options.seed)
        lots = torch.randperm(sum(sizes), generator=generator).split(sizes)
        self._lots = [
            lot.view(one.shape).to(one.device) for lot, one in zip(lots, weights, strict=True)
        ]
        self._step, self._masks = 0, self._drawn(0)

    @override
    def after_step(self, optimizer: Optimizer) -> None:
        self._step += 1
        if self._step % self._options.every == 0:
            self._masks = self._drawn(self._step)
        with torch.no_grad():
            for weight, mask in zip(self._weights, self._masks, strict=True):
                _ = weight.masked_fill_(mask, 0.0)

    def _drawn(self, step: int) -> list[Tensor]:
        """What is 0 after `step`: a function of the step, so that it is no state."""
        pruned = step - step % self._options.every
        total = sum(lot.numel() for lot in self._lots)
        count = round(self._share(pruned) * total) if pruned else 0
        return [lot < count for lot in self._lots]

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"step": self._step}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        step = state.get("step")
        if set(state) != {"step"} or type(step) is not int or step < 0:
            message = f"RandomWeights: the state must hold a step >= 0, got {dict(state)!r:.80}"
            raise ValueError(message)
        self._step, self._masks = step, self._drawn(step)
