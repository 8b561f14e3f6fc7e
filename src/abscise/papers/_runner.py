"""The runner: does what is not yet done, one line per finished run; several processes share it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from abscise._errors import ModelError, NotEqualError, StoreError
from abscise._folders import locked, make_folder
from abscise.papers._bench import Bench, Shelf, clear
from abscise.papers._experiment import Experiment
from abscise.papers._finished import Finished, append_finished, read_finished
from abscise.papers._task import Task
from abscise.train import Progress


class Stage(StrEnum):
    """What has just happened to a task."""

    STARTED = "started"
    TRAINING = "training"
    FINISHED = "finished"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing that happened.

    Args:
        stage: What.
        task: To which task.
        done: Tasks that are finished, by whomever.
        of: All tasks.
        progress: Of the training, in the stage training.
        finished: The run, in the stage finished.
        problem: One line, in the stage failed.
    """

    stage: Stage
    task: Task
    done: int
    of: int
    progress: Progress | None = None
    finished: Finished | None = None
    problem: str = ""


Watch = Callable[[Moment], None]


@dataclass(frozen=True, slots=True)
class Tally:
    """What came of a call of `run_tasks`.

    Args:
        finished: Runs that this process finished.
        before: Tasks that were done already.
        elsewhere: Tasks that other processes have done or are doing.
        failed: Task and one line for each that failed; it is tried again by the next call.
    """

    finished: int
    before: int
    elsewhere: int
    failed: tuple[tuple[Task, str], ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where an experiment's runs are kept and made.

    Args:
        lines: The file that gets one line per finished run.
        data_root: As in `load_data`.
        device: As torch names it.
    """

    lines: Path
    data_root: Path | None = None
    device: str = "cpu"

    @property
    def running(self) -> Path:
        """The folder of unfinished runs, one folder for each."""
        return self.lines.with_name(f"{self.lines.name}.running")


def run_tasks(experiment: Experiment, tasks: Sequence[Task], place: Place, watch: Watch) -> Tally:
    """Do those of `tasks` that have no line yet, in order.

    A task is claimed by a lock before it is begun, so that processes with the same file never do
    the same one twice, and a process that dies gives up its claim. An unfinished run goes on from
    its checkpoint. What fails by itself (a loss that is no number, outputs that are not equal) is
    told and left out; what would fail every run ends the call.

    Raises:
        AbsciseError: The data are missing, a file cannot be written, a line was edited.
        KeyboardInterrupt: Somebody asked the process to stop.
    """
    before = _done(experiment, place)
    pending = [task for task in tasks if task.key not in before]
    for task in tasks:
        if task.key in before:  # killed between its line and its folder
            _sweep_up(place, task)
    shelf = Shelf(place.data_root)
    failed: list[tuple[Task, str]] = []
    finished = 0
    for task in pending:
        with _claimed(experiment, place, task) as mine:
            if not mine:
                continue
            done = _done(experiment, place)
            teller = _Teller(watch, task, sum(one.key in done for one in tasks), len(tasks))
            teller.tell(Stage.STARTED)
            bench = Bench(shelf, place.running / task.digest, teller.see, place.device)
            try:
                run = experiment.run(task, bench)
            except (ModelError, NotEqualError) as problem:
                failed.append((task, str(problem)))
                teller.tell(Stage.FAILED, problem=str(problem))
                continue
            append_finished(place.lines, run)
            finished += 1
            teller.tell(Stage.FINISHED, finished=_done(experiment, place)[task.key])
    elsewhere = len(pending) - finished - len(failed)
    return Tally(finished, len(tasks) - len(pending), elsewhere, tuple(failed))


@contextmanager
def _claimed(experiment: Experiment, place: Place, task: Task) -> Iterator[bool]:
    """Inside, this task is this process's, if it was given True; whatever it left there goes.

    Where the work inside is interrupted, the unfinished run stays, to be gone on with; where it had
    not come to a checkpoint, nothing stays.
    """
    with ExitStack() as stack:
        mine = _locked_claim(place, task, stack)
        # Whoever held the claim before us has written the line before giving it up; so the empty
        # file may go with the claim: who opened it before that finds the line.
        free = mine and task.key not in _done(experiment, place)
        try:
            yield free
        except BaseException:
            if mine and not any((place.running / task.digest).glob("checkpoint.*")):
                _sweep_up(place, task)
            raise
        if mine:
            _sweep_up(place, task)


def _locked_claim(place: Place, task: Task, stack: ExitStack) -> bool:
    """Whether the lock was got. Another process may remove the empty folder just before."""
    while True:
        make_folder(place.running)
        try:
            return stack.enter_context(locked(place.running / f"{task.digest}.claim"))
        except StoreError as problem:
            if not isinstance(problem.__cause__, FileNotFoundError):
                raise


def _sweep_up(place: Place, task: Task) -> None:
    """Remove what a task left of its work; the folder of all of it goes with the last."""
    clear(place.running / task.digest)
    with suppress(OSError):
        (place.running / f"{task.digest}.claim").unlink(missing_ok=True)
        place.running.rmdir()  # not while others are at work in it


def _done(experiment: Experiment, place: Place) -> dict[str, Finished]:
    return {run.task.key: run for run in read_finished(place.lines, experiment.name)}


@dataclass(frozen=True, slots=True)
class _Teller:
    """Tells one task's moments to whoever watches."""

    watch: Watch
    task: Task
    done: int
    of: int

    def tell(self, stage: Stage, finished: Finished | None = None, problem: str = "") -> None:
        done = self.done + (finished is not None)
        self.watch(Moment(stage, self.task, done, self.of, None, finished, problem))

    def see(self, progress: Progress) -> None:
        """What `fit` reports."""
        self.watch(Moment(Stage.TRAINING, self.task, self.done, self.of, progress))
