"""The folder of a run: its checkpoint, when it is due, and one line per finished epoch."""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from abscise._errors import StoreError
from abscise._lines import append_line
from abscise.store import write_bytes_atomically
from abscise.train._checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from abscise.train._course import Course, Epoch, read_course
from abscise.train._data import Split
from abscise.train._parts import Parts
from abscise.train._recipe import Recipe

SECONDS = 30.0  # what is lost at most when the process is killed, where no number of steps is given
EPOCHS_FILE = "epochs.jsonl"
FREE = frozenset({"name", "report_every"})
"""The keys of a recipe that decide nothing about the weights: they may change on resume."""


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Where a run keeps its checkpoint, and how often.

    Args:
        folder: Is made if it is missing; holds `checkpoint.safetensors` and `epochs.jsonl`.
        every: Steps between two checkpoints; None: about every 30 seconds.
        resume: Go on from the checkpoint in `folder` instead of starting the run.
    """

    folder: Path
    every: int | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        if self.every is not None and self.every < 1:
            message = f"every must be at least 1 step, got {self.every}"
            raise ValueError(message)


class Keeper:
    """Keeps one run's checkpoint and epochs; the loop asks when and says what."""

    def __init__(self, how: Checkpoints, recipe: Recipe, train: Split, steps: int) -> None:
        self._how = how
        self._recipe = json.loads(json.dumps(recipe.as_dict()))
        self._data = fingerprint(train)
        self._steps = steps
        self._saved_at = time.monotonic()

    @property
    def folder(self) -> Path:
        """Where the checkpoint is."""
        return self._how.folder

    def begin(self, parts: Parts, course: Course) -> Course:
        """The course to follow: `course`, or on resume that of the checkpoint, loaded into `parts`.

        Raises:
            StoreError: Nothing to resume, another recipe or other data; or an unfinished run that
                starting anew would overwrite.
        """
        folder = self._how.folder
        found = read_checkpoint(folder)
        if self._how.resume:
            course = self._resumed(found, parts, course)
        else:
            self._refuse_unfinished(found)
            _make_folder(folder)
        lines = "".join(_line(epoch) for epoch in course.epochs)
        write_bytes_atomically(folder / EPOCHS_FILE, lines.encode())
        if not self._how.resume:
            # From here on the run can be resumed, and the folder is known to be writable.
            self.save(parts, course, 0.0)
        return course

    def due(self, step: int) -> bool:
        """Whether `step` is to be followed by a checkpoint."""
        if self._how.every is not None:
            return step % self._how.every == 0
        return time.monotonic() - self._saved_at >= SECONDS

    def save(self, parts: Parts, course: Course, elapsed_s: float) -> None:
        """Make this state the checkpoint; the old one stays until this one is complete."""
        state = parts.state() | {"order": course.order, "loss_sum": course.loss_sum}
        written = course.to_json(self._steps, elapsed_s)
        write_checkpoint(self._how.folder, Checkpoint(self._recipe, self._data, written, state))
        self._saved_at = time.monotonic()

    def write_epoch(self, epoch: Epoch) -> None:
        """Append the line of a finished epoch."""
        append_line(self._how.folder / EPOCHS_FILE, _line(epoch).encode())

    def _resumed(self, found: Checkpoint | None, parts: Parts, course: Course) -> Course:
        where = str(self._how.folder)
        if found is None:
            message = f"{where}: no checkpoint to go on from; leave out resume to start the run"
            raise StoreError(message)
        _check_recipe(found.recipe, self._recipe, where)
        if found.data != self._data:
            message = f"{where}: this run learned from other data than those given; give the same"
            raise StoreError(message)
        course = read_course(found.course, found.state, where, course)
        parts.load(found.state, where)
        return course

    def _refuse_unfinished(self, found: Checkpoint | None) -> None:
        if found is None:
            return
        step, steps = found.course.get("step"), found.course.get("steps")
        if step != steps:
            message = (
                f"{self._how.folder} holds an unfinished run (step {step} of {steps}): resume it, "
                "or remove the folder to start again"
            )
            raise StoreError(message)


def fingerprint(split: Split) -> str:
    """What tells one training set from another: shapes, labels, and about 1,000 of the inputs."""
    digest = hashlib.sha256(repr((tuple(split.inputs.shape), split.inputs.dtype)).encode())
    digest.update(split.labels.cpu().contiguous().numpy().tobytes())
    sample = split.inputs[:: max(1, len(split) // 1000)].to("cpu", torch.float32)
    digest.update(sample.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _check_recipe(before: Mapping[str, object], now: Mapping[str, object], where: str) -> None:
    for key in sorted({*before, *now} - FREE):
        was, got = before.get(key, "nothing"), now.get(key, "nothing")
        if was != got:
            message = (
                f"{where}: this run has {key} {was!r}, the recipe given has {got!r}: resume it "
                "with its own recipe, or choose another folder"
            )
            raise StoreError(message)


def _line(epoch: Epoch) -> str:
    return json.dumps(asdict(epoch), sort_keys=True, allow_nan=False) + "\n"


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        message = f"cannot make the folder {folder}: {problem.strerror or problem}"
        raise StoreError(message) from problem
