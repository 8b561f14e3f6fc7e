"""`train` and `demo` do the whole job, and what they print is true."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from abscise.cli import _train, main
from abscise.cli._settings import settings
from abscise.cli._usage import UsageError
from abscise.report import report_from_json
from abscise.train import load_data, load_recipe, predict

QUICK = {"epochs": 2, "widths": [8, 8], "hidden": [16], "report_every": 30}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


@pytest.fixture
def quick_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    def quick(name: str, changes: dict[str, object], **how: Any) -> Any:
        return load_recipe(name, changes | QUICK, **how)

    monkeypatch.setattr(_train, "load_recipe", quick)


def test_settings_are_read_as_yaml() -> None:
    pairs = ("seed=3", "widths=[8, 16]", "name=a=b")
    assert settings(pairs) == {"seed": 3, "widths": [8, 16], "name": "a=b"}


@pytest.mark.parametrize("pair", ["seed", "=3", "seed=[1"])
def test_a_setting_that_is_none_is_refused(pair: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"--set {pair}")):
        _ = settings((pair,))


@pytest.mark.usefixtures("quick_demo")
def test_the_demo_saves_a_model_that_the_printed_lines_load(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--seed", "1", "--out", "shed"]) == 0
    printed = capsys.readouterr().out
    assert "certificate: PASSED" in printed
    assert {path.name for path in (folder / "shed").iterdir()} == {
        "plan.json",
        "model.safetensors",
        "certificate.json",
        "report.html",
        "report.json",
        "report.txt",
    }
    report = report_from_json(json.loads((folder / "shed" / "report.json").read_text()))
    assert report.training is not None
    assert report.training.seed == 1
    assert report.predictions is not None
    assert f"the report is {Path('shed') / 'report.html'}" in printed
    lines = re.findall(r"^    (\S.*)$", printed.split("load it again with:")[1], re.MULTILINE)
    # The printed recipe is the whole one; the quick one has other widths.
    code = "\n".join(lines).replace("'digits-adam-l2'", f"'digits-adam-l2', {QUICK}")
    names: dict[str, Any] = {}
    exec(code, names)
    test = load_data("digits").test
    accuracy = float((predict(names["model"], test.inputs) == test.labels).double().mean())
    (shown,) = re.findall(r"^accuracy +[\d.]+ % +([\d.]+) %", printed, re.MULTILINE)
    assert shown == f"{100 * accuracy:.2f}"
    assert re.search(r"^changed predictions +0 of 360", printed, re.MULTILINE)


@pytest.mark.usefixtures("folder", "quick_demo")
def test_the_control_removes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--control", "adamw"]) == 0
    assert re.search(r"removed: 0 of 32 units", capsys.readouterr().out)


def test_train_records_the_run_that_it_removed_from(folder: Path) -> None:
    recipe = folder / "tiny.yaml"
    _ = recipe.write_text(
        "{name: tiny, data: digits, model: mlp, hidden: [12], epochs: 1, batch_size: 50}"
    )
    argv = ["train", "tiny.yaml", "--set", "epochs=2", "--out", "small", "--record", "r/tiny.jsonl"]
    state = torch.get_rng_state()
    assert main(argv) == 0
    assert torch.equal(torch.get_rng_state(), state)
    (line,) = (folder / "r/tiny.jsonl").read_text().splitlines()
    run = json.loads(line)
    assert run["recipe"]["epochs"] == 2
    assert run["units"] == 12
    assert run["parameters"] == 64 * 12 + 12 + 12 * 10 + 10
    assert run["macs"] == 64 * (12 - run["units_removed"]) + 10 * (12 - run["units_removed"])
    assert run["bytes_on_disk"] == (folder / "small/model.safetensors").stat().st_size
    assert run["notes"]["certificate"]["passed"] is True


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        ("train no-such-recipe", 2, "no-such-recipe"),
        ("train gone.yaml", 2, "gone.yaml"),
        ("train digits-adam-l2 --set epoch=3", 2, "did you mean 'epochs'"),
        ("train digits-adam-l2 --set epochs=0", 2, "epochs must be at least 1"),
        ("train digits-adam-l2 --control sgdw", 2, "sgdw"),
        ("train mnist-lenet300-adam-l2 --data-root gone", 1, "gone"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_cannot_be_trained_is_refused_in_one_line(
    argv: str, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv.split()) == code
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert words in shown
