"""What `abscise.train.fit` costs beside the loop that one would write by hand.

Both train the recipe's network with its optimizer on the same tensors, in turn, in one process, so
that a busy machine slows both alike; both end with the same weights, bit for bit, which is checked.
The bare loop has no reports, no look at the loss, no learning rate drops and no checkpoints.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from _recording import record, surroundings
from torch import nn
from torch.nn.functional import cross_entropy

from abscise.train import (
    Checkpoints,
    Data,
    Recipe,
    build_model,
    build_optimizer,
    data_for,
    fit,
    load_recipe,
)

GOAL = 1.5
STEPS, WHOLE, KEPT = "steps of fit", "fit", "fit with checkpoints"


def bare(recipe: Recipe, data: Data) -> nn.Module:
    """The loop by hand; the random state is the caller's business."""
    device = torch.device(recipe.device)
    _ = torch.manual_seed(recipe.seed)
    model = build_model(recipe).to(device).train()
    optimizer = build_optimizer(recipe, model)
    inputs, labels = data.train.inputs.to(device), data.train.labels.to(device)
    size = recipe.batch_size
    for _ in range(recipe.epochs):
        order = torch.randperm(len(labels)).to(device)
        for step in range(len(labels) // size):
            chosen = order[step * size : (step + 1) * size]
            optimizer.zero_grad()
            cross_entropy(model(inputs[chosen]), labels[chosen]).backward()
            optimizer.step()
    return model


def timed(work: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Seconds that `work` takes, and its result."""
    started = time.perf_counter()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started, result


def run_once(recipe: Recipe, data: Data) -> tuple[float, dict[str, float]]:
    """Seconds of the bare loop, and of everything else over it."""
    device = torch.device(recipe.device)
    bare_s, by_hand = timed(lambda: bare(recipe, data), device)
    whole_s, trained = timed(lambda: fit(recipe, data=data), device)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder))
        kept_s, kept = timed(lambda: fit(recipe, data=data, checkpoints=checkpoints), device)
    for model in (trained.model, kept.model):
        assert_equal(by_hand, model)
    seconds = {STEPS: trained.wall_s, WHOLE: whole_s, KEPT: kept_s}
    return bare_s, {name: value / bare_s for name, value in seconds.items()}


def assert_equal(one: nn.Module, two: nn.Module) -> None:
    """Both loops have done the same work."""
    for name, value in one.state_dict().items():
        if not torch.equal(value, two.state_dict()[name]):
            message = f"the bare loop gives another {name}: the comparison is void"
            raise RuntimeError(message)


def measure(recipe: Recipe, repeats: int) -> dict[str, Any]:
    """Ratios over `repeats` runs after one to warm up, as plain data."""
    data = data_for(recipe)
    _ = run_once(recipe, data)
    runs = [run_once(recipe, data) for _ in range(repeats)]
    return {
        "recipe": recipe.as_dict(),
        "steps": recipe.epochs * (len(data.train) // recipe.batch_size),
        "bare_s": spread([bare_s for bare_s, _ in runs]),
        "ratios": {name: spread([found[name] for _, found in runs]) for name in runs[0][1]},
    }


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and greatest, to four digits."""
    found = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: float(f"{value:.4g}") for name, value in found.items()}


def show(entry: Mapping[str, Any]) -> None:
    """Print the ratios and whether the goal is met."""
    recipe, seconds = entry["recipe"], entry["bare_s"]["median"]
    print(f"{recipe['name']}: {entry['steps']} steps, {seconds:.2f} s by hand; over that:")
    for name, ratio in entry["ratios"].items():
        between = f"{ratio['min']:.2f} to {ratio['max']:.2f}"
        print(f"  {name:<22} {ratio['median']:6.2f}   {between}")
    met = "met" if entry["ratios"][WHOLE]["median"] <= GOAL else "missed"
    print(f"  goal: at most {GOAL} for {WHOLE}: {met}")


def main() -> None:
    """Parse the options, measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    _ = parser.add_argument("--recipe", default="mnist-lenet300-adam-l2")
    _ = parser.add_argument("--epochs", type=int, default=1)
    _ = parser.add_argument("--device", default="cpu")
    _ = parser.add_argument("--repeats", type=int, default=7, help="runs after the warm-up")
    _ = parser.add_argument("--out", type=Path, help="append one JSON line to this file")
    options = parser.parse_args()
    if options.repeats < 1:
        parser.error("--repeats must be >= 1")
    changes = {"epochs": options.epochs, "device": options.device, "drops": [], "warmup": 0}
    entry = {
        "experiment": "training-loop-benchmark",
        **measure(load_recipe(options.recipe, changes), options.repeats),
        "repeats": options.repeats,
        **surroundings(options.device),
    }
    show(entry)
    record(entry, options.out)


if __name__ == "__main__":
    main()
