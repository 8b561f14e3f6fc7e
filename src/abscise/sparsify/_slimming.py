"""NetworkSlimming: l1 on the scales of BatchNorm, so that whole channels are switched off."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from abscise._schedules import Constant, check_strength
from abscise.penalties import L1
from abscise.sparsify._choice import Choice, rates_of
from abscise.sparsify._fields import FORMAT, read_count, read_keys, read_truth
from abscise.sparsify._groups import Groups
from abscise.sparsify._masks import element_shapes, hold_, join_, read_masks
from abscise.sparsify._slices import Bunch, Slice
from abscise.sparsify._smallest import smallest
from abscise.sparsify._sparsifier import Sparsifier, Worker
from abscise.sparsify._weights import check_dtype

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Form(StrEnum):
    """How the l1 penalty acts.

    PROX: after the step, scales <- soft threshold of them at learning rate * strength; they become
    exactly 0. SUBGRADIENT: before the step, strength * sign(scale) is added to the gradient, as in
    the paper; it goes through the optimizer's moments, and scales end near 0.
    """

    PROX = "prox"
    SUBGRADIENT = "subgradient"


@dataclass(frozen=True, slots=True, eq=False)
class NetworkSlimming(Sparsifier["NetworkSlimmingWorker"]):
    """l1 on the scales of all BatchNorms that the optimizer trains; nothing else is touched.

    A channel whose scale is 0 is a constant, its shift, which `compact` folds into its readers.

    Args:
        strength: >= 0, or a `Schedule`: a function of the step, which counts from 1.
        form: See `Form`; or its value as text.
        where: Name patterns of parameters or layers to act on.
        exclude: Name patterns of those to leave out, though `where` names them.

    Source: Z. Liu, J. Li, Z. Shen, G. Huang, S. Yan, C. Zhang 2017, "Learning Efficient
    Convolutional Networks through Network Slimming" (arXiv 1708.06519), equation 1. Theirs is the
    subgradient, and sets the smallest share of all scales to 0 after training: the worker's
    `prune(share)`. By default ours is the proximal map, which needs no such step.
    """

    strength: float | Callable[[int], float]
    form: Form | str = Form.PROX
    where: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not callable(self.strength):
            check_strength("NetworkSlimming", self.strength)
        if self.form not in tuple(Form):
            message = f"NetworkSlimming: form must be one of {', '.join(Form)}, got {self.form!r}"
            raise ValueError(message)
        _ = self._choice

    @property
    def _choice(self) -> Choice:
        return Choice("NetworkSlimming", self.where, self.exclude)

    @override
    def bind(self, optimizer: Optimizer, model: nn.Module) -> "NetworkSlimmingWorker":
        if not any(isinstance(module, BATCH_NORMS) and module.affine for module in model.modules()):
            message = (
                "NetworkSlimming: the model has no BatchNorm with scales: use Proximal with groups"
            )
            raise ValueError(message)
        bunches = self._choice.bunches(optimizer, model, _SCALES)
        for bunch in bunches:
            check_dtype(bunch.names, bunch.slices[0].parameter)
        return NetworkSlimmingWorker(self, bunches)


class NetworkSlimmingWorker(Worker):
    """The scales, the strength of the step, and what `prune` holds at 0."""

    def __init__(self, options: NetworkSlimming, bunches: Sequence[Bunch]) -> None:
        """Made by `NetworkSlimming.bind`; changes nothing."""
        strength = options.strength
        self._schedule = strength if callable(strength) else Constant(strength)
        self._prox = self.takes_closure = options.form == Form.PROX
        self._pieces = [bunch.slices[0] for bunch in bunches]
        self._step = 0
        self._pruned = False
        self._masks: dict[str, Tensor] = {}

    @property
    def step(self) -> int:
        """Steps done."""
        return self._step

    @property
    def strength(self) -> float:
        """Of the next step; 0 after `prune`."""
        strength = float(self._schedule(self._step + 1))
        check_strength(f"NetworkSlimming: step {self._step + 1}", strength)
        return 0.0 if self._pruned else strength

    @property
    def sparsity(self) -> float:
        """The share of the scales that is 0."""
        zeros = sum(int((piece.parameter == 0).sum()) for piece in self._pieces)
        return zeros / sum(piece.parameter.numel() for piece in self._pieces)

    def prune(self, share: float) -> None:
        """Set the smallest `share` of all scales to 0; they stay 0, and the rest trains on freely.

        The largest scale of each layer stays.

        Args:
            share: In [0, 1).

        Raises:
            ValueError: It is not, or a scale is NaN.
        """
        if not 0 <= share < 1:
            message = f"NetworkSlimming: share must be in [0, 1), got {share!r}"
            raise ValueError(message)
        with torch.no_grad():
            scores = [self._sizes(piece) for piece in self._pieces]
            sizes = [len(one) for one in scores]
            count = min(round(share * sum(sizes)), sum(sizes) - len(sizes))
            dead = smallest(torch.cat(scores), count).split(sizes)
            for piece, one in zip(self._pieces, dead, strict=True):
                join_(self._masks, {piece.name: one.view(piece.shape)})
            hold_(self._pieces, self._masks)
        self._pruned = True

    def _sizes(self, piece: Slice) -> Tensor:
        """The sizes of a layer's scales; what is held comes first, the largest after all."""
        found = piece.parameter.detach().abs()
        if bool(found.isnan().any()):
            message = f"NetworkSlimming: {piece.name} is NaN"
            raise ValueError(message)
        found[found.argmax()] = torch.inf
        return found.masked_fill(self._masks[piece.name], -1.0) if self._masks else found

    @override
    def before_step(self, optimizer: Optimizer, *, fresh: bool) -> None:
        strength = self.strength
        if self._prox or strength == 0:
            return
        # A fused optimizer is given gradients that GradScaler has multiplied.
        scale = getattr(optimizer, "grad_scale", None)
        for piece in self._pieces:
            gradient = piece.parameter.grad
            if gradient is not None:
                sign = piece.parameter.detach().sign()
                _ = gradient.add_(sign if scale is None else sign * scale, alpha=strength)

    @override
    def after_step(self, optimizer: Optimizer) -> None:
        strength = self.strength
        if self._prox and strength:
            rates = rates_of(optimizer, {piece.name: piece.parameter for piece in self._pieces})
            for piece in self._pieces:
                if piece.parameter.grad is not None:
                    _ = L1().prox_(piece.parameter.detach(), rates[piece.name] * strength)
        hold_(self._pieces, self._masks)
        self._step += 1

    @override
    def state_dict(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "step": self._step,
            "pruned": self._pruned,
            "masks": dict(self._masks),
        }

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        held = read_keys(state, ("format", "step", "pruned", "masks"))
        step, pruned = read_count("step", held["step"]), read_truth("pruned", held["pruned"])
        self._masks = read_masks(held["masks"], element_shapes(self._pieces))
        self._step, self._pruned = step, pruned


@dataclass(frozen=True, slots=True)
class _Scales(Groups):
    """The scales of BatchNorms."""

    @override
    def divide(self, name: str, weight: Tensor, owner: nn.Module) -> Slice | None:
        if isinstance(owner, BATCH_NORMS) and weight is owner.weight:
            return Slice(name, weight, tuple(weight.shape), 0)
        return None


_SCALES = _Scales()
