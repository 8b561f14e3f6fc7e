"""Recorded runs: one JSON line per run, with every field, appended whole or not at all."""

import importlib.metadata
import json
import math
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch

from abscise._errors import StoreError
from abscise.train._fit import Trained
from abscise.train._lines import append_line


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The figures of one run; None where a figure is not known, never a guess.

    Args:
        experiment: The name of the file in `results/`.
        method: What makes the network sparse, such as "Adam + L2".
        dataset: Which data.
        network: Which network.
        seed: Of the run.
        error_percent: On the test set, of the model that is shipped, in [0, 100].
        parameters: Of the dense network, biases and norms included.
        nonzero: Parameters of the compacted network that are not zero.
        units: Hidden units of the dense network.
        units_removed: How many of them are gone.
        macs: Multiply-accumulates of the compacted network, for one example.
        bytes_on_disk: Of the compacted network's file.
        wall_s: Seconds of training.
        device: What it ran on, in words.
        recipe: Whole, as plain values.
        notes: Anything more, as plain values: the figures before removal, the certificate.
    """

    experiment: str
    method: str
    dataset: str
    network: str
    seed: int
    recipe: Mapping[str, object]
    device: str
    error_percent: float | None = None
    parameters: int | None = None
    nonzero: int | None = None
    units: int | None = None
    units_removed: int | None = None
    macs: int | None = None
    bytes_on_disk: int | None = None
    wall_s: float | None = None
    notes: Mapping[str, object] | None = None

    @property
    def compression(self) -> float | None:
        """Dense parameters / non-zero parameters kept; None where either is not known."""
        if self.parameters is None or not self.nonzero:
            return None
        return self.parameters / self.nonzero


def run_of(trained: Trained, experiment: str) -> Run:
    """What is known right after training; `dataclasses.replace` adds what removal finds."""
    recipe = trained.recipe
    weights = list(trained.model.parameters())
    return Run(
        experiment=experiment,
        method=f"{recipe.optimizer}, weight_decay {recipe.weight_decay:g}",
        dataset=str(recipe.data),
        network=type(trained.model).__name__,
        seed=recipe.seed,
        recipe=recipe.as_dict(),
        device=describe_device(torch.device(recipe.device)),
        error_percent=100 * (1 - trained.test_accuracy),
        parameters=sum(weight.numel() for weight in weights),
        nonzero=sum(int(weight.count_nonzero()) for weight in weights),
        wall_s=trained.wall_s,
    )


def record_run(path: Path, run: Run) -> None:
    """Append `run`, with versions and commit, as one line of JSON to `path`.

    Several processes may append at once: a line is one write. Without room for the whole line the
    file is left as it was.

    Raises:
        StoreError: The file cannot be written, or a figure is NaN or infinite.
    """
    content = {key: _plain(value, key) for key, value in asdict(run).items()}
    content |= {"compression": run.compression, "versions": versions(), "commit": commit()}
    line = (json.dumps(content, sort_keys=True, allow_nan=False) + "\n").encode()
    append_line(path, line)


def run_fields() -> tuple[str, ...]:
    """The fields of a recorded run, the computed ones last."""
    return (*(field.name for field in fields(Run)), "compression", "versions", "commit")


def versions() -> dict[str, str]:
    """Versions of python and of the packages that a figure depends on."""
    try:
        own = importlib.metadata.version("abscise")
    except importlib.metadata.PackageNotFoundError:
        own = "not installed"
    return {
        "abscise": own,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def commit() -> str | None:
    """The commit of this package's source, "-dirty" if it was changed; None outside a checkout."""
    git = shutil.which("git")
    if git is None:
        return None
    here = Path(__file__)
    if _git(git, here, "ls-files", "--error-unmatch", here.name) is None:
        return None  # installed into somebody else's repository
    return _git(git, here, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def describe_device(device: torch.device) -> str:
    """The device in words: GPU name, or CPU instruction set and number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        capability = torch.backends.cpu.get_cpu_capability()
        return f"{platform.machine()} CPU, {capability}, {torch.get_num_threads()} threads"
    return device.type


def _git(git: str, here: Path, *arguments: str) -> str | None:
    command = [git, "-C", str(here.parent), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip() if done.returncode == 0 else None


def _plain(value: object, key: str) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        message = f"a recorded run's {key} must be finite, got {value}"
        raise StoreError(message)
    return value
