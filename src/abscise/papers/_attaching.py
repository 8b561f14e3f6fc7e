"""What `fit` calls to put a sparsifier to work."""

from typing import Any

from torch import nn
from torch.optim import Optimizer

import abscise
from abscise.sparsify import Attachment, Sparsifier
from abscise.train import Attach


def attaching(sparsifier: Sparsifier[Any]) -> Attach:
    """A function of model and optimizer that attaches `sparsifier` to them."""

    def attach(model: nn.Module, optimizer: Optimizer) -> Attachment[Any]:
        return abscise.attach(sparsifier, optimizer, model)

    return attach
