"""The examples run as they are, and do what they say."""

import re
import runpy
from pathlib import Path

import pytest
import torch
from torch import nn

import abscise

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_the_proximal_example_trains_removes_proves_and_saves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        made = runpy.run_path(str(EXAMPLES / "proximal.py"))
    printed = capsys.readouterr().out
    (share,) = re.findall(r"^(\d+)% of the units are 0$", printed, re.MULTILINE)
    ((gone, units),) = re.findall(r"^removed (\d+) of (\d+) units$", printed, re.MULTILINE)
    (accuracy,) = re.findall(r"certificate passed: True; accuracy ([\d.]+)%", printed)
    assert abs(int(gone) / (int(units) - 10) - int(share) / 100) < 0.02  # 10 are pinned
    assert int(share) > 40
    assert float(accuracy) > 85
    model = made["model"]
    assert isinstance(model, nn.Module)
    loaded = abscise.load(tmp_path / "proximal-digits", model)
    inputs = made["inputs"]
    torch.testing.assert_close(loaded(inputs), model(inputs), rtol=1e-4, atol=1e-4)
    assert loaded.get_parameter("0.weight").shape[0] < model.get_parameter("0.weight").shape[0]


@pytest.mark.thorough
def test_the_example_of_a_loop_tells_tracks_and_removes_what_dies(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with torch.random.fork_rng():
        made = runpy.run_path(str(EXAMPLES / "while_training.py"))
    printed = capsys.readouterr().out
    removed = sum(map(int, re.findall(r": removed (\d+) units \(", printed)))
    assert printed.startswith("Units can die: Adam")
    assert "units silent on 1,400 samples (this pass took" in printed
    assert 20 < removed == 400 - sum(it.out_features for it in made["model"][:-1:2])
    ((accuracy, widths),) = re.findall(r"accuracy ([\d.]+)% with \[(.*)\] units", printed)
    assert float(accuracy) > 85
    assert widths == ", ".join(str(it.out_features) for it in made["model"][::2])


def test_the_page_on_sparsifiers_and_the_readme_name_every_example() -> None:
    root = EXAMPLES.parent
    pages = "".join((root / page).read_text("utf-8") for page in ("README.md", "docs/sparsify.md"))
    names = sorted(path.name for path in EXAMPLES.glob("*.py"))
    assert "proximal.py" in names
    assert all(f"examples/{name}" in pages for name in names)
