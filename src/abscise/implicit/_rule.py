"""Rule: what one parameter group of an optimizer does to a weight without data gradient."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from torch.optim import SGD, Adadelta, Adagrad, Adam, AdamW, Optimizer, RMSprop

from abscise.implicit._rates import Rates

SHRINK = "shrink"
"""Key of a parameter group: share of each weight that is taken away after every update."""


class Family(StrEnum):
    """The update rules whose law is known."""

    ADADELTA = "adadelta"
    ADAGRAD = "adagrad"
    ADAM = "adam"
    RMSPROP = "rmsprop"
    SGD = "sgd"


class Decay(StrEnum):
    """How the decay reaches the weights.

    COUPLED: strength * weight is added to the gradient (L2) and scaled like it. DECOUPLED: weights
    are multiplied by 1 - learning rate * strength. SHRINK: by 1 - strength, whatever the learning
    rate, as Mehta et al. 2019 (arXiv 1811.12495) define WD.
    """

    NONE = "none"
    COUPLED = "L2 in the gradient"
    DECOUPLED = "decoupled"
    SHRINK = "after the update"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One parameter group of a known optimizer, as numbers.

    Args:
        family: Which update.
        decay: How the decay reaches the weights.
        lr: Learning rate; with `rates`, the largest of the run.
        strength: lam of the decay.
        momentum: beta1 of Adam, else the momentum.
        dampening: Of SGD's momentum.
        nesterov: Of SGD's momentum.
        memory: beta2 of Adam, alpha of RMSprop, rho of Adadelta: of the second moment.
        eps: Added to the root of the second moment; by Adadelta, under it.
        amsgrad: Of Adam: the second moment never falls.
        lr_decay: Of Adagrad.
        rates: Shares of `lr` for each step that the run still has; None: it stays.
    """

    family: Family
    decay: Decay
    lr: float
    strength: float
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    memory: float = 0.0
    eps: float = 0.0
    amsgrad: bool = False
    lr_decay: float = 0.0
    rates: Rates | None = None

    @property
    def at_end(self) -> "Rule":
        """The rule of the run's last step, as if its learning rate stayed."""
        if self.rates is None:
            return self
        return replace(self, lr=self.lr * self.rates.end, rates=None)

    @property
    def adaptive(self) -> bool:
        """Whether the gradient, L2 included, is divided by its own size."""
        return self.family is not Family.SGD

    @property
    def frozen(self) -> bool:
        """Whether what the gradient is divided by never falls: L2 keeps being a small part."""
        return self.amsgrad or self.family is Family.ADAGRAD

    @property
    def gain(self) -> float:
        """How far momentum carries a push, over the push; 1 for Adam, whose is an average."""
        if self.family is Family.ADAM or not self.momentum:
            return 1.0
        return (1 - self.dampening) / (1 - self.momentum)

    @property
    def ceiling(self) -> float:  # noqa: PLR0911 - one return per law
        """Largest share of a weight that one step can take, all gradients gone: a lam / eps."""
        if self.decay is Decay.NONE:
            return 0.0
        if self.decay is Decay.SHRINK:
            return self.strength
        if self.decay is Decay.DECOUPLED or not self.adaptive:
            return self.lr * self.strength
        if self.eps == 0:
            return float("inf")
        # Adadelta has eps above and below its fraction.
        return self.lr * self.strength / (1.0 if self.family is Family.ADADELTA else self.eps)

    @property
    def stability_bound(self) -> float:
        """A `ceiling` above it makes a weight that is nearly 0 jump instead of vanish."""
        if self.decay in {Decay.DECOUPLED, Decay.SHRINK}:
            return 1.0
        if self.family is Family.ADAM:
            return 2 * (1 + self.momentum) / (1 - self.momentum)
        return 2 * (1 + self.momentum) / (1 - self.dampening if self.momentum else 1.0)

    @property
    def cycle(self) -> float:
        """Size (root mean square) at which a weight of 0 keeps jumping; 0 where it vanishes.

        Above the bound the weight's own gradient has to be what makes the divisor large enough:
        lr * strength / (strength * size + eps) = bound. Rare peaks are up to 50 times higher.
        """
        forgets = self.adaptive and not self.frozen and self.family is not Family.ADADELTA
        if self.decay is not Decay.COUPLED or not forgets or not self.strength:
            return 0.0
        return max(0.0, self.jump(1.0))

    def jump(self, share: float) -> float:
        """The same at a share of the learning rate, for any divisor; negative: it vanishes."""
        return share * self.lr / self.stability_bound - self.eps / self.strength


def read_rule(optimizer: Optimizer, group: Mapping[str, Any]) -> Rule | None:
    """The rule of a parameter group; None where no law is known, never a guess.

    Subclasses count as unknown: what they changed cannot be seen. So do RMSprop with `centered`,
    whose divisor may vanish before the weight does, and SGD with Nesterov's momentum.
    """
    family = _FAMILIES.get(type(optimizer))
    if family is None or group.get("centered", False) or group.get("nesterov", False):
        return None
    beta1, beta2 = (float(beta) for beta in group.get("betas", (0.0, 0.0)))
    memory = {Family.RMSPROP: "alpha", Family.ADADELTA: "rho"}.get(family)
    decay, strength = _decay(optimizer, group)
    return Rule(
        family=family,
        decay=decay,
        lr=float(group["lr"]),
        strength=strength,
        momentum=beta1 if family is Family.ADAM else float(group.get("momentum", 0.0)),
        dampening=float(group.get("dampening", 0.0)),
        memory=beta2 if memory is None else float(group[memory]),
        eps=float(group.get("eps", 0.0)),
        amsgrad=bool(group.get("amsgrad", False)),
        lr_decay=float(group.get("lr_decay", 0.0)),
    )


_FAMILIES: Mapping[type[Optimizer], Family] = {
    Adadelta: Family.ADADELTA,
    Adagrad: Family.ADAGRAD,
    Adam: Family.ADAM,
    AdamW: Family.ADAM,
    RMSprop: Family.RMSPROP,
    SGD: Family.SGD,
}


def _decay(optimizer: Optimizer, group: Mapping[str, Any]) -> tuple[Decay, float]:
    coupled, shrink = float(group.get("weight_decay", 0.0)), float(group.get(SHRINK, 0.0))
    if shrink:
        return Decay.SHRINK, shrink
    if not coupled:
        return Decay.NONE, 0.0
    apart = isinstance(optimizer, AdamW) or bool(group.get("decoupled_weight_decay", False))
    return (Decay.DECOUPLED if apart else Decay.COUPLED), coupled
