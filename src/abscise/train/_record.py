"""Recorded runs: one JSON line per run, with every field, appended whole or not at all."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from abscise._environment import commit, device_and_threads, versions
from abscise._errors import StoreError
from abscise._lines import append_line
from abscise.train._fit import Trained


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
        device=device_and_threads(recipe.device),
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


def _plain(value: object, key: str) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        message = f"a recorded run's {key} must be finite, got {value}"
        raise StoreError(message)
    return value
