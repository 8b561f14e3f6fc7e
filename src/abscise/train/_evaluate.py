"""Predictions, accuracy and loss, in eval mode, leaving the model's mode as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from abscise.train._data import Split

BATCH = 1000  # examples at once: bounds the memory that activations take


def predict(model: nn.Module, inputs: Tensor) -> Tensor:
    """The predicted class of each example `(examples, ...)`, as int64 `(examples,)`.

    Runs in eval mode, on the device of `inputs`; every module's mode is restored. The model gets
    copies, so that one that works in place leaves `inputs` as they are.
    """
    with _evaluating(model):
        return torch.cat([model(part.clone()).argmax(dim=1) for part in inputs.split(BATCH)])


def accuracy(model: nn.Module, examples: Split) -> float:
    """The share of `examples` that `model` classifies correctly, in [0, 1]."""
    hits = predict(model, examples.inputs) == examples.labels
    return int(hits.sum()) / len(examples)


def loss_and_error(model: nn.Module, examples: Split) -> tuple[float, float]:
    """The mean cross-entropy over `examples`, and the share that is classified wrongly."""
    parts = zip(examples.inputs.split(BATCH), examples.labels.split(BATCH), strict=True)
    total = torch.zeros((), dtype=torch.float64)
    wrong = 0
    with _evaluating(model):
        for inputs, labels in parts:
            logits = model(inputs.clone())
            total += cross_entropy(logits.double(), labels, reduction="sum").cpu()
            wrong += int((logits.argmax(dim=1) != labels).sum())
    return total.item() / len(examples), wrong / len(examples)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode and no gradients inside; then every module's mode is as it was."""
    modes = {module: module.training for module in model.modules()}
    try:
        _ = model.eval()
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training
