"""Ctrl-C through the real command: it says how to go on, and going on gives the same model."""

import json
import os
import random
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from abscise.cli import main
from abscise.cli._options import TrainOptions
from abscise.cli._run_folder import resuming

STEPS = 36
SOURCE = Path(__file__).parents[2] / "src"
MODULE = """
import os, signal
from torch import nn

class Net(nn.Sequential):
    calls = 0

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))

    def forward(self, images):
        if self.training:
            Net.calls += 1
            if Net.calls == int(os.environ.get("STOP_AT", "0")):
                os.kill(os.getpid(), signal.Signals[os.environ["STOP_BY"]])
        return super().forward(images)
"""
RECIPE = """
name: mine
data: digits
model: interrupted_net:Net
weight_decay: 0.01
epochs: 3
batch_size: 100  # 12 steps per epoch
report_every: 5
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    _ = (tmp_path / "interrupted_net.py").write_text(MODULE)
    _ = (tmp_path / "my recipe.yaml").write_text(RECIPE)
    return tmp_path


def command(arguments: list[str], **environment: str) -> "subprocess.CompletedProcess[str]":
    """`abscise` in a process of its own, in the current folder."""
    code = f"import sys; sys.path.insert(0, {str(SOURCE)!r}); from abscise.cli import main; "
    whole = [sys.executable, "-c", code + "sys.exit(main(sys.argv[1:]))", *arguments]
    environ = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(
        whole, env=environ, capture_output=True, text=True, check=False, timeout=300
    )


def epochs(out: str) -> list[dict[str, Any]]:
    lines = Path(f"{out}.training/epochs.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "wall_s"} for line in lines]


@pytest.mark.parametrize(
    "kind", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_an_interrupted_command_prints_the_one_that_goes_on_to_the_same_model(
    kind: signal.Signals, folder: Path
) -> None:
    arguments = ["train", "my recipe.yaml", "--set", "seed=7", "--out"]
    step = random.Random(kind.name).randint(1, STEPS - 1)
    stopped = command([*arguments, "cut"], STOP_AT=str(step), STOP_BY=kind.name)
    assert stopped.returncode == 130
    assert stopped.stderr == "abscise: interrupted\n"
    assert f"stopped at step {step} of {STEPS}" in stopped.stdout
    assert not (folder / "cut").exists()
    name, *rest = shlex.split(stopped.stdout.splitlines()[-1])
    assert name == "abscise"
    resumed = command(rest)
    assert resumed.returncode == 0, resumed.stderr
    assert f"resumed after step {step}\n" in resumed.stdout
    whole = command([*arguments, "whole"])
    assert whole.returncode == 0, whole.stderr
    assert (folder / "cut/plan.json").read_bytes() == (folder / "whole/plan.json").read_bytes()
    one, two = (load_file(folder / out / "model.safetensors") for out in ("cut", "whole"))
    assert {k: v.numpy().tobytes() for k, v in one.items()} == {
        k: v.numpy().tobytes() for k, v in two.items()
    }
    assert epochs("cut") == epochs("whole")
    assert len(epochs("cut")) == 3


def test_a_finished_run_is_not_resumed_but_may_be_started_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "my recipe.yaml", "--set", "epochs=1", "--out", "done"]
    assert main(arguments) == 0
    assert main([*arguments, "--resume"]) == 2
    assert "the run is finished, and its model is in done\n" in capsys.readouterr().err
    before = (folder / "done" / "model.safetensors").read_bytes()
    assert main([*arguments, "--set", "seed=1"]) == 0
    assert (folder / "done" / "model.safetensors").read_bytes() != before


def test_a_run_that_was_stopped_after_its_training_is_resumed_to_its_model(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where OUT still holds the model of an earlier run."""
    arguments = ["train", "my recipe.yaml", "--set", "epochs=1", "--out", "done"]
    assert main(arguments) == 0
    model = folder / "done" / "model.safetensors"
    first = model.read_bytes()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    again = [*arguments, "--set", "seed=1"]
    with monkeypatch.context() as patched:
        patched.setattr("abscise.cli._train.keep", stop)
        assert main(again) == 130
    assert model.read_bytes() == first
    assert main([*again, "--resume"]) == 0
    assert "resumed after step 12\n" in capsys.readouterr().out
    assert model.read_bytes() != first


def test_the_command_that_goes_on_repeats_every_option() -> None:
    options = TrainOptions(
        recipe="my recipe.yaml",
        control="adamw",
        set=("seed=1", "drops=[0.5, 0.75]"),
        out=Path("a b"),
        checkpoint_every=20,
        log=Path("logs"),
        record=Path("r.jsonl"),
        data_root=Path("data"),
    )
    assert resuming(options) == (
        "abscise train 'my recipe.yaml' --control adamw --set seed=1 --set 'drops=[0.5, 0.75]' "
        "--out 'a b' --checkpoint-every 20 --log logs --record r.jsonl --data-root data --resume"
    )


@pytest.mark.parametrize("option", ["--resume", "--checkpoint-every 3"])
def test_what_needs_the_folder_of_a_run_says_so(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "digits-adam-l2", *option.split()]) == 2
    assert f"{option.split(maxsplit=1)[0]} needs --out" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_the_log_holds_the_figures_of_every_report_as_csv_and_for_tensorboard(
    folder: Path,
) -> None:
    arguments = ["train", "my recipe.yaml", "--set", "epochs=1", "--log", "logs"]
    assert main(arguments) == 0
    (table,) = (folder / "logs").glob("mine/*/metrics.csv")
    header, *rows = table.read_text().splitlines()
    assert set(header.split(",")) == {"accuracy", "dying", "learning_rate", "loss", "step"}
    where = header.split(",").index("step")
    assert [row.split(",")[where] for row in rows] == ["5", "10", "12"]
    assert len(list(table.parent.glob("events.out.tfevents.*"))) == 1
