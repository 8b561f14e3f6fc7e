"""The commands do the whole job on a model and a checkpoint of the user's own."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from abscise.cli import main

NET = ["--model", "own_net:Net", "--model-args", '{"width": 12}', "--input", "32x4"]

MODEL = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden = nn.Linear(4, width)
        self.out = nn.Linear(width, 3)

    def forward(self, x):
        return self.out(torch.relu(self.hidden(x)))
"""


def weights(small: float) -> dict[str, torch.Tensor]:
    """Units 0..4 of `hidden`: incoming row and bias `small`."""
    generator = torch.Generator().manual_seed(1)
    state = {
        "hidden.weight": torch.randn(12, 4, generator=generator),
        "hidden.bias": torch.randn(12, generator=generator),
        "out.weight": torch.randn(3, 12, generator=generator),
        "out.bias": torch.randn(3, generator=generator),
    }
    for name in ("hidden.weight", "hidden.bias"):
        state[name][:5] = small
    return state


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a model's code and a dead and a nearly dead checkpoint."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    _ = (tmp_path / "own_net.py").write_text(MODEL)
    save_file(weights(0.0), tmp_path / "dead.safetensors")
    save_file(weights(1e-5), tmp_path / "near.safetensors")
    prefixed = {f"module.{name}": tensor for name, tensor in weights(0.0).items()}
    torch.save({"model": prefixed}, tmp_path / "dead.pt")
    return tmp_path


def units_removed(printed: str) -> int:
    (total,) = re.findall(r"^total +[\d,]+ +([\d,]+)", printed, re.MULTILINE)
    return int(total)


def test_a_compacted_checkpoint_is_saved_verified_and_measured(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dead = ["--checkpoint", "dead.safetensors"]
    assert main(["compact", *NET, *dead, "--out", "small"]) == 0
    printed = capsys.readouterr().out
    assert units_removed(printed) == 5
    assert "certificate: PASSED" in printed
    assert {"plan.json", "model.safetensors", "certificate.json"} <= {
        path.name for path in (folder / "small").iterdir()
    }

    assert main(["verify", "small", *NET, *dead]) == 0
    assert "certificate: PASSED" in capsys.readouterr().out

    assert main(["measure", *NET, "--checkpoint", "small"]) == 0
    assert re.search(rf"parameters +{7 * 5 + 3 * 8}\b", capsys.readouterr().out)


def test_sparse_saves_zeros_that_form_no_units_in_few_bytes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = ["--model", "own_net:Net", "--model-args", '{"width": 400}', "--input", "32x4"]
    state = {"hidden.weight": torch.ones(400, 4), "hidden.bias": torch.ones(400)}
    state["out.weight"], state["out.bias"] = torch.zeros(3, 400), torch.zeros(3)
    state["out.weight"][torch.arange(400) % 3, torch.arange(400)] = 1.0  # each unit is read once
    save_file(state, folder / "thin.safetensors")
    sizes = {}
    for name, more in (("plain", []), ("sparse", ["--sparse"])):
        argv = ["compact", *wide, "--checkpoint", "thin.safetensors", "--out", name, *more]
        assert main(argv) == 0
        printed = capsys.readouterr().out
        (shown,) = re.findall(rf"saved to {name}: ([\d,]+) bytes of weights", printed)
        row = re.search(r"^bytes on disk +([\d,]+) +([\d,]+)", printed, re.MULTILINE)
        assert row is not None
        dense, compacted = row.groups()
        sizes[name] = (folder / name / "model.safetensors").stat().st_size
        assert int(shown.replace(",", "")) == int(compacted.replace(",", "")) == sizes[name]
        assert int(dense.replace(",", "")) >= sizes["plain"]
        assert main(["verify", name, *wide, "--checkpoint", "thin.safetensors"]) == 0
        assert main(["measure", *wide, "--checkpoint", name]) == 0
        assert f"{sizes[name]:,}" in capsys.readouterr().out
        assert main(["report", name, "--format", "text"]) == 0
        assert f"{sizes[name]:,}" in capsys.readouterr().out
    assert sizes["sparse"] < 0.4 * sizes["plain"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("more", [[], ["--plan-only", "--out", "plan.json"]])
def test_sparse_without_a_folder_is_a_mistake_of_use(
    more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["compact", *NET, "--checkpoint", "dead.safetensors", "--sparse", *more]
    assert main(argv) == 2
    assert "--sparse says how the compacted model is saved" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_verify_of_another_checkpoint_is_not_equal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compact", *NET, "--checkpoint", "dead.safetensors", "--out", "small"]) == 0
    other = {name: tensor + 0.1 for name, tensor in weights(0.0).items()}
    save_file(other, "other.safetensors")
    assert main(["verify", "small", *NET, "--checkpoint", "other.safetensors"]) == 1
    assert "NOT EQUAL" in capsys.readouterr().out


@pytest.mark.usefixtures("folder")
def test_snap_makes_nearly_dead_units_removable(capsys: pytest.CaptureFixture[str]) -> None:
    near = ["--checkpoint", "near.safetensors"]
    assert main(["compact", *NET, *near]) == 0
    printed = capsys.readouterr().out
    assert units_removed(printed) == 0
    assert "5 more are nearly dead" in printed
    assert main(["compact", *NET, *near, "--snap", "1e-3", "--out", "small"]) == 0
    assert units_removed(capsys.readouterr().out) == 5
    assert main(["verify", "small", *NET, *near, "--snap", "1e-3"]) == 0


@pytest.mark.usefixtures("folder")
def test_the_prefix_of_data_parallel_is_removed_and_said_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["compact", *NET, "--checkpoint", "dead.pt", "--key", "model"]) == 0
    printed = capsys.readouterr().out
    assert "module." in printed
    assert units_removed(printed) == 5


def test_a_plan_is_written_and_applied_later(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dead = ["--checkpoint", "dead.safetensors"]
    assert main(["compact", *NET, *dead, "--plan-only", "--out", "my-plan.json"]) == 0
    assert len(json.loads((folder / "my-plan.json").read_text())["removals"]) == 5
    assert not list(folder.glob("**/model.safetensors"))
    _ = capsys.readouterr()
    assert main(["compact", *NET, *dead, "--plan", "my-plan.json", "--out", "small"]) == 0
    assert units_removed(capsys.readouterr().out) == 5


@pytest.mark.usefixtures("folder")
def test_a_plan_that_would_cut_live_units_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    dead, near = (["--checkpoint", f"{name}.safetensors"] for name in ("dead", "near"))
    assert main(["compact", *NET, *dead, "--plan-only", "--out", "my-plan.json"]) == 0
    _ = capsys.readouterr()
    assert main(["compact", *NET, *near, "--plan", "my-plan.json", "--out", "small"]) == 1
    assert "hidden" in capsys.readouterr().err
    assert not Path("small").exists()


@pytest.mark.usefixtures("folder")
def test_keep_leaves_a_layer_alone(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["compact", *NET, "--checkpoint", "dead.safetensors", "--keep", "hidden*"]
    assert main(argv) == 0
    assert units_removed(capsys.readouterr().out) == 0


@pytest.mark.usefixtures("folder")
def test_inspect_counts_the_dead_units_of_each_layer(capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"0": torch.randn(64, 4)}, "data.safetensors")
    argv = ["inspect", *NET, "--checkpoint", "dead.safetensors", "--data", "data.safetensors"]
    assert main(argv) == 0
    printed = capsys.readouterr().out
    can_go, evidence = re.findall(r"^hidden(?: \*)? +(.*\d)$", printed, re.MULTILINE)
    assert can_go.split()[:2] == ["12", "5"]
    assert evidence.split()[0] == "5"
    assert f"5 units can go now, each counted once, and {5 * (4 + 1 + 3)} of" in printed


@pytest.mark.usefixtures("folder")
def test_explain_says_why_a_unit_stays_or_goes(capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--model-args", '{"width": 12}', "--input", "32x4"]
    argv = ["explain", "own_net:Net", "hidden", "7", *common, "--checkpoint", "dead.safetensors"]
    assert main(argv) == 0
    assert "out.weight" in capsys.readouterr().out
    argv[2:4] = ["out", "0"]
    assert main(argv) == 0
    assert "output" in capsys.readouterr().out


@pytest.mark.usefixtures("folder")
def test_what_is_not_proven_is_not_saved(capsys: pytest.CaptureFixture[str]) -> None:
    blind = weights(0.0)
    blind["out.weight"].zero_()  # the same output for every input: no error could be seen
    save_file(blind, "blind.safetensors")
    assert main(["compact", *NET, "--checkpoint", "blind.safetensors", "--out", "small"]) == 1
    assert "INCONCLUSIVE" in capsys.readouterr().out
    assert not Path("small").exists()


@pytest.mark.parametrize("name", ["0", "x"])
@pytest.mark.usefixtures("folder")
def test_inputs_of_a_file_are_positional_by_number_and_keywords_by_name(name: str) -> None:
    save_file({name: torch.randn(8, 4)}, "inputs.safetensors")
    assert main(["measure", *NET[:4], "--inputs", "inputs.safetensors"]) == 0


@pytest.mark.parametrize(
    ("name", "file", "code", "words"),
    [
        ("1", "inputs.safetensors", 2, "without gaps"),
        ("y", "inputs.safetensors", 1, "y"),
        ("0", "inputs.npz", 2, "must be a .safetensors file"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_a_file_that_does_not_fit_forward_is_refused(
    name: str, file: str, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file({name: torch.randn(8, 4)}, file)
    assert main(["measure", *NET[:4], "--inputs", file]) == code
    assert words in capsys.readouterr().err
