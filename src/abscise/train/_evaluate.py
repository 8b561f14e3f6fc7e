"""Predictions and accuracy, in eval mode, leaving the model's mode as it was."""

import torch
from torch import Tensor, nn

from abscise.train._data import Split

BATCH = 1000  # examples at once: bounds the memory that activations take


def predict(model: nn.Module, inputs: Tensor) -> Tensor:
    """The predicted class of each example `(examples, ...)`, as int64 `(examples,)`.

    Runs in eval mode, on the device of `inputs`; every module's mode is restored. The model gets
    copies, so that one that works in place leaves `inputs` as they are.
    """
    modes = {module: module.training for module in model.modules()}
    try:
        _ = model.eval()
        with torch.no_grad():
            return torch.cat([model(part.clone()).argmax(dim=1) for part in inputs.split(BATCH)])
    finally:
        for module, training in modes.items():
            module.training = training


def accuracy(model: nn.Module, examples: Split) -> float:
    """The share of `examples` that `model` classifies correctly, in [0, 1]."""
    hits = predict(model, examples.inputs) == examples.labels
    return int(hits.sum()) / len(examples)
