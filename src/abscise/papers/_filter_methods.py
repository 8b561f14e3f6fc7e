"""The optimizers that are compared, with L2 or WD, and what is done to prune afterwards."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from abscise.papers._attaching import attaching
from abscise.papers._filter_cuts import Ranking
from abscise.sparsify import DecoupledDecay, Form, NetworkSlimming
from abscise.train import Attach

BATCH = 40
_ADAM = MappingProxyType({"optimizer": "adam", "learning_rate": 1e-3, "betas": [0.9, 0.99]})
_SGD = MappingProxyType({"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.9})
_ADADELTA = MappingProxyType({"optimizer": "adadelta", "learning_rate": 1.0})
_ADAGRAD = MappingProxyType({"optimizer": "adagrad", "learning_rate": 1e-2})
SLIMMING_L2 = 1e-4


class Act(StrEnum):
    """What `strength` does: added to the gradient; w *= 1 - strength after the update; l1."""

    L2 = "L2"
    WD = "WD"
    SLIMMING = "slimming"


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One way to train.

    Args:
        title: For tables.
        fields: Of the recipe.
        act: What its strength does.
        batch: Examples of a step.
        rankings: By which filters are cut off afterwards, without fine-tuning.
        control: Must it leave every unit alive, whatever its strength?
    """

    title: str
    fields: Mapping[str, Any]
    act: Act = Act.L2
    batch: int = BATCH
    rankings: tuple[Ranking, ...] = ()
    control: bool = False

    @property
    def about(self) -> str:
        """In words, for a recorded run."""
        return f"{self.title}; the strength is that of {self.act.value}"

    def decay(self, strength: float) -> float:
        """The optimizer's own weight_decay."""
        return {Act.L2: strength, Act.WD: 0.0, Act.SLIMMING: SLIMMING_L2}[self.act]

    def attachments(self, strength: float) -> tuple[Attach, ...]:
        """What works beside the optimizer.

        Source of the l1 term: Z. Liu et al. 2017, arXiv 1708.06519, as published: a subgradient
        under SGD with L2 of 1e-4.
        """
        if self.act is Act.L2:
            return ()
        if self.act is Act.WD:
            return (attaching(DecoupledDecay(strength)),)
        return (attaching(NetworkSlimming(strength, Form.SUBGRADIENT)),)


def methods() -> Mapping[str, Method]:
    """Name -> method, in the order of tables."""
    gamma, norm = Ranking.GAMMA, Ranking.NORM
    batches = {
        f"adam-l2-batch{size}": Method(title=f"Adam L2, batch {size}", fields=_ADAM, batch=size)
        for size in (20, 80, 160)
    }
    return MappingProxyType(
        {
            "adam-l2": Method(title="Adam L2", fields=_ADAM, rankings=(gamma, norm)),
            **batches,
            "adam-wd": Method(title="Adam WD", fields=_ADAM, act=Act.WD),
            "adamw": Method(
                title="AdamW, the same number",
                fields=_ADAM | {"optimizer": "adamw"},
                control=True,
            ),
            "amsgrad-l2": Method(
                title="AMSGrad L2", fields=_ADAM | {"amsgrad": True}, control=True
            ),
            "adam-l2-eps": Method(
                title="Adam L2, eps 1e-3", fields=_ADAM | {"eps": 1e-3}, control=True
            ),
            "sgd-l2": Method(title="SGD L2", fields=_SGD, rankings=(norm,)),
            "sgd-wd": Method(title="SGD WD", fields=_SGD, act=Act.WD),
            "adadelta-l2": Method(title="Adadelta L2", fields=_ADADELTA),
            "adadelta-wd": Method(title="Adadelta WD", fields=_ADADELTA, act=Act.WD),
            "adagrad-l2": Method(title="Adagrad L2", fields=_ADAGRAD),
            "adagrad-wd": Method(title="Adagrad WD", fields=_ADAGRAD, act=Act.WD),
            "slimming": Method(
                title="network slimming", fields=_SGD, act=Act.SLIMMING, rankings=(gamma,)
            ),
        }
    )


def is_control(method: str, strength: float | None) -> bool:
    """Must such a run show no unit below 1e-6?"""
    return methods()[method].control or (method == "adam-l2" and not strength)
