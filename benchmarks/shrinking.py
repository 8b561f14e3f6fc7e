"""What removal during training saves: wall-clock to the same epoch, with and without it.

Two copies of one network are trained on the same batches by the same optimizer (Adam, L2 in the
gradient), epoch by epoch in turn, in one process, so that a busy machine slows both alike. One of
them sheds its dead units; captures, checks and removals count as its training time.
"""

import argparse
import copy
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from _recording import record, surroundings
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

import abscise
from abscise._subnormal import count_subnormal
from abscise.shrinking import ShrinkWorker
from abscise.sparsify import Attachment
from abscise.train import (
    Data,
    Recipe,
    Split,
    accuracy,
    build_model,
    build_optimizer,
    data_for,
    load_recipe,
)
from abscise.train._schedule import rate_at

GOAL = 1.5
WIDTHS = (128, 256, 256)
STRONG = {"learning_rate": 3e-3, "betas": [0.9, 0.99]}


class Side:
    """One of the two runs: a network, its optimizer, and the seconds of its epochs."""

    def __init__(self, recipe: Recipe, model: nn.Module) -> None:
        self.recipe, self.model = recipe, model
        self.optimizer: Optimizer = build_optimizer(recipe, model)
        self.seconds: list[float] = []
        self.accuracies: list[float] = []

    def epoch(self, data: Split, order: torch.Tensor, first: int, steps: int) -> None:
        """Train on the batches of one epoch; `first` steps of all `steps` are done."""
        began = now(order.device)
        _ = self.model.train()
        size = self.recipe.batch_size
        for place in range(len(order) // size):
            chosen = order[place * size : (place + 1) * size]
            for group in self.optimizer.param_groups:
                group["lr"] = rate_at(self.recipe, first + place + 1, steps)
            self.optimizer.zero_grad()
            cross_entropy(self.model(data.inputs[chosen]), data.labels[chosen]).backward()
            _ = self.optimizer.step()
        self.seconds.append(now(order.device) - began)


def now(device: torch.device) -> float:
    """Seconds, with the device's work done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def run(recipe: Recipe, data: Data, options: argparse.Namespace) -> dict[str, Any]:
    """Both runs, as plain data."""
    device = torch.device(recipe.device)
    train, validation = data.train.to(device), data.validation.to(device)
    _ = torch.manual_seed(recipe.seed)
    model = build_model(recipe).to(device).train()
    dense, small = Side(recipe, model), Side(recipe, copy.deepcopy(model))
    began = now(device)
    attachment = attached(small, train, options)
    attach_s = now(device) - began
    steps = recipe.epochs * (len(train) // recipe.batch_size)
    parameters = []
    for epoch in range(recipe.epochs):
        order = torch.randperm(len(train)).to(device)
        first = epoch * (len(train) // recipe.batch_size)
        for side in (dense, small) if epoch % 2 else (small, dense):
            side.epoch(train, order, first, steps)
            side.accuracies.append(accuracy(side.model, validation))
        parameters.append(sum(it.numel() for it in small.model.parameters()))
        if options.verbose:
            ratio = dense.seconds[-1] / small.seconds[-1]
            print(f"epoch {epoch + 1}: {ratio:.2f}x, {parameters[-1]:,} parameters", flush=True)
    test = data.test.to(device)
    plan = attachment.worker.plan
    small_s = sum(small.seconds) + attach_s
    return {
        "recipe": recipe.as_dict(),
        "options": {"every": options.every, "patience": options.patience, "snap": options.snap,
                    "at_least": options.at_least},
        "steps": steps,
        "units": plan.units,
        "units_removed": plan.removed_units,
        "parameters": sum(it.numel() for it in dense.model.parameters()),
        "parameters_left": parameters,
        "dense_epoch_s": rounded(dense.seconds),
        "shrinking_epoch_s": rounded(small.seconds),
        "attach_s": attach_s,
        "dense_s": sum(dense.seconds),
        "shrinking_s": small_s,
        "speedup": sum(dense.seconds) / small_s,
        "last_epochs_speedup": sum(dense.seconds[-3:]) / sum(small.seconds[-3:]),
        "subnormal_in_dense": sum(map(count_subnormal, dense.model.parameters())),
        "error_percent": {
            "dense": 100 * (1 - accuracy(dense.model, test)),
            "shrinking": 100 * (1 - accuracy(small.model, test)),
        },
        "validation_accuracy": {"dense": dense.accuracies, "shrinking": small.accuracies},
        "shrinks": [asdict(it) for it in attachment.worker.shrinks],
    }  # fmt: skip


def attached(side: Side, train: Split, options: argparse.Namespace) -> Attachment[ShrinkWorker]:
    """Removal at work on one of the runs."""
    shrinking = abscise.ShrinkWhileTraining(
        train.inputs[:8],
        every=options.every,
        patience=options.patience,
        snap=options.snap,
        at_least=options.at_least,
        observer=print if options.verbose else None,
    )
    return abscise.attach(shrinking, side.optimizer, side.model)


def rounded(values: list[float]) -> list[float]:
    """Four digits each."""
    return [float(f"{value:.4g}") for value in values]


def show(entry: Mapping[str, Any]) -> None:
    """Print the ratio and whether the goal is met."""
    share = entry["units_removed"] / entry["units"]
    errors = entry["error_percent"]
    print(f"{entry['recipe']['name']}: {entry['steps']} steps, {share:.0%} of the units went")
    print(f"  dense {entry['dense_s']:.1f} s, shrinking {entry['shrinking_s']:.1f} s")
    print(f"  test error: dense {errors['dense']:.2f} %, shrinking {errors['shrinking']:.2f} %")
    print(f"  the last three epochs: {entry['last_epochs_speedup']:.2f}x")
    met = "met" if entry["speedup"] >= GOAL else "missed"
    print(f"  the whole training: {entry['speedup']:.2f}x; goal {GOAL}x: {met}")


def main() -> None:
    """Parse the options, train, print and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    _ = parser.add_argument("--recipe", default="digits-adam-l2")
    _ = parser.add_argument("--epochs", type=int, default=160)
    _ = parser.add_argument("--width", type=float, default=1.0, help="of the digits' network")
    _ = parser.add_argument("--l2", type=float, default=5e-3)
    _ = parser.add_argument("--seed", type=int, default=0)
    _ = parser.add_argument("--device", default="cpu")
    _ = parser.add_argument("--every", type=int, default=50)
    _ = parser.add_argument("--patience", type=int, default=2)
    _ = parser.add_argument("--snap", type=float, default=1e-3)
    _ = parser.add_argument("--at-least", type=int, default=48)
    _ = parser.add_argument("--verbose", action="store_true")
    _ = parser.add_argument("--out", type=Path, help="append one JSON line to this file")
    options = parser.parse_args()
    changes: dict[str, Any] = {
        "epochs": options.epochs, "device": options.device, "seed": options.seed,
        "weight_decay": options.l2, **STRONG
    }  # fmt: skip
    if options.recipe == "digits-adam-l2":
        widths = [round(options.width * it) for it in WIDTHS]
        changes |= {"widths": widths, "hidden": [widths[-1]], "batch_size": 32}
    recipe = load_recipe(options.recipe, changes)
    entry = {
        "experiment": "shrinking-benchmark",
        **run(recipe, data_for(recipe), options),
        **surroundings(options.device),
    }
    show(entry)
    record(entry, options.out)


if __name__ == "__main__":
    main()
