"""What `abscise doctor` says before a training, beside what came of it in the recorded runs.

For each kind of run in the files of `abscise reproduce`, the network is built anew as it was before
its first step, the gradients are measured on a few batches, and nothing is trained. Runs in which
something beside the optimizer acts, such as a penalty, are left out.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from _recording import surroundings

from abscise.cli._doctor import probed, steps_of
from abscise.implicit import Diagnosis, diagnose
from abscise.store import write_bytes_atomically
from abscise.train import (
    Data,
    Recipe,
    build_model,
    build_optimizer,
    data_for,
    recipe_from,
    scheduler_of,
)

BATCHES = 20
BESIDE = frozenset(
    {"adadelta-wd", "adagrad-wd", "adam-wd", "group-lasso", "l1", "random-units", "sgd-wd", "sgl"}
    | {"slimming"}
)
"""Methods in which something beside the optimizer acts, of which the doctor knows nothing."""

Key = tuple[str, str, str, str, float | None, str]


def main() -> int:
    """Diagnose each kind of run once, with the recipe of its first seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    _ = parser.add_argument("runs", nargs="+", type=Path, help="files of finished runs")
    _ = parser.add_argument("--data-root", type=Path)
    _ = parser.add_argument("--out", type=Path, help="file of JSON lines, written anew")
    options = parser.parse_args()
    known: dict[tuple[str, int], Data] = {}
    entries = []
    for key, runs in grouped(options.runs).items():
        recipe = recipe_from(runs[0]["recipe"])
        place = (recipe.data, recipe.limit)
        if place not in known:
            known[place] = data_for(recipe, options.data_root)
        entry = compared(key, runs, recipe, known[place])
        entries.append({**entry, **surroundings()})
        _ = sys.stdout.write(
            f"{' '.join(map(str, key[:-1]))}: {entry['outcome']}; {entry['gone']}\n"
        )
    if options.out is not None:  # a whole comparison each time
        lines = [json.dumps(it, sort_keys=True, allow_nan=False) + "\n" for it in entries]
        write_bytes_atomically(options.out, "".join(lines).encode())
    return 0


def grouped(files: Sequence[Path]) -> dict[Key, list[dict[str, Any]]]:
    """The runs that differ in their seed only, the smallest seed first."""
    found: dict[Key, list[dict[str, Any]]] = {}
    for run in sorted(lines_of(files), key=lambda it: it["seed"]):
        if run["method"] not in BESIDE:
            strength = run["notes"]["strength"]
            place = (run["experiment"], run["dataset"], run["network"], run["method"])
            recipe = json.dumps({**run["recipe"], "seed": 0}, sort_keys=True)
            found.setdefault((*place, strength, recipe), []).append(run)
    return found


def lines_of(files: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """All finished runs."""
    for file in files:
        yield from map(json.loads, file.read_text(encoding="utf-8").splitlines())


def compared(
    key: Key, runs: Sequence[Mapping[str, Any]], recipe: Recipe, data: Data
) -> dict[str, Any]:
    """Verdict and outcome, as plain values."""
    steps = steps_of(recipe, data.train)
    found = asked(recipe, data, steps)
    experiment, dataset, network, method, strength, _ = key
    first = found.first
    return {
        "experiment": experiment,
        "dataset": dataset,
        "network": network,
        "method": method,
        "strength": strength,
        "about": runs[0]["notes"]["about"].partition(";")[0],
        "seeds": [run["seed"] for run in runs],
        "steps": steps,
        "outcome": found.outcome.value,
        "verdict": found.verdict,
        "first_layer": None if first is None else first.name,
        "first_steps": None if first is None else finite(first.soonest),
        "silent_by": silent_by(found),
        "gone": [share(run["notes"]["dead"], "0.001") for run in runs],
        "far_gone": [share(run["notes"]["dead"], "1e-06") for run in runs],
    }


def asked(recipe: Recipe, data: Data, steps: int) -> Diagnosis:
    """The diagnosis of the recipe, as `abscise doctor` makes it."""
    _ = torch.manual_seed(recipe.seed)
    model = build_model(recipe)
    optimizer = build_optimizer(recipe, model)
    return diagnose(
        model,
        optimizer,
        data.train.inputs[:2],
        steps=steps,
        scheduler=scheduler_of(recipe, optimizer, steps),
        batch_size=recipe.batch_size,
        gradient_rms=probed(recipe, model, data.train, BATCHES),
    )


def silent_by(found: Diagnosis) -> int | None:
    """Last step at which a unit of the first layer may fall silent; None: there is none."""
    steps = (it.silent_by for it in found.parts if found.first in it.layers)
    first = next(steps, None)
    return None if first is None else round(first)


def share(layers: Sequence[Mapping[str, Any]], threshold: str) -> float:
    """Percent of the units whose weights are below a threshold at the end."""
    units = sum(it["units"] for it in layers)
    return round(100 * sum(it["below"][threshold] for it in layers) / units, 2)


def finite(steps: float) -> float | None:
    """None: never."""
    return None if steps == float("inf") else round(steps)


if __name__ == "__main__":
    sys.exit(main())
