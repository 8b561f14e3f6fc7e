"""`abscise reproduce`: run what is missing of a paper's experiment, then tell what came out."""

import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TypeVar

from rich.console import Console

from abscise._errors import RecipeError
from abscise.cli._options import ReproduceOptions
from abscise.cli._reproduce_view import ReproduceView
from abscise.cli._run_folder import check_record
from abscise.cli._usage import UsageError
from abscise.papers import (
    Choice,
    Experiment,
    Place,
    Tally,
    experiment,
    read_finished,
    run_tasks,
    view,
    write_report,
)

T = TypeVar("T")


def run_reproduce(options: ReproduceOptions, console: Console) -> bool:
    """Run the experiment's tasks that have no line yet; with --report, only tell of the lines."""
    paper = experiment(options.experiment)
    lines = options.out or Path("results") / f"{paper.name}{'-quick' * options.quick}.jsonl"
    if options.report:
        return _report(paper, lines, options, console)
    if options.page is not None or options.to is not None:
        message = "--to and --page belong to --report"
        raise UsageError(message)
    check_record(lines, "--out")
    choice = _choice(options)
    tasks = paper.tasks(choice)
    place = Place(lines, options.data_root, options.device)
    console.print(f"abscise reproduce: {paper.name}, {len(tasks)} runs, {lines}", soft_wrap=True)
    with (
        _telling_how_to_go_on(options, console),
        _helpers(options),
        ReproduceView(console) as shown,
    ):
        tally = run_tasks(paper, tasks, place, shown.show)
    done = {run.task for run in read_finished(lines, paper.name)}
    # What a helper failed at is seen by its missing line; another process may still be at work.
    missing = sum(task not in done for task in tasks) if options.workers > 1 else 0
    return _told(tally, missing, console, _report_command(paper, lines))


def _choice(options: ReproduceOptions) -> Choice:
    return Choice(
        quick=options.quick,
        datasets=options.datasets,
        networks=options.networks,
        methods=options.methods,
        seeds=tuple(_number("--seeds", text, int) for text in options.seeds),
        strengths=tuple(_number("--strengths", text, float) for text in options.strengths),
        epochs=options.epochs,
        limit=options.limit,
    )


def _number(option: str, text: str, kind: Callable[[str], T]) -> T:
    try:
        return kind(text)
    except ValueError as problem:
        message = f"{option} must be a number, got {text!r}"
        raise UsageError(message) from problem


def _report(paper: Experiment, lines: Path, options: ReproduceOptions, console: Console) -> bool:
    if options.limit:
        message = (
            "--limit does not belong to --report: choose runs by what they are, or leave it out"
        )
        raise UsageError(message)
    choice = _choice(options)
    if options.page is not None and choice != Choice(quick=options.quick):
        message = "--page is for all runs: leave the choice of runs out, or use --to"
        raise UsageError(message)
    found = read_finished(lines, paper.name)
    finished = tuple(run for run in found if choice.has(run.task))
    if found and not finished:
        message = f"none of the {len(found)} finished runs in {lines} is among those chosen"
        raise RecipeError(message)
    written = write_report(paper, finished, options.to or lines.with_suffix(""), options.page)
    console.print(view(paper.outcome(finished)))
    for path in written:
        console.print(f"written: {path}", soft_wrap=True)
    return True


def _told(tally: Tally, missing: int, console: Console, command: str) -> bool:
    """What came of it; True unless a run failed."""
    parts = [f"{tally.finished} runs finished", f"{tally.before} were there before"]
    if tally.elsewhere:
        parts.append(f"{tally.elsewhere} are done by other processes")
    console.print(", ".join(parts))
    for task, problem in tally.failed:
        console.print(f"failed: {task.label}: {problem}", soft_wrap=True)
    if missing > len(tally.failed):
        console.print(f"{missing} runs are missing: the same command tries them again")
    console.print(f"the report: {command}", soft_wrap=True)
    return not (tally.failed or missing)


def _report_command(paper: Experiment, lines: Path) -> str:
    return shlex.join(["abscise", "reproduce", paper.name, "--report", "--out", str(lines)])


@contextmanager
def _telling_how_to_go_on(options: ReproduceOptions, console: Console) -> Iterator[None]:
    """Ctrl-C loses nothing that is finished; the same command goes on."""
    try:
        yield
    except KeyboardInterrupt:
        line = shlex.join(["abscise", "reproduce", *_arguments(options)])
        console.print(f"what is finished is kept; go on with:\n    {line}", soft_wrap=True)
        raise


@contextmanager
def _helpers(options: ReproduceOptions) -> Iterator[None]:
    """Further processes of the same command, which share the work; none outlives this one."""
    code = "import sys; from abscise.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "reproduce", *_arguments(options, workers=1)]
    nowhere = subprocess.DEVNULL
    started = [
        subprocess.Popen(command, stdout=nowhere, stderr=nowhere)  # noqa: S603 - this very command
        for _ in range(options.workers - 1)
    ]
    try:
        with _terminating_as_interrupt():
            yield
            for helper in started:
                _ = helper.wait()
    finally:
        for helper in started:
            if helper.poll() is None:
                helper.terminate()
        for helper in started:
            _ = helper.wait()


@contextmanager
def _terminating_as_interrupt() -> Iterator[None]:
    """SIGTERM is as Ctrl-C, also between two trainings: helpers are ended, and the user told."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_kind: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        _ = signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _arguments(options: ReproduceOptions, workers: int | None = None) -> list[str]:
    """The command line of `options`."""
    many = workers or options.workers
    given: dict[str, tuple[object, ...]] = {
        "--datasets": options.datasets,
        "--networks": options.networks,
        "--methods": options.methods,
        "--seeds": options.seeds,
        "--strengths": options.strengths,
        "--epochs": (options.epochs,) if options.epochs else (),
        "--limit": (options.limit,) if options.limit else (),
        "--out": () if options.out is None else (options.out,),
        "--data-root": () if options.data_root is None else (options.data_root,),
        "--device": () if options.device == "cpu" else (options.device,),
        "--workers": () if many == 1 else (many,),
    }
    pairs = [part for name, values in given.items() for of in values for part in (name, str(of))]
    return [options.experiment, *pairs, *(["--quick"] if options.quick else [])]
