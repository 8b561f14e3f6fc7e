"""The runner does every task once, whoever dies, and every line is whole."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typing_extensions import override

from abscise import _folders as locks
from abscise._errors import DataError, NotEqualError, StoreError
from abscise.papers import (
    Bench,
    Choice,
    Moment,
    Place,
    Stage,
    Task,
    append_finished,
    read_finished,
    run_tasks,
)
from abscise.papers import _runner as runner
from abscise.train import Run
from support.papering import TESTS, Made, Trained, run_of_task, task_of

TASKS = Made(Path()).tasks(Choice())


def ignore(_moment: Moment) -> None:
    """Watch nothing."""


def begun(folder: Path) -> list[str]:
    """The keys of the tasks that were begun, in order."""
    lines = (folder / "log").read_text().splitlines()
    return [line for line in lines if not line.startswith("resumed")]


def done(folder: Path) -> list[Task]:
    return [run.task for run in read_finished(folder / "lines.jsonl", "made")]


@contextmanager
def worker(folder: Path, *how: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Another process at work in `folder`; it does not outlive the test."""
    path = f"import sys; sys.path[:0] = {[str(TESTS), str(TESTS.parent / 'src')]!r}; "
    code = path + "from support.papering import *; work(Path(sys.argv[1]), *map(int, sys.argv[2:]))"
    command = [sys.executable, "-c", code, str(folder), *map(str, how)]
    with subprocess.Popen(command) as process:
        try:
            yield process
        finally:
            process.kill()


def test_every_task_is_done_once_and_a_second_call_does_nothing(tmp_path: Path) -> None:
    made, place = Made(tmp_path / "log"), Place(tmp_path / "lines.jsonl")
    first = run_tasks(made, TASKS, place, ignore)
    assert (first.finished, first.before, first.elsewhere, first.failed) == (8, 0, 0, ())
    again = run_tasks(made, TASKS, place, ignore)
    assert (again.finished, again.before) == (0, 8)
    assert begun(tmp_path) == [task.key for task in TASKS]
    assert done(tmp_path) == list(TASKS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lines.jsonl", "log"]


def test_a_task_without_its_line_is_done_again(tmp_path: Path) -> None:
    made, place = Made(tmp_path / "log"), Place(tmp_path / "lines.jsonl")
    _ = run_tasks(made, TASKS, place, ignore)
    lines = place.lines.read_bytes().splitlines(keepends=True)
    _ = place.lines.write_bytes(b"".join(lines[:3] + lines[4:]))
    assert run_tasks(made, TASKS, place, ignore).finished == 1
    assert begun(tmp_path)[8:] == [TASKS[3].key]


def test_a_killed_process_loses_its_unfinished_run_and_nothing_is_repeated(
    tmp_path: Path,
) -> None:
    with worker(tmp_path, 2, 3) as process:
        assert process.wait(timeout=300) == -9
    assert done(tmp_path) == [TASKS[0]]
    made, place = Trained(tmp_path / "log"), Place(tmp_path / "lines.jsonl")
    assert run_tasks(made, TASKS[:3], place, ignore).finished == 2
    assert done(tmp_path) == list(TASKS[:3])
    assert begun(tmp_path) == [TASKS[index].key for index in (0, 1, 1, 2)]
    assert not place.running.exists()


def test_two_processes_share_the_work_and_never_do_a_task_twice(tmp_path: Path) -> None:
    with worker(tmp_path, 0, 0, 2) as one, worker(tmp_path, 0, 0, 2) as other:
        assert (one.wait(timeout=300), other.wait(timeout=300)) == (0, 0)
    assert sorted(begun(tmp_path)) == sorted(task.key for task in TASKS[:3])
    assert sorted(task.key for task in done(tmp_path)) == sorted(begun(tmp_path))


@pytest.mark.parametrize("locking", [True, False])
def test_a_task_that_another_process_has_claimed_is_left_to_it(
    locking: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, place = Made(tmp_path / "log"), Place(tmp_path / "lines.jsonl")
    place.running.mkdir()
    if not locking:  # the twin: without locks the task is done, although it is claimed

        def everybody(_descriptor: int, **_how: bool) -> bool:
            return True

        monkeypatch.setattr(locks, "_lock", everybody)
    with locks.locked(place.running / f"{TASKS[0].digest}.claim") as mine:
        assert mine
        tally = run_tasks(made, TASKS[:2], place, ignore)
    assert (tally.finished, tally.elsewhere) == ((1, 1) if locking else (2, 0))
    assert done(tmp_path) == list(TASKS[1:2] if locking else TASKS[:2])


def test_an_interrupted_training_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    made, place = Trained(tmp_path / "log"), Place(tmp_path / "lines.jsonl")

    def stop(moment: Moment) -> None:
        if moment.progress is not None and moment.progress.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _ = run_tasks(made, TASKS[:1], place, stop)
    assert done(tmp_path) == []
    assert any((place.running / TASKS[0].digest).glob("checkpoint.*"))
    assert run_tasks(made, TASKS[:1], place, ignore).finished == 1
    assert (tmp_path / "log").read_text().splitlines()[-1] == "resumed 5"
    assert not place.running.exists()


class Failing(Made):
    """The second task fails as told."""

    __slots__ = ("problem",)

    def __init__(self, log: Path, problem: Exception) -> None:
        super().__init__(log)
        self.problem = problem

    @override
    def run(self, task: Task, bench: Bench) -> Run:
        if task == TASKS[1]:
            raise self.problem
        return super().run(task, bench)


def test_a_run_whose_certificate_fails_has_no_line_and_the_others_go_on(tmp_path: Path) -> None:
    place, seen = Place(tmp_path / "lines.jsonl"), list[Moment]()
    made = Failing(tmp_path / "log", NotEqualError("the outputs differ"))
    tally = run_tasks(made, TASKS[:3], place, seen.append)
    assert tally.failed == ((TASKS[1], "the outputs differ"),)
    assert done(tmp_path) == [TASKS[0], TASKS[2]]
    assert [it.task for it in seen if it.stage is Stage.FAILED] == [TASKS[1]]
    assert run_tasks(Made(tmp_path / "log"), TASKS[:3], place, ignore).finished == 1


def test_missing_data_end_the_call_and_keep_what_is_finished(tmp_path: Path) -> None:
    place = Place(tmp_path / "lines.jsonl")
    with pytest.raises(DataError, match="no data"):
        _ = run_tasks(Failing(tmp_path / "log", DataError("no data")), TASKS, place, ignore)
    assert done(tmp_path) == [TASKS[0]]
    assert not place.running.exists()  # it had not come to a checkpoint


def test_what_a_process_killed_after_its_line_left_behind_is_removed(tmp_path: Path) -> None:
    made, place = Made(tmp_path / "log"), Place(tmp_path / "lines.jsonl")
    _ = run_tasks(made, TASKS[:1], place, ignore)
    (place.running / TASKS[0].digest).mkdir(parents=True)
    _ = (place.running / TASKS[0].digest / "checkpoint.safetensors").write_text("")
    _ = (place.running / f"{TASKS[0].digest}.claim").write_text("")
    assert run_tasks(made, TASKS[:1], place, ignore).before == 1
    assert not place.running.exists()


def test_a_folder_that_another_process_removes_in_between_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, left = Place(tmp_path / "lines.jsonl"), [2]
    make = locks.make_folder

    def make_and_lose(folder: Path) -> None:
        make(folder)
        if left[0]:
            left[0] -= 1
            folder.rmdir()

    monkeypatch.setattr(runner, "make_folder", make_and_lose)
    assert run_tasks(Made(tmp_path / "log"), TASKS[:2], place, ignore).finished == 2
    assert left == [0]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    place = Place(tmp_path / "lines.jsonl")
    place.running.mkdir()
    (place.running / f"{TASKS[0].digest}.claim").mkdir()
    with pytest.raises(StoreError, match="cannot write"):
        _ = run_tasks(Made(tmp_path / "log"), TASKS[:1], place, ignore)


def test_moments_count_what_is_done(tmp_path: Path) -> None:
    seen = list[Moment]()
    _ = run_tasks(Made(tmp_path / "log"), TASKS[:2], Place(tmp_path / "lines.jsonl"), seen.append)
    assert [(it.stage.value, it.done, it.of) for it in seen] == [
        ("started", 0, 2),
        ("finished", 1, 2),
        ("started", 1, 2),
        ("finished", 2, 2),
    ]


def test_half_a_line_is_no_line_and_is_cut_off_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    append_finished(path, run_of_task(TASKS[0]))
    whole = path.read_bytes()
    _ = path.write_bytes(whole + whole[: len(whole) // 2])
    assert [run.task for run in read_finished(path, "made")] == [TASKS[0]]
    append_finished(path, run_of_task(TASKS[1]))
    assert path.read_bytes().startswith(whole)
    assert [run.task for run in read_finished(path, "made")] == list(TASKS[:2])


def test_a_line_comes_back_as_the_run_was(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    append_finished(path, run_of_task(TASKS[0], macs=None, bytes_on_disk=None))
    (run,) = read_finished(path, "made")
    assert (run.nonzero, run.parameters, run.compression) == (500, 1000, 2.0)
    assert (run.units_kept, run.error_percent, run.validation_percent) == (50, 3.0, 2.0)
    assert (run.macs, run.bytes_on_disk, run.certified) == (None, None, True)


EDITS: list[tuple[str, object, str]] = [
    ("nonzero", -1, "nonzero"),
    ("error_percent", 101.0, "error_percent"),
    ("error_percent", None, "error_percent"),
    ("units", "many", "units"),
    ("notes", {}, "notes must hold task"),
]


@pytest.mark.parametrize(("field", "value", "words"), EDITS, ids=lambda it: str(it)[:20])
def test_an_edited_line_is_refused_by_its_number(
    field: str, value: object, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "lines.jsonl"
    for task in TASKS[:2]:
        append_finished(path, run_of_task(task))
    first, second = path.read_text().splitlines()
    edited = json.loads(second) | {field: value}
    _ = path.write_text(f"{first}\n{json.dumps(edited)}\n")
    with pytest.raises(StoreError, match=f"line 2.*{words}"):
        _ = read_finished(path, "made")


def test_the_same_run_twice_and_a_run_of_another_experiment_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    append_finished(path, run_of_task(task_of()))
    _ = path.write_bytes(2 * path.read_bytes())
    with pytest.raises(StoreError, match=r"line 2.*twice"):
        _ = read_finished(path, "made")
    with pytest.raises(StoreError, match=r"line 1.*made, not of other"):
        _ = read_finished(path, "other")


def test_a_missing_file_has_no_runs_and_a_folder_is_refused(tmp_path: Path) -> None:
    assert read_finished(tmp_path / "gone.jsonl", "made") == ()
    with pytest.raises(StoreError, match="cannot read"):
        _ = read_finished(tmp_path, "made")
    _ = (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot make the folder"):
        append_finished(tmp_path / "file" / "lines.jsonl", run_of_task(task_of()))
