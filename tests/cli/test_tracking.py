"""`train` and `demo` note how units die, `report` shows it, and the training stays the same."""

import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from abscise.cli import main
from abscise.cli._tracking import MOST_COUNTS, RunTracker, thinned_track
from abscise.implicit import Track, read_track
from abscise.report import report_from_json
from abscise.train import data_for, fit, load_recipe
from support.reporting import names, track

QUICK = ["--set", "epochs=3", "--set", "limit=160", "--set", "widths=[4, 4]", "--set", "hidden=[8]"]
TRAIN = ["train", "digits-adam-l2", *QUICK, "--out", "small"]
CHANGES = {"epochs": 3, "limit": 160, "widths": [4, 4], "hidden": [8]}
STRANGE = """
import torch
from torch import nn


def smooth():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 10))


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(64, 10))

    def forward(self, x):
        return x.flatten(1) @ self.weight
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def reported(folder: Path) -> Track | None:
    return report_from_json(json.loads((folder / "small" / "report.json").read_text())).tracking


def test_a_run_notes_each_epoch_and_looks_at_all_data_when_asked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TRAIN, "--look-every", "2"]) == 0
    found = read_track(folder / "small.training" / "units.jsonl")
    assert [it.step for it in found.weights] == [10, 20, 30]
    assert [it.step for it in found.activity] == [20]
    assert {it.samples for it in found.activity} == {160}
    assert reported(folder) == found
    printed = capsys.readouterr().out
    assert "units silent on 160 samples (this pass took" in printed
    page = (folder / "small" / "report.html").read_text(encoding="utf-8")
    assert "How selective units are" in page
    # The run is done: the same once more starts its lines anew, with one look after the last epoch.
    assert main(TRAIN) == 0
    again = read_track(folder / "small.training" / "units.jsonl")
    assert [it.step for it in again.weights] == [10, 20, 30]
    assert [it.step for it in again.activity] == [30]


def test_the_demo_has_the_pictures_and_leaves_no_file_of_lines(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe("digits-adam-l2", dict(CHANGES))
    monkeypatch.setattr("abscise.cli._train.load_recipe", lambda *_args, **_how: recipe)
    assert main(["demo", "--out", "small"]) == 0
    found = reported(folder)
    assert found is not None
    assert (len(found.weights), len(found.activity)) == (3, 1)
    assert [it.name for it in folder.iterdir()] == ["small"]


def test_a_run_with_a_tracker_gives_the_same_weights_bit_for_bit() -> None:
    recipe = load_recipe("digits-adam-l2", dict(CHANGES))
    data = data_for(recipe)
    tracker = RunTracker(recipe, data, 1, Console(quiet=True))
    plain, tracked = fit(recipe, data=data), fit(recipe, data=data, attachments=[tracker.attach])
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, tracked.model.state_dict()[name])
    found = tracker.track()
    assert found is not None
    assert len(found.activity) == 3


@pytest.mark.parametrize(
    ("factory", "words", "kept"),
    [
        ("smooth", "no pass over the data: nothing in the model rectifies", (3, 0)),
        ("Own", "no tracker: Own has no linear layer", None),
    ],
)
def test_a_network_that_cannot_be_watched_is_trained_and_the_reason_is_said(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    factory: str,
    words: str,
    kept: tuple[int, int] | None,
) -> None:
    _ = (folder / "strange.py").write_text(STRANGE)
    own = ["--set", f"model=strange:{factory}", "--set", "widths=[]", "--set", "hidden=[]"]
    code = main(["train", "digits-adam-l2", *QUICK[:4], *own, "--out", "small"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert words in printed.out
    found = reported(folder)
    assert (found and (len(found.weights), len(found.activity))) == kept


def test_a_report_takes_a_trackers_file_and_refuses_a_bad_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(TRAIN) == 0
    lines = (folder / "small.training" / "units.jsonl").read_bytes()
    whole = json.loads((folder / "small" / "report.json").read_text()) | {"tracking": None}
    _ = (folder / "small" / "report.json").write_text(json.dumps(whole))
    page = folder / "small" / "report.html"
    assert main(["report", "small"]) == 0
    assert "How selective units are" not in page.read_text(encoding="utf-8")
    _ = (folder / "mine.jsonl").write_bytes(lines)
    assert main(["report", "small", "--tracker", "mine.jsonl"]) == 0
    assert "How selective units are" in page.read_text(encoding="utf-8")
    before = page.read_bytes()
    _ = (folder / "mine.jsonl").write_bytes(lines + b'{"format": 1}\n')
    _ = capsys.readouterr()
    assert main(["report", "small", "--tracker", "mine.jsonl"]) == 1
    assert capsys.readouterr().err.startswith("abscise: mine.jsonl, line 5: kind must be")
    assert main(["report", "small", "--tracker", "none.jsonl"]) == 1
    assert page.read_bytes() == before


@pytest.mark.usefixtures("folder")
def test_looks_need_the_folder_of_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits-adam-l2", "--look-every", "2"]) == 2
    assert "--look-every needs --out" in capsys.readouterr().err


def test_a_long_track_is_thinned_and_keeps_its_first_and_last_record() -> None:
    long = track(names(40), points=120)  # 80 layers by weights, 40 by activation
    thin = thinned_track(long)
    assert len(thin.weights) * 80 <= MOST_COUNTS < len(long.weights) * 80
    assert (thin.weights[0], thin.weights[-1]) == (long.weights[0], long.weights[-1])
    assert thin.activity == long.activity
    assert thinned_track(thin) == thin
