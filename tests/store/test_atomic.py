"""Atomicity: whatever step of writing fails, the old content or the new content is there."""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from abscise._errors import StoreError
from abscise.store._atomic import (
    backup_of,
    recover,
    refuse_foreign,
    write_folder,
    write_json_atomically,
)

OLD = {"plan.json": b"old plan", "model.safetensors": b"old weights"}
NEW = {"plan.json": b"new plan", "model.safetensors": b"new weights", "certificate.json": b"new"}


class Crash(BaseException):
    """The process ends here: no handler for ordinary errors sees it."""


class Faults:
    """Counts the system calls that change files, and makes one of them fail."""

    def __init__(self, fail_at: int, error: BaseException) -> None:
        self.calls, self.fail_at, self.error = 0, fail_at, error
        self.dead = False

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if self.dead and isinstance(self.error, Crash):
                raise self.error  # a dead process cleans nothing up
            self.calls += 1
            if self.calls == self.fail_at:
                self.dead = True
                raise self.error
            return function(*args, **kwargs)

        return wrapped

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for owner, name in (
            (os, "fsync"),
            (Path, "rename"),
            (Path, "replace"),
            (Path, "mkdir"),
            (Path, "open"),
            (Path, "unlink"),
            (shutil, "rmtree"),
        ):
            patch.setattr(owner, name, self.wrap(getattr(owner, name)))


def content(folder: Path) -> dict[str, bytes]:
    return {item.name: item.read_bytes() for item in folder.iterdir()}


def run_with_fault(fail_at: int, error: BaseException, work: Callable[[], None]) -> int:
    """How many calls were made; StoreError and Crash are swallowed."""
    with pytest.MonkeyPatch.context() as patch:
        faults = Faults(fail_at, error)
        faults.install(patch)
        with contextlib.suppress(StoreError, Crash):
            work()
        return faults.calls


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("error", [FULL, Crash()])
def test_a_folder_is_whole_after_a_failure_at_any_step(
    tmp_path: Path,
    existing: bool,
    error: BaseException,
) -> None:
    steps, seen = 0, set()
    while True:
        steps += 1
        folder = tmp_path / str(steps) / "saved"
        folder.parent.mkdir()
        if existing:
            write_folder(folder, OLD)
        calls = run_with_fault(steps, error, lambda: write_folder(folder, NEW))  # noqa: B023
        recover(folder)
        found = content(folder) if folder.exists() else None
        assert found in ([OLD, NEW] if existing else [None, NEW])
        seen.add("new" if found == NEW else "old")
        if isinstance(error, OSError):  # an error, unlike a crash, leaves no rubbish
            assert [item.name for item in folder.parent.iterdir()] == ["saved"] * folder.exists()
        if calls < steps:
            break
        write_folder(folder, NEW)  # what is left over does not stand in the way
        assert content(folder) == NEW
    assert steps > 10
    assert seen == {"old", "new"}


def test_a_full_disk_is_one_line_and_leaves_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "saved"
    write_folder(folder, OLD)

    def full(_: int) -> None:
        raise FULL

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"^cannot save to .*saved: No space left on device; noth"):
        write_folder(folder, NEW)
    assert content(folder) == OLD
    assert [item.name for item in tmp_path.iterdir()] == ["saved"]


def test_a_file_is_whole_after_a_failure_at_any_step(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    for error in (FULL, Crash()):
        step = calls = 0
        while calls >= step:
            step += 1
            _ = path.write_text('"old"')
            calls = run_with_fault(step, error, lambda: write_json_atomically(path, "new"))
            assert json.loads(path.read_text()) in ("old", "new")
        assert step > 4
        assert json.loads(path.read_text()) == "new"


def test_files_of_others_are_never_removed(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    _ = (folder / "thesis.tex").write_text("years")
    with pytest.raises(StoreError, match=r"holds other files \(thesis\.tex\).* name a new folder"):
        write_folder(folder, NEW)
    assert [item.name for item in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("name", ["report.html", "model.safetensors"])
def test_half_a_file_that_a_killed_process_left_is_no_file_of_others(
    name: str, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    write_folder(folder, OLD)
    _ = (folder / f".{name}.{'0' * 32}.tmp").write_text("hal")
    write_folder(folder, NEW)
    assert sorted(item.name for item in folder.iterdir()) == sorted(NEW)


def test_a_mounted_file_system_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path)
    with pytest.raises(StoreError, match="a file system is mounted there; name a folder in it"):
        refuse_foreign(tmp_path)


def test_a_parent_that_cannot_be_written_to_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path) != tmp_path)
    with pytest.raises(StoreError, match=r"cannot be written to; name a folder elsewhere"):
        refuse_foreign(tmp_path / "new" / "model")


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    _ = path.write_text("x")
    with pytest.raises(StoreError, match="it is a file; name a folder"):
        write_folder(path, NEW)
    with pytest.raises(StoreError, match="name a folder in it"):
        write_folder(Path("/"), NEW)
    with pytest.raises(StoreError, match=r"cannot save to .*below: .*file is a file; name a"):
        write_folder(path / "below", NEW)


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "link").symlink_to(target)
    write_folder(tmp_path / "link", NEW)
    assert (tmp_path / "link").is_symlink()
    assert content(target) == NEW


def test_parents_are_made(tmp_path: Path) -> None:
    write_folder(tmp_path / "a" / "b", NEW)
    assert content(tmp_path / "a" / "b") == NEW


def test_an_interrupted_swap_is_finished_from_the_backup(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    write_folder(folder, OLD)
    _ = folder.rename(backup_of(folder))
    recover(folder)
    assert content(folder) == OLD
    _ = shutil.copytree(folder, backup_of(folder))
    recover(folder)
    assert [item.name for item in tmp_path.iterdir()] == ["saved"]


def test_json_without_meaning_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json_atomically(tmp_path / "x.json", float("nan"))
    assert list(tmp_path.iterdir()) == []
