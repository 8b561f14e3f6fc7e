"""What `abscise.implicit.Tracker` costs: its share of the time of the training steps beside it.

Both are timed in one run, step by step, so that a busy machine slows both alike. On a GPU the
device is waited for before and after, so that the tracker is charged with its own work only.
"""

import argparse
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from _recording import record, surroundings
from torch.nn.functional import cross_entropy

from abscise.implicit import Tracker
from abscise.train import Recipe, build_model, build_optimizer, facts_of, load_recipe

GOAL = 0.02
EVERY = 50  # what a record every so many steps costs; the cost falls in proportion


def run_once(recipe: Recipe, steps: int) -> dict[str, float]:
    """Seconds of one training step and of one record, medians over the run."""
    device = torch.device(recipe.device)
    _ = torch.manual_seed(recipe.seed)
    about = facts_of(recipe)
    inputs = torch.randn(recipe.batch_size, *about.shape, device=device)
    labels = torch.randint(about.classes, (recipe.batch_size,), device=device)
    model = build_model(recipe).to(device).train()
    optimizer = build_optimizer(recipe, model)
    tracker = Tracker(model, inputs[:2], optimizer, every=1)
    trained, tracked = [], []
    for _ in range(steps):
        began = now(device)
        optimizer.zero_grad()
        cross_entropy(model(inputs), labels).backward()
        _ = optimizer.step()
        between = now(device)
        tracker.step()
        trained.append(between - began)
        tracked.append(now(device) - between)
    half = steps // 2  # the first ones warm up
    return {
        "step_s": statistics.median(trained[half:]),
        "record_s": statistics.median(tracked[half:]),
    }


def now(device: torch.device) -> float:
    """Seconds, with the device's work done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def measure(recipe: Recipe, steps: int, repeats: int) -> dict[str, Any]:
    """Figures of `repeats` runs, as plain data."""
    runs = [run_once(recipe, steps) for _ in range(repeats)]
    shares = [run["record_s"] / run["step_s"] for run in runs]
    return {
        "recipe": recipe.as_dict(),
        "steps": steps,
        "step_s": statistics.median(run["step_s"] for run in runs),
        "record_over_step": {
            "median": statistics.median(shares), "min": min(shares), "max": max(shares)
        },
    }  # fmt: skip


def show(entry: Mapping[str, Any]) -> None:
    """Print the share at one record every `EVERY` steps, and whether the goal is met."""
    ratio = entry["record_over_step"]
    between = f"{ratio['min']:.2f} to {ratio['max']:.2f}"
    share = ratio["median"] / EVERY
    print(f"{entry['recipe']['name']}: a record takes {ratio['median']:.2f} steps ({between})")
    met = "met" if share < GOAL else "missed"
    print(f"  every {EVERY} steps: {100 * share:.2f} % of the time; goal {100 * GOAL:g} %: {met}")


def main() -> None:
    """Parse the options, measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    _ = parser.add_argument("--recipe", action="append", help="default: three of them")
    _ = parser.add_argument("--steps", type=int, default=60)
    _ = parser.add_argument("--device", default="cpu")
    _ = parser.add_argument("--repeats", type=int, default=5)
    _ = parser.add_argument("--out", type=Path, help="append JSON lines to this file")
    options = parser.parse_args()
    names = options.recipe or [
        "digits-adam-l2", "mnist-lenet300-adam-l2", "mnist-lenet5-adam-l2"
    ]  # fmt: skip
    for name in names:
        recipe = load_recipe(name, {"device": options.device})
        entry = {
            "experiment": "tracking-benchmark",
            **measure(recipe, options.steps, options.repeats),
            "repeats": options.repeats,
            **surroundings(options.device),
        }
        show(entry)
        record(entry, options.out)


if __name__ == "__main__":
    main()
