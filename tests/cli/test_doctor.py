"""`abscise doctor`: a recipe, or a model of one's own; tables that fit 60 columns, and JSON."""

import json
from pathlib import Path

import pytest

from abscise.cli import main

NETS = """
import torch
from torch import nn


def relu():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def leaky():
    return nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(), nn.Linear(8, 3))


def bounded():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
"""
OWN = "doctor --model nets_for_doctor:relu --input 2x4"
ADAM = "--optimizer adam --learning-rate 1e-3 --weight-decay 1e-4"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "60")
    _ = (tmp_path / "nets_for_doctor.py").write_text(NETS)


def test_a_recipe_is_diagnosed_with_its_own_gradients_and_steps(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["doctor", "digits-adam-l2", "--probe", "2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Units can die: Adam, L2 in the gradient 0.0015")
    assert "4,056 steps" in " ".join(out.split())
    assert main(["doctor", "digits-adam-l2", "--probe", "2", "--control", "adamw"]) == 0
    assert capsys.readouterr().out.startswith("No unit will die in time: AdamW")


@pytest.mark.parametrize(
    "argv",
    [
        "doctor digits-adam-l2 --probe 1",
        "doctor digits-adam-l2 --probe 1 --control adamw",
        "doctor digits-adam-l2 --probe 0 --set optimizer=adagrad --steps 100000",
        f"{OWN} {ADAM}",
        f"{OWN} {ADAM} --steps 10000000 --gradient-rms 1e-3",
        f"{OWN} --optimizer nadam --learning-rate 1e-3",
    ],
)
def test_everything_fits_60_columns(argv: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv.split()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 5
    assert max(map(len, lines)) <= 60
    (head,) = (line for line in lines if line.startswith("group"))
    assert head.split() == ["group", "numbers", "size", "lam", "share", "steps", "noise"]


def test_a_model_of_ones_own_is_diagnosed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    told = "--steps 20000 --gradient-rms 1e-3 --batch-size 32 --format json"
    assert main([*OWN.split(), *ADAM.split(), *told.split()]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["format"], found["optimizer"], found["batch_size"]) == (2, "Adam", 32)
    assert found["outcome"] == "units can die within the run"
    assert [part["kind"] for part in found["parts"]] == ["weights", "biases"]
    assert 5000 < found["parts"][0]["steps"] < 10000


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_a_learning_rate_that_falls_leaves_less_time(
    schedule: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = "--steps 20000 --gradient-rms 1e-3 --format json"

    found = []
    for more in ((), ("--schedule", schedule)):
        assert main([*OWN.split(), *ADAM.split(), *told.split(), *more]) == 0
        found.append(json.loads(capsys.readouterr().out)["parts"][0])
    stays, falls = found
    assert stays["steps"] < falls["steps"]
    assert stays["silent_by"] > falls["silent_by"] > 0
    assert stays["lr"] == falls["lr"] == 1e-3


def test_a_warm_up_takes_time(capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for warmup in ("0", "1000", "8000"):
        told = f"--warmup {warmup} --steps 20000 --gradient-rms 1e-6 --format json"
        assert main([*OWN.split(), *ADAM.split(), *told.split()]) == 0
        found.append(json.loads(capsys.readouterr().out)["parts"][0]["steps"])
    assert found == sorted({*found})


def test_a_recipes_drops_count(capsys: pytest.CaptureFixture[str]) -> None:
    told = "doctor digits-adam-l2 --probe 0 --steps 4000 --gradient-rms 1e-2 --format json --set"
    found, end = {}, ", at the end "
    for drops in ("[]", "[0.1]"):
        assert main([*told.split(), f"drops={drops}"]) == 0
        found[drops] = json.loads(capsys.readouterr().out)
    stays, drops = found["[]"], found["[0.1]"]
    assert not any(end in line for line in stays["findings"])
    assert any(end in line for line in drops["findings"])
    assert stays["parts"][0]["steps"] < drops["parts"][0]["steps"]


def test_a_recipes_drops_that_cannot_count_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    for told, said in (("--probe 0", True), ("--probe 0 --set drops=[]", False)):
        assert main(["doctor", "digits-adam-l2", *told.split()]) == 0
        assert ("give --steps" in capsys.readouterr().out) is said


def test_options_of_the_optimizer_reach_it(capsys: pytest.CaptureFixture[str]) -> None:
    extra = "--option amsgrad=true --option eps=1e-5 --gradient-rms 1e-2 --steps 5000"
    assert main([*OWN.split(), *ADAM.split(), *extra.split(), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["outcome"] == "units die too slowly"
    assert found["parts"][0]["ceiling"] == pytest.approx(1e-3 * 1e-4 / 1e-5)
    assert "amsgrad=False" in found["more"]


def test_without_relu_no_unit_dies(capsys: pytest.CaptureFixture[str]) -> None:
    argv = f"doctor --model nets_for_doctor:bounded --input 2x4 {ADAM} --steps 100000"
    assert main(argv.split()) == 0
    assert capsys.readouterr().out.startswith("Units hardly die: tanh")


def test_behind_a_leaky_relu_units_may_die(capsys: pytest.CaptureFixture[str]) -> None:
    argv = f"doctor --model nets_for_doctor:leaky --input 2x4 {ADAM} --steps 100000"
    assert main(argv.split()) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert text.startswith("Units may die: Adam")
    assert "leakyrelu lets 0.01 of a gradient through" in text
    assert main([*argv.split(), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    leak = {"slope": 0.01, "name": "leakyrelu", "learned": False}
    assert found["network"]["leaks"] == [leak]


@pytest.mark.parametrize(
    ("argv", "words", "code"),
    [
        ("doctor", "name a recipe, or --model", 2),
        ("doctor nope", "no recipe 'nope'", 2),
        ("doctor digits-adam-l2 --optimizer adam", "belongs to a model of your own", 2),
        ("doctor digits-adam-l2 --model m:n", "belongs to a model of your own", 2),
        (f"{OWN} {ADAM} --set seed=1", "changes a recipe", 2),
        (OWN, "--optimizer must be one of adadelta", 2),
        (f"{OWN} --optimizer adamm", "got adamm", 2),
        (f"{OWN} --optimizer sgd --option betas=1", "SGD has no argument 'betas'", 2),
        (f"{OWN} --optimizer sgd --option momentum=-1", "SGD: Invalid momentum", 2),
        (f"{OWN} {ADAM} --steps 0", "steps", 2),
        (f"{OWN} {ADAM} --schedule cosine", "--schedule and --warmup need --steps", 2),
        (f"{OWN} {ADAM} --warmup 50 --steps 50", "more than 50 of warm-up", 2),
        ("doctor digits-adam-l2 --schedule cosine", "belongs to a model of your own", 2),
        (f"{OWN} {ADAM} --threshold 0", "threshold", 2),
        (f"{OWN.replace('2x4', '2x5')} {ADAM}", "does not run on the example inputs", 1),
        ("doctor digits-adam-l2 --set limit=10", "smaller than one batch", 1),
    ],
)
def test_what_cannot_be_diagnosed_is_one_line(
    argv: str, words: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv.split()) == code
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
