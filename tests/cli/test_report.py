"""`report` shows what was saved, refuses what somebody else wrote, and needs its extra for HTML."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from abscise.cli import main
from abscise.cli._training_report import thinned, training_of
from abscise.report import _extra, report_from_json, to_html
from abscise.train import Dying, Progress, fit, load_recipe

MODEL = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=12):
        super().__init__()
        torch.manual_seed(0)
        self.hidden = nn.Linear(4, width)
        self.out = nn.Linear(width, 3)
        with torch.no_grad():
            self.hidden.weight[:5] = 0
            self.hidden.bias[:5] = 0

    def forward(self, x):
        return self.out(torch.relu(self.hidden(x)))
"""
COMPACT = ["compact", "--model", "reported:Net", "--model-args", '{"width": 10}', "--input", "32x4"]
SAVED = {"plan.json", "model.safetensors", "certificate.json"}


@pytest.fixture(scope="module")
def compacted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model's code and `small`, which `compact` saved."""
    folder = tmp_path_factory.mktemp("compacted")
    _ = (folder / "reported.py").write_text(MODEL)
    before = Path.cwd()
    try:
        os.chdir(folder)
        assert main([*COMPACT, "--out", "small"]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def folder(compacted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a copy of what was compacted."""
    for path in (compacted / "reported.py", *(compacted / "small").iterdir()):
        copy = tmp_path / path.relative_to(compacted)
        copy.parent.mkdir(exist_ok=True)
        _ = copy.write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "60")
    return tmp_path


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_compact_saves_its_report_in_three_forms_beside_a_model_that_loads(folder: Path) -> None:
    small = folder / "small"
    reports = {"report.html", "report.json", "report.txt"}
    assert {path.name for path in small.iterdir()} == SAVED | reports
    report = report_from_json(json.loads((small / "report.json").read_text()))
    assert report.removal.removed_units == 5
    assert report.title == "reported:Net"
    assert (small / "report.html").read_text() == to_html(report)
    names: dict[str, Any] = {}
    exec("\n".join(report.loading), names)
    assert names["model"](torch.zeros(2, 4)).shape == (2, 3)
    assert names["model"].hidden.out_features == 5


def test_the_page_is_written_into_the_folder(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = folder / "small/report.html"
    before = page.read_text()
    page.unlink()
    assert main(["report", "small"]) == 0
    assert page.read_text() == before
    assert capsys.readouterr().out == f"report written to {Path('small/report.html')}\n"


@pytest.mark.parametrize(("form", "name"), [("json", "report.json"), ("text", "report.txt")])
def test_json_and_text_are_printed_as_they_were_saved(
    folder: Path, capsys: pytest.CaptureFixture[str], form: str, name: str
) -> None:
    assert main(["report", "small", "--format", form]) == 0
    saved = (folder / "small" / name).read_text()
    assert capsys.readouterr().out == saved
    assert main(["report", "small", "--format", form, "--out", "copy"]) == 0
    assert (folder / "copy").read_text() == saved


def test_a_folder_without_a_report_is_shown_from_its_plan_and_certificate(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "small/report.json").unlink()
    assert main(["report", "small", "--format", "text"]) == 0
    printed = capsys.readouterr().out
    assert "5 of 10 units are gone, and the outputs are the same." in printed
    (folder / "small/certificate.json").unlink()
    assert main(["report", "small", "--format", "text"]) == 0
    assert "5 of 10 units are gone, and nobody has compared the outputs." in capsys.readouterr().out


def changed(change: Callable[[dict[str, Any]], None]) -> Callable[[bytes], bytes]:
    def apply(content: bytes) -> bytes:
        fields = json.loads(content)
        change(fields)
        return json.dumps(fields).encode()

    return apply


BROKEN: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated": (lambda content: content[:-20], "report.json: not valid JSON"),
    "another version": (changed(lambda it: it.update(format=1)), "format must be 4, got 1"),
    "wrong type": (changed(lambda it: it.update(title=7)), "title must be a text"),
    "unknown field": (changed(lambda it: it.update(extra=1)), "extra"),
    "missing field": (changed(lambda it: it.pop("removal")), "removal"),
    "more removed than there is": (
        changed(lambda it: it["removal"].update(removed_units=99)),
        "units must be at least",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_edited_report_is_refused_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    breaking, words = BROKEN[name]
    path, page = folder / "small/report.json", folder / "small/report.html"
    _ = path.write_bytes(breaking(path.read_bytes()))
    before = page.read_bytes()
    assert main(["report", "small"]) == 1
    assert words in one_line(capsys)
    assert page.read_bytes() == before


def test_a_folder_that_is_not_there_is_refused_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "smal"]) == 1
    assert f"{folder / 'smal'} does not exist" in one_line(capsys)
    assert main(["report", "small", "--out", "nowhere/page.html"]) == 1
    assert "cannot write" in one_line(capsys)


def test_without_its_extra_the_page_is_refused_and_the_model_still_saved(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_extra, "PACKAGES", ("no_such_package",))
    assert main(["report", "small"]) == 1
    assert "pip install 'abscise[report]'" in one_line(capsys)
    assert main(["report", "small", "--format", "text"]) == 0
    assert "units are gone" in capsys.readouterr().out
    assert main([*COMPACT, "--out", "other"]) == 0
    assert "report.html is left out: " in capsys.readouterr().out
    written = {path.name for path in (folder / "other").iterdir()}
    assert written == SAVED | {"report.json", "report.txt"}


def test_a_full_disk_leaves_the_old_page(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    page = folder / "small/report.html"
    _ = page.write_text("the old page")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert main(["report", "small"]) == 1
    assert "No space left on device; nothing was changed" in one_line(capsys)
    assert page.read_text() == "the old page"
    assert not [path for path in page.parent.iterdir() if path.suffix == ".tmp"]


def test_a_training_run_is_reported_as_its_observer_saw_it() -> None:
    changes = {"epochs": 2, "widths": [4, 4], "hidden": [8], "report_every": 30}
    trained = fit(load_recipe("digits-adam-l2", changes))
    told = training_of(trained)
    assert (told.recipe, told.network, told.dataset) == ("digits-adam-l2", "ConvNet", "digits")
    assert told.method == "adam, weight_decay 0.0015"
    assert [point.step for point in told.points] == [seen.step for seen in trained.history]
    last, seen = told.points[-1], trained.history[-1]
    assert last.epoch == 2
    assert (last.loss, last.accuracy) == (seen.loss, seen.accuracy)
    assert last.layers == {name: (it.dying, it.units) for name, it in seen.layers.items()}
    assert len(told.drops()) == 2


@pytest.mark.parametrize("looks", [1, 2, 1999, 2000, 2001, 123_456])
@pytest.mark.parametrize("layers", [1, 1000, 100_000])
def test_the_looks_of_a_long_training_are_thinned_but_the_first_and_the_last_stay(
    looks: int, layers: int
) -> None:
    counts = {str(index): Dying(0, 1) for index in range(layers)}
    history = [Progress(step, looks, 1.0, 0.5, 0.1, counts) for step in range(1, looks + 1)]
    steps = [seen.step for seen in thinned(history)]
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (1, looks)
    assert len(steps) <= 2000
    assert len(steps) <= max(100, 200_000 // layers)
    assert len(steps) == looks or len(steps) >= 100


def test_a_network_whose_names_have_line_breaks_leaves_a_report_that_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = "from torch import nn\n\ndef make():\n    net = nn.Sequential(nn.Flatten())\n"
    module += "    net.add_module('a\\nb', nn.Linear(64, 6)); net.add_module('r', nn.ReLU())\n"
    module += "    net.add_module('c', nn.Linear(6, 10)); return net\n"
    _ = Path("broken_lines.py").write_text(module)
    recipe = "name: t\ndata: digits\nmodel: broken_lines:make\nepochs: 1\nbatch_size: 100\n"
    _ = Path("t.yaml").write_text(recipe)
    assert main(["train", "t.yaml", "--out", "t"]) == 0
    for kind in ("html", "json", "text"):
        assert main(["report", "t", "--format", kind]) == 0


@pytest.mark.parametrize("out", ["", ".", "/", "small"])
def test_a_folder_is_no_file_to_write_the_report_to(
    out: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "small", "--out", out]) == 2
    assert "name a file, such as" in one_line(capsys)
    assert (folder / "small").is_dir()
