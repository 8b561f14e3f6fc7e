"""One batch on a copy of the network: what cannot be trained is said before anything is kept."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parameter import is_lazy

from abscise._errors import ModelError
from abscise._importing import one_line
from abscise.train._data import Split
from abscise.train._randomness import seeded
from abscise.train._recipe import Recipe


def check_parameters(recipe: Recipe, model: nn.Module) -> None:
    """Refuse a network that no optimizer of ours can train.

    Raises:
        ModelError: It names the parameter.
    """
    where = f"recipe {recipe.name}: model {recipe.model}"
    named = list(model.named_parameters())
    if not any(weight.requires_grad for _, weight in named):
        message = f"{where} has no parameters to train"
        raise ModelError(message)
    for name, weight in named:
        if weight.is_meta or is_lazy(weight):
            message = f"{where}: {name} has no values: run a batch through the network first"
            raise ModelError(message)
        if weight.dtype != torch.float32 or not weight.numel():
            found = f"{list(weight.shape)} of {weight.dtype}"
            message = f"{where}: {name} must be torch.float32 and not empty, got {found}"
            raise ModelError(message)


def try_batch(
    recipe: Recipe,
    model: nn.Module,
    examples: Split,
    classes: int,
    autocast: Callable[[], AbstractContextManager[object]],
) -> None:
    """Train a copy of `model` on one part of a batch; model and random state stay as they are.

    Raises:
        ModelError: The network fails, or does not give logits `(examples, classes)`.
    """
    size = recipe.batch_size // recipe.accumulate
    device = next(model.parameters()).device
    some, labels = examples.inputs[:size].to(device).clone(), examples.labels[:size].to(device)
    where = f"recipe {recipe.name}: model {recipe.model}"
    given = f"{size} example{'s' * (size != 1)} of {list(some.shape[1:])}"
    try:
        with seeded(recipe.seed), autocast():
            tried = copy.deepcopy(model).train()
            logits: object = tried(some)
            wrong = _wrong(logits, size, classes)
            if wrong is None and isinstance(logits, Tensor):
                cross_entropy(logits, labels).backward()
    except Exception as problem:
        message = f"{where} cannot be trained on {given}: {one_line(problem)}"
        raise ModelError(message) from problem
    if wrong is not None:
        message = f"{where} must give logits of [{size}, {classes}] for {given}, got {wrong}"
        raise ModelError(message)


def _wrong(logits: object, size: int, classes: int) -> str | None:
    """What came back instead of logits; None where they are. More classes than needed may be."""
    if not isinstance(logits, Tensor):
        return f"a {type(logits).__name__}"
    shape = tuple(logits.shape)
    fits = len(shape) == 2 and shape[0] == size and shape[1] >= classes
    if fits and logits.is_floating_point() and logits.requires_grad:
        return None
    grown = "" if logits.requires_grad else " that do not depend on its parameters"
    return f"{list(shape)} of {logits.dtype}{grown}"
