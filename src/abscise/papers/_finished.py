"""Finished runs: the lines of a results file, read strictly, and appended whole or not at all."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from abscise._errors import StoreError
from abscise._folders import locked, make_folder
from abscise._json import Fields, parse_json, read_fields
from abscise.papers._task import Task, task_from_json
from abscise.train import Run, record_run, run_fields

TASK, VALIDATION = "task", "validation_error_percent"
DENSE_MACS, PASSED = "dense_macs", "certified"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """One finished run, as its line tells it.

    Args:
        task: What was done.
        error_percent: On the test set, of the compacted model.
        validation_percent: The error on the validation part: what is chosen is chosen by it.
        parameters: Of the dense network.
        nonzero: Non-zero parameters that are left.
        units: Units of the dense network that may go.
        units_removed: How many are gone.
        macs: Of the compacted network, for one example; None where they cannot be counted.
        dense_macs: The same of the dense network.
        bytes_on_disk: Of the compacted weights' file.
        certified: Whether the certificate passed; False: it could not tell, as the outputs are
            the same for every input.
        wall_s: Seconds of training.
        device: In words.
        commit: Of the code.
        notes: Whatever else the experiment noted, as the line has it.
        recipe: Of the training, as the line has it.
    """

    task: Task
    error_percent: float
    validation_percent: float
    parameters: int
    nonzero: int
    units: int
    units_removed: int
    macs: int | None
    dense_macs: int | None
    bytes_on_disk: int | None
    certified: bool
    wall_s: float | None
    device: str
    commit: str | None
    notes: Mapping[str, object] = field(default_factory=dict)
    recipe: Mapping[str, object] = field(default_factory=dict)

    @property
    def compression(self) -> float:
        """Dense parameters / non-zero parameters; nothing left counts as one."""
        return self.parameters / max(self.nonzero, 1)

    @property
    def units_kept(self) -> int:
        """Units that are left."""
        return self.units - self.units_removed


def read_finished(path: Path, experiment: str) -> tuple[Finished, ...]:
    """The finished runs in `path`, in its order; none where there is no such file.

    What a killed process left of its last line is no line.

    Raises:
        StoreError: A line was edited, is not of this experiment, or is there twice.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return ()
    except OSError as problem:
        message = f"cannot read {path}: {problem.strerror or problem}"
        raise StoreError(message) from problem
    found: dict[str, Finished] = {}
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        where = f"{path}, line {number}"
        run = finished_from_json(parse_json(line, where, StoreError), where)
        if run.task.experiment != experiment:
            message = f"{where}: a run of {run.task.experiment}, not of {experiment}"
            raise StoreError(message)
        if run.task.key in found:
            message = f"{where}: the run {run.task.key} is there twice: delete one line"
            raise StoreError(message)
        found[run.task.key] = run
    return tuple(found.values())


def append_finished(path: Path, run: Run) -> None:
    """Append `run` as one line; other processes may do so at the same time.

    Raises:
        StoreError: It cannot be written; the file is left as it was.
    """
    with _alone_with(path):
        _drop_half_line(path)
        record_run(path, run)


def finished_from_json(value: object, where: str) -> Finished:
    """The run that a line holds.

    Raises:
        StoreError: The text names the field that is wrong.
    """
    line = read_fields(value, run_fields(), where, StoreError)
    values = line.mapping("notes")
    missing = [name for name in (TASK, VALIDATION, DENSE_MACS, PASSED) if name not in values]
    if missing:
        message = f"{where}: notes must hold {missing[0]}: it is no run of an experiment"
        raise StoreError(message)
    notes = Fields(values, f"{where}: notes", StoreError)
    return Finished(
        task=task_from_json(values[TASK], where),
        error_percent=line.number("error_percent", 0.0, 100.0),
        validation_percent=notes.number(VALIDATION, 0.0, 100.0),
        parameters=line.integer("parameters", 1),
        nonzero=line.integer("nonzero"),
        units=line.integer("units"),
        units_removed=line.integer("units_removed"),
        macs=line.optional("macs", line.integer),
        dense_macs=notes.optional(DENSE_MACS, notes.integer),
        bytes_on_disk=line.optional("bytes_on_disk", line.integer),
        certified=notes.boolean(PASSED),
        wall_s=line.optional("wall_s", line.number),
        device=line.text("device"),
        commit=line.optional("commit", line.text),
        notes=values,
        recipe=line.mapping("recipe"),
    )


def notes_of(
    task: Task, *, validation_percent: float, dense_macs: int | None, certified: bool
) -> Mapping[str, object]:
    """What a line's notes must hold."""
    return {
        TASK: task.to_json(),
        VALIDATION: validation_percent,
        DENSE_MACS: dense_macs,
        PASSED: certified,
    }


@contextmanager
def _alone_with(path: Path) -> Iterator[None]:
    """Inside, nobody else appends to `path`."""
    make_folder(path.parent)
    with locked(path, wait=True):
        yield


def _drop_half_line(path: Path) -> None:
    """Cut off what a killed process, or a lost power supply, left behind the last whole line."""
    try:
        with path.open("rb+") as file:
            content = file.read()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                file.truncate(whole)
                os.fsync(file.fileno())
    except FileNotFoundError:
        return
    except OSError as problem:
        message = f"cannot append to {path}: {problem.strerror or problem}"
        raise StoreError(message) from problem
