"""Ctrl-C through the real command: it says how to go on, and going on gives the same model."""

import contextlib
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from abscise._errors import StoreError
from abscise.cli import main
from abscise.cli._options import TrainOptions
from abscise.cli._run_folder import resuming
from abscise.train._lock import only_process_in

STEPS = 36
SOURCE = Path(__file__).parents[2] / "src"
MODULE = """
import os, signal
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))
        self.calls = 0

    def forward(self, images):
        if self.training:
            self.calls += 1
            if self.calls == int(os.environ.get("STOP_AT", "0")):
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


RUN = "import sys; from abscise.cli import main; sys.exit(main(sys.argv[1:]))"


def command(
    arguments: list[str], code: str = RUN, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """`abscise` in a process of its own, in the current folder."""
    path = f"import sys; sys.path.insert(0, {str(SOURCE)!r})\n"
    whole = [sys.executable, "-c", path + code, *arguments]
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


def test_a_finished_run_is_not_resumed_but_may_be_made_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "my recipe.yaml", "--set", "epochs=1", "--out", "done"]
    assert main(arguments) == 0
    assert main([*arguments, "--resume"]) == 2
    assert "the run is finished, and its model is in done\n" in capsys.readouterr().err
    model = folder / "done" / "model.safetensors"
    before = {name: value.numpy().tobytes() for name, value in load_file(model).items()}
    assert main(arguments) == 0
    assert {name: value.numpy().tobytes() for name, value in load_file(model).items()} == before


@pytest.mark.parametrize("change", ["seed=1", "batch_size=100000", "model=interrupted_net:Gone"])
def test_no_other_run_destroys_a_finished_one(
    change: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor its mark, without which it would count as not saved."""
    arguments = ["train", "my recipe.yaml", "--set", "epochs=1", "--out", "done"]
    assert main(arguments) == 0
    held = contents(folder)
    _ = capsys.readouterr()
    assert main([*arguments, "--set", change]) in {1, 2}
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert "--resume" not in shown.out  # nothing was begun that could be gone on with
    assert contents(folder) == held


def contents(folder: Path) -> dict[str, bytes]:
    found = [*(folder / "done").iterdir(), *(folder / "done.training").iterdir()]
    return {str(path): path.read_bytes() for path in found}


def test_a_command_that_never_began_tells_nobody_to_resume(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Although the process that trains in the folder writes on."""
    arguments = ["train", "my recipe.yaml", "--set", "epochs=1", "--out", "done"]
    assert main(arguments) == 0
    _ = capsys.readouterr()
    with only_process_in(folder / "done.training"):
        assert main(arguments) == 1
    shown = capsys.readouterr()
    assert "done.training: another process trains in it" in shown.err
    assert "go on with" not in shown.out


@pytest.mark.parametrize("kind", [KeyboardInterrupt, StoreError("no room"), RuntimeError("bug")])
def test_a_run_that_was_stopped_after_its_training_is_resumed_to_its_model(
    kind: BaseException | type[BaseException],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also where OUT still holds the model of an earlier run."""
    arguments = ["train", "my recipe.yaml", "--set", "epochs=1", "--out", "done"]
    assert main(arguments) == 0
    model = folder / "done" / "model.safetensors"
    first = model.read_bytes()

    def stop(*_: object) -> None:
        raise kind

    again = ["train", "my recipe.yaml", *["--set", "epochs=1", "--set", "seed=1", "--out", "done"]]
    shutil.rmtree(folder / "done.training")
    with monkeypatch.context() as patched:
        patched.setattr("abscise.cli._train.keep", stop)
        with contextlib.suppress(RuntimeError):
            assert main(again) in {1, 130}
    assert model.read_bytes() == first
    hint = capsys.readouterr().out.splitlines()[-1]
    assert shlex.split(hint) == ["abscise", *again, "--resume"]
    checkpoint = folder / "done.training" / "checkpoint.safetensors"
    trained = checkpoint.read_bytes()
    assert main(again) == 1
    assert "holds a trained run whose model is not saved: resume it" in capsys.readouterr().err
    assert checkpoint.read_bytes() == trained
    assert main([*again, "--resume"]) == 0
    assert "resumed after step 12\n" in capsys.readouterr().out
    assert model.read_bytes() != first


def test_a_run_that_could_not_be_recorded_is_recorded_on_resume(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["train", "my recipe.yaml", "--set", "epochs=1", "--out", "done"]
    arguments += ["--record", "runs.jsonl"]

    def full(*_: object) -> None:
        message = "no room"
        raise StoreError(message)

    with monkeypatch.context() as patched:
        patched.setattr("abscise.cli._train.record_run", full)
        assert main(arguments) == 1
    assert (folder / "done" / "plan.json").exists()
    assert main([*arguments, "--resume"]) == 0
    assert len((folder / "runs.jsonl").read_text().splitlines()) == 1


def test_the_demo_refuses_a_folder_with_files_of_others_before_it_trains(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("abscise.cli._train.fit", pytest.fail)
    assert main(["demo", "--out", str(folder)]) == 1
    assert "it holds other files" in capsys.readouterr().err
    assert main(["demo", "--out", "/"]) == 2
    assert "name a folder in it" in capsys.readouterr().err


# The reader of the output goes away when the first look at the training is to be printed.
UNREAD = """
import os, sys
from abscise.cli import _train, main

read, write = os.pipe()
os.close(read)
show = _train.TrainingView.show

def unread(view, progress):
    os.dup2(write, 1)
    show(view, progress)

_train.TrainingView.show = unread
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.usefixtures("folder")
def test_a_reader_that_goes_away_stops_the_run_with_its_last_step_kept() -> None:
    arguments = ["train", "my recipe.yaml", "--out", "piped"]
    stopped = command(arguments, code=UNREAD)
    assert stopped.returncode == 1
    assert stopped.stderr == "abscise: whoever read the output has closed it: stopped\n"
    resumed = command([*arguments, "--resume"])
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed after step 5\n" in resumed.stdout


@pytest.mark.usefixtures("folder")
def test_an_output_that_knows_no_box_drawing_gets_something_else() -> None:
    arguments = ["train", "my recipe.yaml", "--set", "epochs=1", "--out", "plain"]
    trained = command(arguments, PYTHONIOENCODING="ascii")
    assert (trained.returncode, trained.stderr) == (0, "")
    shown = command(["report", "plain", "--format", "text"], PYTHONIOENCODING="ascii")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.isascii()


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
