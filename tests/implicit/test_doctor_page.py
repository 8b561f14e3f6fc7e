"""docs/doctor.md says what the code does: its example, its commands and its lines of Python run."""

import re
import shlex
from pathlib import Path

import pytest

from abscise import implicit
from abscise.cli import main
from abscise.cli._main import parser

PAGE = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"[\d.,]*\d(e[+-]?\d+)?")


def block(name: str) -> str:
    (found,) = re.findall(rf"<!-- {name} -->\n(.*?)<!-- end -->", PAGE, re.DOTALL)
    return re.sub(r"^```\w*\n", "", str(found), flags=re.MULTILINE)


def words(text: str) -> list[str]:
    """Without numbers, whose last digits differ between machines."""
    return [NUMBER.sub("0", word) for word in text.split() if set(word) != {"─"}]


def test_the_example_is_what_the_first_command_prints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    first = re.findall(r"^abscise (.*)$", PAGE, re.MULTILINE)[0]
    assert main(shlex.split(first)) == 0
    assert words(capsys.readouterr().out) == words(block("doctor"))


def test_every_command_on_the_page_is_one() -> None:
    commands = re.findall(r"^abscise (.*)$", PAGE, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        _ = parser().parse_args(shlex.split(command))


def test_the_lines_of_python_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(block("python") + block("scheduler") + block("tracker"), {})
    out = capsys.readouterr().out
    assert out.startswith("Units can die: Adam")
    assert "step 500: " in out
    assert len(Path("units.jsonl").read_text().splitlines()) == 6


def test_the_optimizers_on_the_page_are_public() -> None:
    named = re.findall(r"`(\w+_l2)`", PAGE)
    assert len(named) == 5
    assert {*named, *(name.replace("_l2", "_wd") for name in named)} <= set(implicit.__all__)
