"""docs/recipes.md says what the code does: its table, its words, and every example on it runs."""

import json
import re
import shlex
from dataclasses import MISSING, Field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
import yaml

from abscise.cli import main
from abscise.cli._main import parser
from abscise.train import (
    Augment,
    DataName,
    ModelName,
    OptimizerName,
    Precision,
    Recipe,
    Schedule,
    load_recipe,
    recipe_from,
)
from abscise.train import _keeper as keeper

PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
CHOICES: dict[str, type[StrEnum]] = {
    "data": DataName,
    "model": ModelName,
    "optimizer": OptimizerName,
    "schedule": Schedule,
    "augment": Augment,
    "precision": Precision,
}


def block(name: str) -> str:
    """What is between `<!-- name -->` and `<!-- end -->`, without the fences."""
    (found,) = re.findall(rf"<!-- {re.escape(name)} -->\n(.*?)<!-- end -->", PAGE, re.DOTALL)
    return re.sub(r"^```\w*\n", "", str(found), flags=re.MULTILINE)


def rows(name: str) -> list[list[str]]:
    lines = block(name).splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def described() -> dict[str, str]:
    """What the docstring of Recipe says about each key, on one line."""
    text = (Recipe.__doc__ or "").split("Args:\n")[1].split("\n\n")[0]
    entries = re.split(r"\n(?= {4,8}\w+: )", f"\n{text}")[1:]
    split = [" ".join(entry.split()).partition(": ") for entry in entries]
    return {key: meaning for key, _, meaning in split}


def default(entry: "Field[Any]") -> str:
    value = entry.default if entry.default_factory is MISSING else entry.default_factory()
    if value is MISSING:
        return "required"
    plain = list(value) if isinstance(value, tuple) else value
    return f"`{plain if isinstance(plain, str) else json.dumps(plain)}`"


def test_the_table_has_every_key_with_its_default_and_its_meaning() -> None:
    meanings = described()
    expected = [[f"`{it.name}`", default(it), meanings[it.name]] for it in fields(Recipe)]
    assert rows("keys") == expected


def test_the_words_are_those_that_a_recipe_knows() -> None:
    expected = [
        [f"`{key}`", ", ".join(word.value for word in words)] for key, words in CHOICES.items()
    ]
    assert rows("words") == expected


def test_the_recipe_that_is_explained_is_the_one_that_runs() -> None:
    shown = yaml.safe_load(block("digits-adam-l2"))
    assert recipe_from(shown) == load_recipe("digits-adam-l2")
    explained = re.findall(r"^\* \*\*(.*?)\*\*", PAGE.split("## All keys")[0], re.MULTILINE)
    keys = {key for group in explained for key in re.findall(r"`(\w+)`", group)}
    named = {"widths", "hidden"}  # explained beside the model
    rates = {"name", "learning_rate"}  # need no explanation
    assert keys | named | rates == set(shown)


def test_every_command_on_the_page_is_one() -> None:
    commands = re.findall(r"(?:^|`)(abscise .*?)(?:`|$)", PAGE, re.MULTILINE)
    assert len(commands) >= 5
    for command in commands:
        _ = parser().parse_args(shlex.split(command)[1:])


def test_what_may_change_on_resume_is_what_the_page_says() -> None:
    (free,) = re.findall(r"\(only\n`(\w+)` and `(\w+)` may change\)", PAGE)
    assert set(free) == keeper.FREE


def test_the_network_of_your_own_is_trained_and_kept_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("nets.py", "mine.yaml"):
        _ = Path(name).write_text(block(name))
    assert main(["train", "mine.yaml", "--set", "epochs=1", "--out", "mine"]) == 0
    kept = {path.name for path in Path("mine.training").iterdir()}
    assert kept == {
        "checkpoint.safetensors",
        "epochs.jsonl",
        "finished",
        "lock",
        "units.jsonl",
    }


def test_the_table_of_your_own_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    _ = Path("table.yaml").write_text(block("table.yaml"))
    Path("measurements").mkdir()
    for part in ("train", "test"):
        lines = [f"{index},{index % 3},0.5,{index % 2}" for index in range(40)]
        content = "\n".join(["x,y,z,kind", *lines]) + "\n"
        _ = Path("measurements", f"{part}.csv").write_text(content)
    assert main(["train", "table.yaml"]) == 0


def test_the_lines_of_python_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(block("python"), {})
    assert "Progress(step=78" in capsys.readouterr().out
    assert Path("run/checkpoint.safetensors").exists()
