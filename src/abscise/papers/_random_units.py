"""RandomUnits: the baseline that chooses nothing: units drawn by lot are 0 from the first step."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer

import abscise
from abscise._units import UnitMap
from abscise.penalties import GroupLasso
from abscise.sparsify import Attachment, Proximal, ProximalWorker


@dataclass(frozen=True, slots=True, eq=False)
class RandomUnits:
    """Makes an attachment that holds a share of the units of each layer at 0.

    What is left is a narrower network of the same kind, trained from its first step on: whoever
    chooses units must be better than this at the same size. At least one unit of each layer stays.

    Args:
        share: In [0, 1).
        seed: Of the lot.
        units: Of the network.
    """

    share: float
    seed: int
    units: UnitMap

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            message = f"RandomUnits: share must be in [0, 1), got {self.share!r}"
            raise ValueError(message)

    def __call__(self, model: nn.Module, optimizer: Optimizer) -> Attachment[ProximalWorker]:
        """Set all that writes the drawn units to 0, and hold it there."""
        groups = _only(self.units, self._drawn())
        attached = abscise.attach(Proximal(GroupLasso(), 0.0, groups=groups), optimizer, model)
        with torch.no_grad():
            for layer in attached.worker.layers:
                layer.bunch.scale_(torch.zeros_like(layer.bunch.norms()))
        attached.worker.heal()
        return attached

    def _drawn(self) -> frozenset[int]:
        generator = torch.Generator().manual_seed(self.seed)
        drawn: set[int] = set()
        for ids in self.units.layers.values():
            free = [unit for unit in ids.tolist() if unit >= 0 and unit not in self.units.pinned]
            count = min(round(self.share * len(free)), max(len(free) - 1, 0))
            order = torch.randperm(len(free), generator=generator).tolist()
            drawn |= {free[place] for place in order[:count]}
        return frozenset(drawn)


def _only(units: UnitMap, chosen: frozenset[int]) -> UnitMap:
    """The map in which all but `chosen` are pinned."""
    others = dict.fromkeys(units.units - chosen, "not drawn")
    return UnitMap(units.axes, {**others, **units.pinned}, units.layers)
