"""Diagnoses as tests ask for them: Adam with L2 on six inputs."""

from typing import Any

import torch
from torch import nn
from torch.optim import Adam

from abscise.implicit import Diagnosis, diagnose

X = torch.linspace(-1.0, 1.0, 24).view(4, 6)
L2: dict[str, Any] = {"lr": 1e-3, "weight_decay": 1e-3}


def asked(model: nn.Module, inputs: Any = X, steps: int = 3000, **told: Any) -> Diagnosis:
    optimizer = Adam(model.parameters(), **L2)
    return diagnose(model, optimizer, inputs, steps=steps, **{"gradient_rms": 1e-3, **told})


def layers_of(found: Diagnosis) -> set[str]:
    return {it.name for part in found.parts for it in part.layers}
