"""Whatever is wrong with a run is said in one clear line, and nothing is lost."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from abscise.cli import main

CHECKPOINT = Path("run.training/checkpoint.safetensors")
RECIPE = """
name: mine
data: ./table
shape: [2]
classes: 3
model: mlp
hidden: [8]
epochs: 2
batch_size: 10
report_every: 2
"""
FOLDERS = "--set shape=[3,8,8] --set classes=2 --set inputs=[image]"
MODULE = """
import torch
from torch import nn

class Root(torch.autograd.Function):
    @staticmethod
    def forward(context, values):
        return values

    @staticmethod
    def backward(context, gradient):
        return gradient * float("nan")

class Net(nn.Module):
    def __init__(self, at, forward):
        super().__init__()
        self.first, self.last = nn.Linear(2, 4), nn.Linear(4, 3)
        self.at, self.wrong_forward, self.calls = at, forward, 0

    def forward(self, rows):
        hidden = self.first(rows)
        self.calls += self.training
        if self.training and self.calls == self.at:
            if self.wrong_forward:
                with torch.no_grad():
                    self.first.bias.fill_(float("nan"))
                hidden = self.first(rows)
            else:
                hidden = Root.apply(hidden)
        return self.last(hidden)
"""


def write_table(name: str, labels: int = 3, label: str = "label") -> None:
    Path(name).mkdir()
    for split in ("train", "test"):
        rows = [f"{index / 7:.3f},{index % 5},{index % labels}" for index in range(60)]
        _ = Path(name, f"{split}.csv").write_text("\n".join([f"x,y,{label}", *rows]) + "\n")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    write_table("table")
    write_table("range", labels=4)
    write_table("classes", label="kind")
    for split in ("train", "test"):
        for index in range(8):
            path = Path("images", split, "ab"[index % 2], f"{index}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8 + index // 7, 8)).save(path)
    _ = Path("mine.yaml").write_text(RECIPE)
    _ = Path("failing_nets.py").write_text(MODULE)
    _ = Path("list.yaml").write_text("- epochs")
    _ = Path("broken.yaml").write_text("name: [mine")
    Path("foreign").mkdir()
    _ = Path("foreign/thesis.tex").write_text("years of work")


REFUSED: dict[str, tuple[str, int, str]] = {
    "unknown key": ("--set epoch=3", 2, "unknown key 'epoch'; did you mean 'epochs'?"),
    "a key like no other": ("--set zzz=3", 2, "unknown key 'zzz'; known: name, data"),
    "no epochs": ("--set epochs=0", 2, "epochs must be at least 1, got 0"),
    "text for a number": ("--set epochs=many", 2, "epochs must be an integer, got 'many'"),
    "fraction": ("--set batch_size=2.5", 2, "batch_size must be an integer, got 2.5"),
    "NaN": ("--set learning_rate=.nan", 2, "learning_rate must be > 0 and finite, got nan"),
    "negative": ("--set weight_decay=-1", 2, "weight_decay must be >= 0 and finite, got -1"),
    "flag": ("--set compile=3", 2, "compile must be true or false, got 3"),
    "unknown word": ("--set optimizer=adan", 2, "optimizer must be one of adadelta, adagrad"),
    "odd parts": ("--set accumulate=3", 2, "accumulate must be a divisor of batch_size 10, got 3"),
    "falling drops": ("--set drops=[0.5,0.2]", 2, "drops must be rising shares in (0, 1)"),
    "half precision": ("--set precision=16-mixed", 2, "precision must be 32-true or bf16-mixed"),
    "no such device": ("--set device=abacus", 2, "device must be a device that torch knows"),
    "no such model": ("--set model=vgg12", 2, "model must be one of basicnet, conv"),
    "no own model": (
        "--set model=failing_nets:Nett --set hidden=[]",
        2,
        "model failing_nets:Nett: AttributeError",
    ),
    "no such data": ("--set data=mnits", 2, "data must be one of"),
    "no folder": ("--set data=./gone", 1, "no folder gone, which the recipe names as its data"),
    "no column": (
        "--set inputs=[x,z]",
        1,
        "split train: no column 'z', it has ['x', 'y', 'label']",
    ),
    "no labels": (
        "--set data=./classes",
        1,
        "no column 'label', it has ['x', 'y', 'kind']",
    ),
    "labels out of range": ("--set data=./range", 1, "labels must be in 0..2, got 0..3"),
    "columns of text": ("--set data=./range --set label=x", 1, "labels must be integers"),
    "another shape": ("--set shape=[5]", 1, "every example must have the shape [5], got [2]"),
    "different sizes": (
        f"--set data=./images {FOLDERS}",
        1,
        "got images of different sizes (8x8x3, 8x9x3)",
    ),
    "too large a batch": ("--set batch_size=1000", 1, "batch_size 1000 exceeds the 54 examples"),
    "a network for images": (
        "--set model=lenet5 --set hidden=[]",
        1,
        "lenet5 reads grey 28x28 images",
    ),
    "nothing to resume": ("--resume", 1, "no checkpoint to go on from; leave out resume"),
    "others' files": ("--out foreign", 1, "it holds other files (thesis.tex)"),
    "no line to record": ("--record foreign", 2, "--record foreign: foreign is in the way"),
    "no folder to log": ("--log mine.yaml", 1, "cannot log to mine.yaml"),
}


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str], code: int) -> str:
    """The one line on stderr."""
    _ = capsys.readouterr()
    assert main(["train", *arguments]) == code
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert shown.startswith("abscise: ")
    return shown


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_trained_is_refused_in_one_line_before_anything_is_written(
    case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, code, words = REFUSED[case]
    out = [] if "--out" in changes else ["--out", "run"]
    assert words in refused(["mine.yaml", *out, *changes.split()], capsys, code)
    assert not Path("run").exists()
    assert not Path("run.training").exists()
    assert [path.name for path in Path("foreign").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("list.yaml", "recipe list.yaml: must be a mapping of keys to values, got list"),
        ("broken.yaml", "recipe broken.yaml: not YAML"),
        ("gone.yaml", "cannot read the recipe gone.yaml: No such file"),
        ("digits-adam-l3", "did you mean digits-adam-l2?"),
    ],
)
def test_what_is_no_recipe_is_refused_in_one_line(
    recipe: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in refused([recipe], capsys, 2)


BROKEN: dict[str, tuple[str, str]] = {
    "a loss": ("true", "step 7: layer first has NaN or infinite values in its bias"),
    "a gradient": ("false", "step 7 made the weight of layer first NaN or infinite"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_run_that_becomes_nan_stops_names_the_layer_and_keeps_the_last_good_checkpoint(
    case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    forward, words = BROKEN[case]
    net = ("model=failing_nets:Net", "hidden=[]", f"model_args={{at: 7, forward: {forward}}}")
    arguments = ["mine.yaml", "--out", "run", "--checkpoint-every", "1"]
    arguments += [text for pair in net for text in ("--set", pair)]
    assert words in refused(arguments, capsys, 1)
    # What is resumed is step 6, all of it finite; the new process counts its calls anew.
    assert main(["train", *arguments, "--resume"]) == 0
    assert "resumed after step 6\n" in capsys.readouterr().out


def full_after(checkpoints: int) -> Callable[[int], None]:
    """`fsync` of a disk that has room for so many checkpoints."""
    left = [checkpoints]
    flush = os.fsync

    def fsync(descriptor: int) -> None:
        about = os.fstat(descriptor)
        large = stat.S_ISREG(about.st_mode) and about.st_size > 2000
        left[0] -= large
        if large and left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(descriptor)

    return fsync


def test_without_room_for_a_checkpoint_the_last_one_stays_and_is_resumed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["mine.yaml", "--out", "run", "--checkpoint-every", "1"]
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full_after(5))  # before step 1, then after 1 to 4
        shown = refused(arguments, capsys, 1)
    assert f"cannot write {CHECKPOINT}: No space left on device" in shown
    assert sorted(path.name for path in CHECKPOINT.parent.iterdir()) == [
        "checkpoint.safetensors",
        "epochs.jsonl",
        "lock",
        "units.jsonl",
    ]
    assert main(["train", *arguments, "--resume"]) == 0
    assert "resumed after step 4\n" in capsys.readouterr().out


def test_another_recipe_is_not_resumed_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["mine.yaml", "--out", "run", "--checkpoint-every", "1"]
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full_after(3))
        _ = refused(arguments, capsys, 1)
    before = CHECKPOINT.read_bytes()
    shown = refused([*arguments, "--set", "learning_rate=0.5", "--resume"], capsys, 1)
    assert "this run has learning_rate 0.001, the recipe given has 0.5: resume it with" in shown
    shown = refused(arguments, capsys, 1)
    assert "run.training holds an unfinished run (step 2 of 10): resume it" in shown
    assert CHECKPOINT.read_bytes() == before
    assert main(["train", *arguments, "--resume"]) == 0


def test_a_log_that_cannot_be_written_stops_the_run_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("lightning_fabric.Fabric.log_dict", full)
    shown = refused(["mine.yaml", "--log", "logs"], capsys, 1)
    assert "cannot log step 2: No space left on device" in shown
