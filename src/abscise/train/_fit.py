"""The reference loop: read it from top to bottom, things happen in this order.

Nothing in it knows about sparsity. It is Adam, with the L2 term in the gradient, that makes units
die; compaction then only takes away what is dead.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from abscise._errors import DataError
from abscise.train._data import Data, Split, load_data
from abscise.train._datasets import facts
from abscise.train._evaluate import accuracy
from abscise.train._models import MLP, ConvNet, LeNet300
from abscise.train._non_finite import non_finite_error
from abscise.train._progress import Observer, Progress, dying_units
from abscise.train._randomness import seeded
from abscise.train._recipe import ModelName, OptimizerName, Recipe


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A trained network and how it came about.

    Args:
        recipe: What was done.
        model: In eval mode, on the recipe's device.
        test_accuracy: Of `model`, in [0, 1]; the only figure for which the test set was read.
        history: What the observer saw, in order.
        data: What it was trained and tested on, on the CPU.
        wall_s: Seconds for the steps and their reports, without reading the data.
    """

    recipe: Recipe
    model: nn.Module
    test_accuracy: float
    history: tuple[Progress, ...]
    data: Data
    wall_s: float


def fit(recipe: Recipe, *, data: Data | None = None, observer: Observer | None = None) -> Trained:
    """Train the recipe's network. The caller's random state is left as it was.

    Args:
        recipe: What to do.
        data: From `load_data`; None loads the recipe's set.
        observer: Is called with a `Progress` every `report_every` steps and after the last.

    Raises:
        DataError: The data is missing, does not fit the model, or is smaller than one batch.
        ModelError: The loss became NaN or infinite; the text names the first layer concerned.
    """
    data = load_data(recipe.data) if data is None else data
    _check_fit(recipe, data)
    device = torch.device(recipe.device)
    with seeded(recipe.seed):
        model = build_model(recipe).to(device)
        optimizer = build_optimizer(recipe, model)
        # Small data lives on the device as one tensor: no workers, no copies.
        train, validation = data.train.to(device), data.validation.to(device)
        steps = recipe.epochs * (len(train) // recipe.batch_size)
        drops = {round(steps * share) for share in recipe.drops}
        history: list[Progress] = []
        started = time.perf_counter()
        for step, (inputs, labels) in enumerate(_batches(train, recipe), start=1):
            # Large steps first; small ones at the end let go what only noise keeps from zero.
            if step in drops:
                for group in optimizer.param_groups:
                    group["lr"] *= recipe.drop_factor
            loss = cross_entropy(model(inputs), labels)
            # Before the update: afterwards every weight is NaN and nobody knows where it began.
            if not torch.isfinite(loss):
                raise non_finite_error(model, inputs, step)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % recipe.report_every == 0 or step == steps:
                rate = float(optimizer.param_groups[0]["lr"])
                chosen_by = accuracy(model, validation)
                layers = dying_units(model)
                history.append(Progress(step, steps, loss.item(), chosen_by, rate, layers))
                if observer is not None:
                    observer(history[-1])
        wall_s = time.perf_counter() - started
        # Nothing above has touched the test set; nothing below changes the model.
        test_accuracy = accuracy(model, data.test.to(device))
    return Trained(recipe, model.eval(), test_accuracy, tuple(history), data, wall_s)


def build_model(recipe: Recipe) -> nn.Module:
    """The recipe's network with fresh weights, on the CPU."""
    about = facts(recipe.data)
    match recipe.model:
        case ModelName.CONV:
            channels, side = about.shape[0], about.shape[-1]
            return ConvNet(
                recipe.widths, recipe.hidden[0], channels=channels, side=side, classes=about.classes
            )
        case ModelName.MLP:
            return MLP(torch.Size(about.shape).numel(), recipe.hidden, about.classes)
        case ModelName.LENET300:
            return LeNet300()


def build_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimizer over all parameters, biases and norms included."""
    weights = list(model.parameters())
    rate, decay = recipe.learning_rate, recipe.weight_decay
    # The fused kernels are the fast ones for small networks, where launching is what costs.
    fused = torch.device(recipe.device).type in {"cpu", "cuda"}
    match recipe.optimizer:
        case OptimizerName.ADAM:
            return torch.optim.Adam(weights, rate, recipe.betas, weight_decay=decay, fused=fused)
        case OptimizerName.ADAMW:
            return torch.optim.AdamW(weights, rate, recipe.betas, weight_decay=decay, fused=fused)
        case OptimizerName.SGD:
            return torch.optim.SGD(
                weights, rate, momentum=recipe.momentum, weight_decay=decay, fused=fused
            )


def _batches(train: Split, recipe: Recipe) -> Iterator[tuple[Tensor, Tensor]]:
    """Every epoch in a new order; the rest that fills no batch waits for the next epoch."""
    size, device = recipe.batch_size, train.labels.device
    for _ in range(recipe.epochs):
        order = torch.randperm(len(train)).to(device)  # drawn on the CPU: the same on any device
        for start in range(0, len(train) - size + 1, size):
            chosen = order[start : start + size]
            yield train.inputs[chosen], train.labels[chosen]


def _check_fit(recipe: Recipe, data: Data) -> None:
    """The data is the recipe's, and enough for one batch."""
    where = f"recipe {recipe.name}"
    if data.name != recipe.data:
        message = f"{where}: wants the data set {recipe.data}, got {data.name}"
        raise DataError(message)
    shape = facts(recipe.data).shape
    if recipe.model is ModelName.LENET300 and torch.Size(shape).numel() != 784:
        message = f"{where}: lenet300 reads 28x28 images, {recipe.data} has {list(shape)}: use mlp"
        raise DataError(message)
    if recipe.model is ModelName.CONV and (len(shape) != 3 or shape[-1] % 4):
        message = f"{where}: conv reads images of side 4n, {recipe.data} has {list(shape)}: use mlp"
        raise DataError(message)
    if len(data.train) < recipe.batch_size:
        message = f"{where}: batch_size {recipe.batch_size} exceeds the {len(data.train)} examples"
        raise DataError(message)
