"""What training reports while it runs: loss, accuracy and how many units are dying, per layer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

DYING = 1e-3
"""Below it a unit counts as dying (Mehta et al. 2019, arXiv 1811.12495: |gamma| < 1e-3)."""


@dataclass(frozen=True, slots=True)
class Dying:
    """Of `units` units, `dying` have a norm scale, or all incoming weights, below `DYING`."""

    dying: int
    units: int


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a training run after `step` of `steps` steps.

    Args:
        step: Steps done.
        steps: Steps that will be done.
        loss: Of the last batch.
        accuracy: On the validation part, in [0, 1].
        learning_rate: Of the last step.
        layers: Name of the layer -> its units, see `dying_units`.
        epoch: The epoch of the last step, from 1.
        epochs: Epochs of the whole run.
    """

    step: int
    steps: int
    loss: float
    accuracy: float
    learning_rate: float
    layers: Mapping[str, Dying]
    epoch: int = 0
    epochs: int = 0


Observer = Callable[[Progress], None]
"""Is called with every `Progress`; what it raises stops the training."""


def dying_units(model: nn.Module, threshold: float = DYING) -> dict[str, Dying]:
    """Per layer, how many units are about to vanish; a look at the weights, no proof.

    Counted are the scales of every batch norm, and the rows of every linear layer but the last,
    whose outputs are the classes.
    """
    norms = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    found: dict[str, Dying] = {}
    for name, module in model.named_modules():
        if isinstance(module, norms) and module.affine:
            found[name] = _count(module.weight.abs(), threshold)
        elif name in linear[:-1] and isinstance(module, nn.Linear):
            found[name] = _count(module.weight.abs().amax(dim=1), threshold)
    return found


def _count(sizes: Tensor, threshold: float) -> Dying:
    with torch.no_grad():
        return Dying(int((sizes < threshold).sum()), len(sizes))
