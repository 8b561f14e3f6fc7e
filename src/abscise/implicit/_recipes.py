"""Optimizers in the two forms that the papers compare: L2 in the gradient, and WD after the update.

L2 adds `strength * weight` to the gradient, which the optimizer then scales like the rest of it. WD
multiplies every weight by `1 - strength` after the update, whatever the learning rate.

Source: Mehta, Kim, Theobalt 2019, "On Implicit Filter Level Sparsity in Convolutional Neural
Networks", arXiv 1811.12495; for Adam with L2 also Yaguchi et al. 2018, arXiv 1812.08119. All are
torch's own optimizers with one parameter group for each kind of parameter: schedulers, state dicts
and `GradScaler` work as always. WD is a step hook that reads `group["shrink"]`; a deep copy of an
optimizer loses its hooks. torch's AdamW differs from WD: it multiplies by `1 - lr * weight_decay`,
before the update.
"""

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn
from torch.optim import SGD, Adadelta, Adagrad, Adam, Optimizer, RMSprop

from abscise.implicit._network import Kind, parameter_kinds
from abscise.implicit._rule import SHRINK

AnyOptimizer = TypeVar("AnyOptimizer", bound=Optimizer)


@dataclass(frozen=True, slots=True)
class Strengths:
    """One strength for each kind of parameter; `None` is that of the weights.

    Args:
        weights: Of layers.
        biases: Of layers.
        gamma: Scales of norms.
        beta: Shifts of norms.

    Raises:
        ValueError: One is negative or not finite.
    """

    weights: float
    biases: float | None = None
    gamma: float | None = None
    beta: float | None = None

    def __post_init__(self) -> None:
        for kind in Kind:
            if not 0 <= self.of(kind) < math.inf:
                message = f"strength of {kind} must be >= 0 and finite, got {self.of(kind)}"
                raise ValueError(message)

    def of(self, kind: Kind) -> float:
        """The strength for parameters of that kind."""
        own: float | None = getattr(self, kind.value)
        return self.weights if own is None else own


def adam_l2(
    model: nn.Module,
    lr: float,
    l2: float | Strengths,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> Adam:
    """Adam with L2 in the gradient: behind ReLUs units die."""
    return Adam(_groups(model, l2, "weight_decay"), lr, betas, eps)


def adam_wd(
    model: nn.Module,
    lr: float,
    wd: float | Strengths,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> Adam:
    """Adam, and `w *= 1 - wd` after every update."""
    return _shrinking(Adam(_groups(model, wd, SHRINK), lr, betas, eps))


def rmsprop_l2(
    model: nn.Module,
    lr: float,
    l2: float | Strengths,
    *,
    alpha: float = 0.99,
    eps: float = 1e-8,
) -> RMSprop:
    """RMSprop with L2 in the gradient."""
    return RMSprop(_groups(model, l2, "weight_decay"), lr, alpha, eps)


def rmsprop_wd(
    model: nn.Module,
    lr: float,
    wd: float | Strengths,
    *,
    alpha: float = 0.99,
    eps: float = 1e-8,
) -> RMSprop:
    """RMSprop, and `w *= 1 - wd` after every update."""
    return _shrinking(RMSprop(_groups(model, wd, SHRINK), lr, alpha, eps))


def adadelta_l2(
    model: nn.Module,
    lr: float,
    l2: float | Strengths,
    *,
    rho: float = 0.9,
    eps: float = 1e-6,
) -> Adadelta:
    """Adadelta with L2 in the gradient."""
    return Adadelta(_groups(model, l2, "weight_decay"), lr, rho, eps)


def adadelta_wd(
    model: nn.Module,
    lr: float,
    wd: float | Strengths,
    *,
    rho: float = 0.9,
    eps: float = 1e-6,
) -> Adadelta:
    """Adadelta, and `w *= 1 - wd` after every update."""
    return _shrinking(Adadelta(_groups(model, wd, SHRINK), lr, rho, eps))


def adagrad_l2(
    model: nn.Module, lr: float, l2: float | Strengths, *, eps: float = 1e-10
) -> Adagrad:
    """Adagrad with L2 in the gradient."""
    return Adagrad(_groups(model, l2, "weight_decay"), lr, eps=eps)


def adagrad_wd(
    model: nn.Module, lr: float, wd: float | Strengths, *, eps: float = 1e-10
) -> Adagrad:
    """Adagrad, and `w *= 1 - wd` after every update."""
    return _shrinking(Adagrad(_groups(model, wd, SHRINK), lr, eps=eps))


def sgd_l2(model: nn.Module, lr: float, l2: float | Strengths, *, momentum: float = 0.9) -> SGD:
    """SGD with L2 in the gradient: the control, in which next to nothing dies."""
    return SGD(_groups(model, l2, "weight_decay"), lr, momentum)


def sgd_wd(model: nn.Module, lr: float, wd: float | Strengths, *, momentum: float = 0.9) -> SGD:
    """SGD, and `w *= 1 - wd` after every update."""
    return _shrinking(SGD(_groups(model, wd, SHRINK), lr, momentum))


def _groups(model: nn.Module, strength: float | Strengths, key: str) -> list[dict[str, Any]]:
    """One group for each kind that the model has; parameters without gradient are left out."""
    strengths = strength if isinstance(strength, Strengths) else Strengths(strength)
    if key == SHRINK and any(strengths.of(kind) >= 1 for kind in Kind):
        message = f"wd must be below 1, which takes all of a weight at once, got {strength}"
        raise ValueError(message)
    named = dict(model.named_parameters())
    kinds = parameter_kinds(model)
    found = []
    for kind in Kind:
        held = [it for name, it in named.items() if kinds[name] is kind and it.requires_grad]
        if held:
            found.append({"params": held, "kind": kind.value, key: strengths.of(kind)})
    return found


def _shrinking(optimizer: AnyOptimizer) -> AnyOptimizer:
    _ = optimizer.register_step_post_hook(_shrink)
    return optimizer


def _shrink(optimizer: Optimizer, _args: object, _kwargs: object) -> None:
    """Multiply all weights that have just been updated by 1 - shrink."""
    # A fused optimizer's hook also runs on a step that GradScaler skips.
    skipped = getattr(optimizer, "found_inf", None)
    if skipped is not None and bool(skipped):
        return
    with torch.no_grad():
        for group in optimizer.param_groups:
            share = group.get(SHRINK, 0.0)
            for parameter in group["params"] if share else ():
                if parameter.grad is not None:
                    _ = parameter.mul_(1 - share)
