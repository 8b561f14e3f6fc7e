"""DecoupledDecay and Lobster: weights shrink by a share of themselves, at any learning rate."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from abscise._schedules import Constant, check_strength
from abscise.sparsify._choice import Choice
from abscise.sparsify._fields import FORMAT, read_count, read_keys
from abscise.sparsify._groups import EVERYTHING
from abscise.sparsify._slices import Bunch
from abscise.sparsify._sparsifier import Sparsifier, Worker
from abscise.sparsify._weights import check_dtype


@dataclass(frozen=True, slots=True, eq=False)
class DecoupledDecay(Sparsifier["DecayWorker"]):
    """After each optimizer step: w <- w - strength * w. No learning rate is in it.

    The control of every sensitivity method: what is left of it where the sensitivity is 0. In
    AdamW's words a weight_decay of strength / learning rate. Nothing becomes 0 by it: see
    `Thresholding`, and for the strength `strength_to_vanish`.

    Args:
        strength: In [0, 1), or a `Schedule`: a function of the step, which counts from 1.
        where: Name patterns of parameters or layers to act on; by default all that the optimizer
            trains, biases and norms too. Directions of weight-normed weights never.
        exclude: Name patterns of those to leave out, though `where` names them.

    Source: I. Loshchilov, F. Hutter 2017, "Decoupled Weight Decay Regularization" (arXiv
    1711.05101), where the decay follows a schedule of its own.
    """

    strength: float | Callable[[int], float]
    where: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check("DecoupledDecay", self.strength, self.where, self.exclude)

    @override
    def bind(self, optimizer: Optimizer, model: nn.Module) -> "DecayWorker":
        choice = Choice("DecoupledDecay", self.where, self.exclude)
        bunches = choice.bunches(optimizer, model, EVERYTHING)
        return DecayWorker("DecoupledDecay", self.strength, bunches, _decay_)


@dataclass(frozen=True, slots=True, eq=False)
class Lobster(Sparsifier["DecayWorker"]):
    """After each optimizer step: w <- w - strength * w * max(0, 1 - |dL/dw|).

    What the loss feels is spared. The gradient is the one that the step was made with, accumulated
    and clipped as it was; weights without one are left. Nothing becomes 0 by it: see
    `Thresholding` with a `Bisection`, which is the other half of the method.

    Args:
        strength: In [0, 1), or a `Schedule`: a function of the step, which counts from 1.
        where: Name patterns of parameters or layers to act on; by default all that the optimizer
            trains: linear layers, convolutions, norms, biases. Directions of weight-normed weights
            never.
        exclude: Name patterns of those to leave out, though `where` names them.

    Source: E. Tartaglione, A. Bragagnolo, A. Fiandrotti, M. Grangetto 2020, "LOss-Based SensiTivity
    rEgulaRization: Towards Deep Sparse Neural Networks" (arXiv 2011.09905).
    """

    strength: float | Callable[[int], float]
    where: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check("Lobster", self.strength, self.where, self.exclude)

    @override
    def bind(self, optimizer: Optimizer, model: nn.Module) -> "DecayWorker":
        bunches = Choice("Lobster", self.where, self.exclude).bunches(optimizer, model, EVERYTHING)
        return DecayWorker("Lobster", self.strength, bunches, _spare_)


class DecayWorker(Worker):
    """The parameters that decay, and the steps done."""

    def __init__(
        self,
        who: str,
        strength: float | Callable[[int], float],
        bunches: Sequence[Bunch],
        rule: Callable[[Tensor, Tensor, float], None],
    ) -> None:
        """Made by `bind`; changes nothing.

        Raises:
            ValueError: A parameter is of half precision.
        """
        self._who = who
        self._schedule = strength if callable(strength) else Constant(strength)
        self._parameters = {bunch.names: bunch.slices[0].parameter for bunch in bunches}
        for name, parameter in self._parameters.items():
            check_dtype(name, parameter)
        self._rule = rule
        self._step = 0

    @property
    def step(self) -> int:
        """Steps done."""
        return self._step

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that decay."""
        return tuple(self._parameters)

    @property
    def strength(self) -> float:
        """Of the next step."""
        strength = float(self._schedule(self._step + 1))
        _check_share(f"{self._who}: step {self._step + 1}", strength)
        return strength

    @override
    def after_step(self, optimizer: Optimizer) -> None:
        strength = self.strength
        with torch.no_grad():
            for parameter in self._parameters.values() if strength else ():
                if parameter.grad is not None:
                    self._rule(parameter.detach(), parameter.grad, strength)
        self._step += 1

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, "step": self._step}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._step = read_count("step", read_keys(state, ("format", "step"))["step"])


def _decay_(weights: Tensor, _gradient: Tensor, strength: float) -> None:
    """Not `weights *= 1 - strength`, which rounds a small strength in float32."""
    _ = weights.sub_(weights, alpha=strength)


def _spare_(weights: Tensor, gradient: Tensor, strength: float) -> None:
    dense = gradient.to_dense() if gradient.is_sparse else gradient
    spared = dense.abs().neg_().add_(1).clamp_(min=0)
    _ = weights.addcmul_(weights, spared, value=-strength)


def _check(
    who: str,
    strength: float | Callable[[int], float],
    where: tuple[str, ...],
    exclude: tuple[str, ...],
) -> None:
    if not callable(strength):
        _check_share(who, strength)
    _ = Choice(who, where, exclude)


def _check_share(who: str, strength: float) -> None:
    check_strength(who, strength)
    if strength >= 1:
        message = (
            f"{who}: strength must be < 1, got {strength!r}: it is the share of itself that a "
            "weight loses in a step"
        )
        raise ValueError(message)
