"""The lines of the README for a loop of one's own run, and print what stands below them."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from abscise.implicit import read_track

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "README.md").read_text(encoding="utf-8")
STEPS = 1050
NUMBER = re.compile(r"\d[\d.,]*(e[+-]?\d+)?")


def code(name: str) -> str:
    (found,) = re.findall(rf"<!-- snippet {name} -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


def told(name: str) -> list[str]:
    """The lines below the code."""
    (found,) = re.findall(rf"<!-- while-{name} -->\n```\n(.*?)\n```", PAGE, re.DOTALL)
    return str(found).split("\n")


@pytest.fixture
def yours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a user has: a model with units that die at once, an optimizer, a loader, a loop."""
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        _ = torch.manual_seed(0)
        hidden, classes = nn.Linear(6, 12), nn.Linear(12, 3)
        x, y = torch.randn(20, 6), torch.arange(20) % 3
    with torch.no_grad():  # silent from the start: only the decay moves them
        hidden.bias[:4] = -50.0
        hidden.weight[:4] *= 1e-2
        classes.weight[:, :4] *= 1e-2
    model = nn.Sequential(hidden, nn.ReLU(), classes)
    decayed = [hidden.weight, *classes.parameters()]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": 1e-3},
        {"params": [hidden.bias]},
    ]
    optimizer = torch.optim.Adam(groups, lr=3e-3, betas=(0.9, 0.99))
    loader = DataLoader(TensorDataset(x, y), batch_size=20)

    def train() -> None:
        for _ in range(STEPS):
            for inputs, labels in loader:
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(inputs), labels).backward()
                _ = optimizer.step()

    return {"model": model, "optimizer": optimizer, "loader": loader, "x": x, "train": train}


def plain(line: str) -> str:
    return NUMBER.sub("0", line)


def test_the_doctors_line_says_what_the_readme_says(
    yours: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    exec(code("doctor"), yours)
    (line,) = capsys.readouterr().out.splitlines()
    (expected,) = told("doctor")
    layers = re.compile(r"( to 0)? \(\w+\)")  # named only where they are far enough apart
    assert layers.sub("", plain(line)) == layers.sub("", plain(expected))


def test_the_trackers_lines_are_those_of_the_readme_and_its_file_is_read(
    yours: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    exec(code("tracker"), yours)
    lines = capsys.readouterr().out.splitlines()
    assert [plain(line) for line in lines] == [plain(line) for line in told("tracker")]
    track = read_track(Path("units.jsonl"))
    assert [it.step for it in track.weights] == [it.step for it in track.activity] == [STEPS]
    assert [it.layers[0].silent for it in track.activity] == [4]


def test_the_third_snippet_removes_units_while_the_model_trains(
    yours: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    exec(code("shrink"), yours)
    lines = capsys.readouterr().out.splitlines()
    (expected,) = told("shrink")
    assert yours["model"][0].out_features == 8
    form = r"step 0: removed 0 units \(.*\); 0 -> 0 parameters, outputs moved by 0 of their spread"
    for line in (*lines, expected):
        assert re.match(form, plain(line)), line
    assert lines


def test_the_lines_below_the_code_were_printed_by_the_example() -> None:
    recorded = (ROOT / "results" / "while-training.txt").read_text(encoding="utf-8").splitlines()
    for name in ("doctor", "tracker", "shrink"):
        assert told(name)
        assert set(told(name)) <= set(recorded)
