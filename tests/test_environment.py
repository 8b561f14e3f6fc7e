"""Environment: where a figure comes from."""

import subprocess
from pathlib import Path

import pytest

from abscise import _environment as environment


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    _ = subprocess.run(command, check=True, capture_output=True)


def test_the_commit_is_that_of_the_source_and_says_when_it_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "_environment.py"
    _ = source.write_text("one")
    monkeypatch.setattr(environment, "__file__", str(source))
    git(tmp_path, "init", "--quiet")
    assert environment.commit() is None  # not tracked: installed into somebody's repository
    git(tmp_path, "add", "_environment.py")
    git(tmp_path, "commit", "--quiet", "-m", "x")
    clean = environment.commit()
    assert clean is not None
    assert len(clean) == 40
    _ = source.write_text("two")
    assert environment.commit() == f"{clean}-dirty"


def test_without_git_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _name: None)
    assert environment.commit() is None
