"""The folder of a run: its checkpoint, when it is due, and one line per finished epoch."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

from abscise._errors import StoreError
from abscise._folders import make_folder
from abscise._lines import append_line
from abscise.store import write_bytes_atomically
from abscise.train._checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from abscise.train._course import Course, Epoch, read_course
from abscise.train._data import Data
from abscise.train._lock import only_process_in
from abscise.train._non_finite import check_weights
from abscise.train._parts import Parts
from abscise.train._recipe import Recipe

SECONDS = 30.0  # what is lost at most when the process is killed, where no number of steps is given
EPOCHS_FILE = "epochs.jsonl"
FINISHED = "finished"
FREE = frozenset({"name", "report_every"})
"""The keys of a recipe that decide nothing about the weights: they may change on resume."""


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Where a run keeps its checkpoint, and how often.

    Args:
        folder: Is made if it is missing; holds `checkpoint.safetensors` and `epochs.jsonl`.
        every: Steps between two checkpoints; None: about every 30 seconds.
        resume: Go on from the checkpoint in `folder` instead of starting the run.
        guarded: The caller notes with `finish_run` that what came of the run is saved. Until then
            a complete run is not started again, which would overwrite its weights.
        begun: Is called when all is checked and the run can be resumed.
    """

    folder: Path
    every: int | None = None
    resume: bool = False
    guarded: bool = False
    begun: Callable[[], object] | None = None

    def __post_init__(self) -> None:
        if self.every is not None and self.every < 1:
            message = f"every must be at least 1 step, got {self.every}"
            raise ValueError(message)


def is_finished(folder: Path) -> bool:
    """Whether what came of the run in `folder` is noted as saved."""
    return (folder / FINISHED).exists()


def finish_run(folder: Path) -> None:
    """Note that what came of the run in `folder` is saved.

    Raises:
        StoreError: The note cannot be written.
    """
    mark = folder / FINISHED
    try:
        mark.touch()
    except OSError as problem:
        message = f"cannot write {mark}: {problem.strerror or problem}"
        raise StoreError(message) from problem


class Keeper:
    """Keeps one run's checkpoint and epochs; the loop asks when and says what.

    As a context manager it keeps other processes out of the folder.
    """

    def __init__(self, how: Checkpoints, recipe: Recipe, data: Data, steps: int) -> None:
        self._how = how
        self._recipe = json.loads(json.dumps(recipe.as_dict()))
        self._data = fingerprint(data)
        self._steps, self._examples = steps, len(data.train)
        self._saved_at = time.monotonic()
        self._held = ExitStack()

    def __enter__(self) -> Self:
        """Make the folder of a new run, and be alone in it."""
        folder = self._how.folder
        if not self._how.resume:
            make_folder(folder)
        if folder.is_dir():  # to resume there must be one, which `begin` says
            self._held.enter_context(only_process_in(folder))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let others in."""
        self._held.close()

    @property
    def folder(self) -> Path:
        """Where the checkpoint is."""
        return self._how.folder

    def begin(self, parts: Parts, course: Course) -> Course:
        """The course to follow: `course`, or on resume that of the checkpoint, loaded into `parts`.

        Raises:
            StoreError: Nothing to resume, another recipe or other data; or a run that starting anew
                would overwrite, unless it is finished and the same.
        """
        folder = self._how.folder
        found = read_checkpoint(folder, also=(EPOCHS_FILE,))
        if self._how.resume:
            course = self._resumed(found, parts, course)
        else:
            if found is not None:
                self._refuse_loss(found)
            _remove(folder / FINISHED)  # all is checked; from here on the old weights are lost
        lines = "".join(_line(epoch) for epoch in course.epochs)
        write_bytes_atomically(folder / EPOCHS_FILE, lines.encode())
        if not self._how.resume:
            # From here on the run can be resumed, and the folder is known to be writable.
            self.save(parts, course, 0.0)
        if self._how.begun is not None:
            _ = self._how.begun()
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
        self._check_same(found, "resume it with its own, or choose another folder")
        sizes = (self._steps, self._examples)
        course = read_course(found.course, found.state, where, course, sizes)
        parts.load(found.state, where)
        return course

    def _refuse_loss(self, found: Checkpoint) -> None:
        """Starting anew overwrites a checkpoint: only where the same will come of it again."""
        folder = self._how.folder
        way_out = f"resume it, choose another folder, or delete {folder}"
        step, steps = found.course.get("step"), found.course.get("steps")
        if step != steps:
            message = f"{folder} holds an unfinished run (step {step} of {steps}): {way_out}"
            raise StoreError(message)
        if self._how.guarded and not is_finished(folder):
            message = f"{folder} holds a trained run whose model is not saved: {way_out}"
            raise StoreError(message)
        self._check_same(found, f"choose another folder, or delete {folder}")

    def _check_same(self, found: Checkpoint, way_out: str) -> None:
        where = str(self._how.folder)
        _check_recipe(found.recipe, self._recipe, where, way_out)
        if found.data != self._data:
            message = f"{where}: this run learned from other data than those given: {way_out}"
            raise StoreError(message)


@contextmanager
def keeping(
    keeper: Keeper | None, parts: Parts, course: Course, elapsed_s: float
) -> Iterator[None]:
    """Where an observer or a logger inside ends the run, its last step is not lost."""
    try:
        yield
    except BaseException:
        if keeper is not None:
            check_weights(parts.model, course.step)
            keeper.save(parts, course, elapsed_s)
        raise


def fingerprint(data: Data) -> str:
    """What tells one data set from another: every input and label of all three parts."""
    digest = hashlib.sha256()
    for part in (data.train, data.validation, data.test):
        for tensor in (part.inputs, part.labels):
            digest.update(repr((tuple(tensor.shape), tensor.dtype)).encode())
            held = tensor.detach().cpu().contiguous()
            digest.update(held.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _check_recipe(
    before: Mapping[str, object], now: Mapping[str, object], where: str, way_out: str
) -> None:
    for key in sorted({*before, *now} - FREE):
        was, got = before.get(key, "nothing"), now.get(key, "nothing")
        if was != got:
            message = (
                f"{where}: this run has {key} {was!r}, the recipe given has {got!r}: {way_out}"
            )
            raise StoreError(message)


def _line(epoch: Epoch) -> str:
    return json.dumps(asdict(epoch), sort_keys=True, allow_nan=False) + "\n"


def _remove(mark: Path) -> None:
    try:
        mark.unlink(missing_ok=True)
    except OSError as problem:
        message = f"cannot remove {mark}: {problem.strerror or problem}"
        raise StoreError(message) from problem
