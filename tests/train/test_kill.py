"""SIGKILL at any moment, training or writing, costs at most the steps since the checkpoint."""

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from abscise.train import Trained
from support.killing import RECIPE, STAGES, run

STEPS = 20
TESTS = Path(__file__).resolve().parent.parent


@contextmanager
def child(folder: Path, *how: str) -> Iterator["subprocess.Popen[str]"]:
    """The run in another process; it does not outlive the test."""
    path = f"import sys; sys.path[:0] = {[str(TESTS), str(TESTS.parent / 'src')]!r}; "
    code = path + "from support.killing import main; main(*sys.argv[1:])"
    command = [sys.executable, "-c", code, str(folder), *how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return run(tmp_path_factory.mktemp("whole"), resume=False)


def assert_resumes(folder: Path, at_least: int, whole: Trained) -> None:
    result = run(folder, resume=True)
    assert at_least <= result.resumed_at <= at_least + 1
    assert result.history == whole.history
    for name, value in result.model.state_dict().items():
        assert torch.equal(value, whole.model.state_dict()[name])
    assert len((folder / "epochs.jsonl").read_text().splitlines()) == RECIPE.epochs
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("stage", STAGES)
def test_a_process_killed_while_it_writes_a_checkpoint_leaves_a_good_one(
    stage: str, whole: Trained, tmp_path: Path
) -> None:
    count = random.Random(stage).randint(2, STEPS)
    with child(tmp_path, stage, str(count), "start") as process:
        _ = process.communicate(timeout=300)
        assert process.returncode == -9
    # The first checkpoint is that of step 0; the file of a killed writing is not the checkpoint.
    assert_resumes(tmp_path, count - 2 + (stage == "renamed"), whole)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_process_killed_at_a_random_moment_is_resumed_exactly(
    seed: int, whole: Trained, tmp_path: Path
) -> None:
    chosen = random.Random(seed).randint(1, STEPS // 2)
    with child(tmp_path, "none", "0", "start") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == f"step {chosen}\n":
                process.kill()
                break
        done = [int(rest.split()[1]) for rest in process.stdout if rest.endswith("\n")]
        assert process.wait(timeout=300) in {-9, 0}  # 0: it was done before the signal came
    result = run(tmp_path, resume=True)
    # The line comes before the checkpoint of its step, and more steps may follow before the kill.
    assert chosen - 1 <= result.resumed_at <= max([chosen, *done])
    assert result.history == whole.history
    for name, value in result.model.state_dict().items():
        assert torch.equal(value, whole.model.state_dict()[name])
