"""Small experiments for tests: made data, made runs, and a process that can be killed at work."""

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from typing_extensions import override

from abscise.papers import (
    Bench,
    Choice,
    Experiment,
    Finished,
    Moment,
    Outcome,
    Place,
    Shelf,
    Stage,
    Table,
    Task,
    run_tasks,
)
from abscise.papers._finished import notes_of
from abscise.train import Data, DataName, Recipe, Run, Split, facts, recipe_from

TESTS = Path(__file__).resolve().parent.parent


def made_data(name: str, train: int = 400, validation: int = 100) -> Data:
    """Examples of the shape of a known set whose label can be learned from them."""
    about = facts(DataName(name))
    generator = torch.Generator().manual_seed(0)
    count = train + 2 * validation
    labels = torch.arange(count) % about.classes
    centres = torch.randn(about.classes, *about.shape, generator=generator)
    noise = torch.randn(count, *about.shape, generator=generator)
    inputs = centres[labels] + 0.3 * noise
    sizes = [train, validation, validation]
    parts = zip(inputs.split(sizes), labels.split(sizes), strict=True)
    return Data(name, about.classes, *(Split(x.clone(), y.clone()) for x, y in parts))


def shelf_of(*names: str, limit: int = 0) -> Shelf:
    """A shelf that holds made data under the names of known sets."""
    return Shelf(None, {(name, limit): made_data(name) for name in names})


def task_of(strength: float | None = 1.0, seed: int = 0, **changes: object) -> Task:
    """A task of the made experiment."""
    values = {
        "experiment": "made",
        "method": "l1",
        "dataset": "pendigits",
        "network": "mlp",
        "strength": strength,
        "seed": seed,
        "epochs": 4,
        "limit": 0,
    }
    return Task(**(values | changes))  # type: ignore[arg-type]


def run_of_task(task: Task, **changes: object) -> Run:
    """A made run: its figures follow from the task."""
    weak = 1.0 / (1.0 + (task.strength or 0.0))
    notes = notes_of(task, validation_percent=2.0 + task.seed, dense_macs=100, certified=True)
    values = {
        "experiment": task.experiment,
        "method": task.method,
        "dataset": task.dataset,
        "network": task.network,
        "seed": task.seed,
        "recipe": {"name": "made"},
        "device": "made",
        "error_percent": 3.0 + task.seed / 10,
        "parameters": 1000,
        "nonzero": round(1000 * weak),
        "units": 100,
        "units_removed": 100 - round(100 * weak),
        "macs": round(100 * weak),
        "bytes_on_disk": 4000,
        "wall_s": 1.0,
        "notes": dict(notes),
    }
    return Run(**(values | changes))  # type: ignore[arg-type]


class Made(Experiment):
    """Tasks of which each writes a line to a log when it is begun; no training."""

    __slots__ = ("log",)

    name: ClassVar[str] = "made"
    title: ClassVar[str] = "Made"
    source: ClassVar[str] = "nowhere"

    def __init__(self, log: Path) -> None:
        self.log = log

    @override
    def tasks(self, choice: Choice) -> tuple[Task, ...]:
        return tuple(task_of(float(strength)) for strength in range(1, 9))

    @override
    def run(self, task: Task, bench: Bench) -> Run:
        with self.log.open("a") as log:
            _ = log.write(f"{task.key}\n")
        return run_of_task(task)

    @override
    def outcome(self, finished: Sequence[Finished]) -> Outcome:
        rows = tuple((run.task.key,) for run in sorted(finished, key=lambda it: it.task.key))
        return Outcome("Made", "nowhere", (), (Table("t", "n", ("key",), rows),), (), ())


def recipe_of(task: Task) -> Recipe:
    """A small network on made data."""
    return recipe_from(
        {
            "name": "made",
            "data": task.dataset,
            "model": "mlp",
            "hidden": [8],
            "optimizer": "sgd",
            "epochs": task.epochs,
            "batch_size": 100,
            "seed": task.seed,
            "report_every": 1,
        }
    )


class Trained(Made):
    """The same with a real training; the log says at which step each began."""

    __slots__ = ()

    @override
    def run(self, task: Task, bench: Bench) -> Run:
        with self.log.open("a") as log:
            _ = log.write(f"{task.key}\n")
        held = {(task.dataset, 0): made_data(task.dataset)}
        bench = Bench(Shelf(None, held), bench.folder, bench.observer, bench.device)
        trained = bench.train(recipe_of(task))
        with self.log.open("a") as log:
            _ = log.write(f"resumed {trained.resumed_at}\n")
        return bench.ship(task, trained)


def work(folder: Path, kill_at: int, step: int, together: int = 1) -> None:
    """Do three tasks in `folder`; die without warning at that step of the task with that number.

    With step 0 nothing is trained. The work begins when so many processes are there together.
    """
    seen = 0
    _ = (folder / f"{os.getpid()}.ready").write_text("")
    while len(list(folder.glob("*.ready"))) < together:
        time.sleep(0.01)

    def watch(moment: Moment) -> None:
        nonlocal seen
        seen += moment.stage is Stage.STARTED
        at = 0 if moment.progress is None else moment.progress.step
        if seen == kill_at and at == step:
            os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    made = Trained(folder / "log") if step else Made(folder / "log")
    _ = run_tasks(made, made.tasks(Choice())[:3], Place(folder / "lines.jsonl"), watch)


if __name__ == "__main__":
    work(Path(sys.argv[1]), *map(int, sys.argv[2:]))
