"""Save and load: the same outputs from the original class, and clear errors for everything else."""

import copy
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from typing_extensions import override

from abscise._certificate import Certificate
from abscise._errors import AbsciseError, PlanError, StoreError
from abscise.compaction import (
    Attribute,
    AxisEdit,
    Compaction,
    LayerSummary,
    Plan,
    Removal,
    fingerprint,
)
from abscise.store import _folder, load, read_certificate, read_plan, save, write_plan


class Net(nn.Module):
    """A hidden layer that can be cut, and a tied pair behind it."""

    def __init__(self, hidden: int = 5, *, tie: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3)
        self.one, self.two = nn.Linear(3, hidden), nn.Linear(hidden, 4)
        self.in_tie, self.out_tie = nn.Linear(4, 4), nn.Linear(4, 4)
        if tie:
            self.out_tie.weight = self.in_tie.weight

    @override
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.one(self.conv(x).mean((2, 3))).relu()
        return self.out_tie(self.in_tie(self.two(hidden)))


def plan_for(model: nn.Module) -> Plan:
    return Plan(
        fingerprint=fingerprint(model),
        inputs={},
        removals=(Removal(1, "one", 1, "unread"), Removal(3, "one", 3, "unread")),
        edits=(
            AxisEdit("one.weight", 0, 5, (1, 3)),
            AxisEdit("one.bias", 0, 5, (1, 3)),
            AxisEdit("two.weight", 1, 5, (1, 3)),
        ),
        grouped=(),
        folds=(),
        attributes=(Attribute("one", "out_features", 3), Attribute("two", "in_features", 3)),
        layers=(LayerSummary("one", 5, 2, 0, ()),),
        pinned={},
        units=5,
        pinned_units=0,
    )


def certificate() -> Certificate:
    return Certificate(
        passed=False,
        inconclusive=True,
        reason="why",
        dtype="float32",
        shapes=((1, 2, 5, 5),),
        inputs="given",
        versions={},
    )


def compaction(seed: int = 0) -> Compaction:
    _ = torch.manual_seed(seed)
    return Compaction(model=Net(3), plan=plan_for(Net()), certificate=certificate())


def images() -> Tensor:
    return torch.randn(4, 2, 5, 5, generator=torch.Generator().manual_seed(1))


def outputs(model: nn.Module) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(images())
    return found


def test_loading_gives_the_same_model_and_leaves_the_users_alone(tmp_path: Path) -> None:
    made = compaction()
    save(tmp_path / "saved", made)
    assert sorted(item.name for item in (tmp_path / "saved").iterdir()) == [
        "certificate.json",
        "model.safetensors",
        "plan.json",
    ]
    user = Net().train()
    state = copy.deepcopy(user.state_dict())
    loaded = load(str(tmp_path / "saved"), user)
    assert type(loaded) is Net
    assert torch.equal(outputs(loaded), outputs(made.model))
    assert all(torch.equal(value, state[name]) for name, value in user.state_dict().items())
    assert read_plan(tmp_path / "saved") == made.plan
    assert read_certificate(tmp_path / "saved") == certificate()


def test_a_tied_weight_is_stored_once_and_tied_again(tmp_path: Path) -> None:
    save(tmp_path / "saved", compaction())
    stored = safetensors.torch.load_file(tmp_path / "saved" / "model.safetensors")
    assert ("in_tie.weight" in stored) != ("out_tie.weight" in stored)
    for tie in (True, False):  # also where the user ties after building
        loaded = load(tmp_path / "saved", Net(tie=tie))
        assert isinstance(loaded, Net)
        assert loaded.in_tie.weight is loaded.out_tie.weight


def test_memory_layouts_and_views_are_saved_as_values(tmp_path: Path) -> None:
    made = compaction()
    assert isinstance(made.model, Net)
    _ = made.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    base = torch.randn(10, 4)
    with torch.no_grad():
        made.model.one.weight = nn.Parameter(base[:3, :3])
        made.model.two.weight = nn.Parameter(torch.randn(3, 4).t())
    save(tmp_path / "saved", made)
    loaded = load(tmp_path / "saved", Net()).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in made.model.state_dict().items())
    assert (tmp_path / "saved" / "model.safetensors").stat().st_size < 3000


def test_saving_again_replaces_the_whole_folder(tmp_path: Path) -> None:
    save(tmp_path / "saved", compaction(0))
    _ = (tmp_path / "saved" / "report.html").write_text("of the old model")
    bare, nothing = compaction(1), None  # type: tuple[Compaction, Any]
    save(tmp_path / "saved", Compaction(model=bare.model, plan=bare.plan, certificate=nothing))
    assert torch.equal(outputs(load(tmp_path / "saved", Net())), outputs(bare.model))
    assert not (tmp_path / "saved" / "report.html").exists()
    with pytest.raises(StoreError, match=r"certificate\.json does not exist"):
        _ = read_certificate(tmp_path / "saved")


def test_a_report_is_saved_beside_the_model_in_the_same_write(tmp_path: Path) -> None:
    save(tmp_path / "saved", compaction(0), files={"report.json": b"{}", "report.html": b"page"})
    assert (tmp_path / "saved" / "report.html").read_bytes() == b"page"
    assert torch.equal(outputs(load(tmp_path / "saved", Net())), outputs(compaction(0).model))
    save(tmp_path / "saved", compaction(1), files={"report.txt": b"text"})
    assert not (tmp_path / "saved" / "report.html").exists()
    assert (tmp_path / "saved" / "report.txt").read_bytes() == b"text"


@pytest.mark.parametrize("name", ["plan.json", "notes.txt", "../report.html", "model.safetensors"])
def test_a_file_that_does_not_belong_to_a_saved_model_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"got {re.escape(name)}"):
        save(tmp_path / "saved", compaction(0), files={name: b""})
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "saved", compaction(0))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left on device; nothing was changed"):
            save(tmp_path / "saved", compaction(1))
    assert torch.equal(outputs(load(tmp_path / "saved", Net())), outputs(compaction(0).model))


def test_a_model_with_state_that_is_no_tensor_writes_nothing(tmp_path: Path) -> None:
    class Extra(Net):
        @override
        def get_extra_state(self) -> object:
            return {"a": 1}

    with pytest.raises(StoreError, match="cannot be stored without pickle"):
        save(tmp_path / "saved", Compaction(Extra(3), plan_for(Net()), certificate()))
    assert list(tmp_path.iterdir()) == []


def test_a_plan_alone_is_written_and_read(tmp_path: Path) -> None:
    write_plan(tmp_path / "plan.json", plan_for(Net()))
    assert read_plan(tmp_path / "plan.json") == plan_for(Net())


def _plan_with(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def damage(folder: Path) -> object:
        found = json.loads((folder / "plan.json").read_text())
        _ = change(found)
        return (folder / "plan.json").write_text(json.dumps(found))

    return damage


def _weights_with(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        path = folder / "model.safetensors"
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        found = safetensors.torch.load(path.read_bytes())
        _ = change(found)
        safetensors.torch.save_file(found, path, metadata)

    return damage


def _folder_for_plan(folder: Path) -> None:
    (folder / "plan.json").unlink()
    (folder / "plan.json").mkdir()


def _cut(name: str, keep: int) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:keep])


DAMAGE: dict[str, tuple[Callable[[Path], object], type[AbsciseError], str]] = {
    "no plan": (lambda f: (f / "plan.json").unlink(), StoreError, "plan.json does not exist"),
    "no weights": (
        lambda f: (f / "model.safetensors").unlink(),
        StoreError,
        "model.safetensors does not exist",
    ),
    "plan cut": (_cut("plan.json", 100), StoreError, "plan.json: not valid JSON"),
    "plan empty": (_cut("plan.json", 0), StoreError, "plan.json: not valid JSON"),
    "weights cut": (_cut("model.safetensors", 400), StoreError, "is not a whole safetensors file"),
    "plan is a folder": (
        _folder_for_plan,
        StoreError,
        "plan.json is not a file",
    ),
    "future format": (
        _plan_with(lambda plan: plan.update(format=99)),
        PlanError,
        "format must be 2, got 99",
    ),
    "other architecture": (
        _plan_with(lambda plan: plan.update(fingerprint="0" * 64)),
        PlanError,
        "belongs to another architecture than Net",
    ),
    "index out of range": (
        _plan_with(lambda plan: plan["edits"][0].update(removed=[1, 5])),
        PlanError,
        "removed must be an integer from 0 to 4",
    ),
    "path for a name": (
        _plan_with(lambda plan: plan["edits"][0].update(name="../../etc/passwd")),
        AbsciseError,
        "",
    ),
    "missing parameter": (
        _plan_with(lambda plan: plan["edits"][0].update(name="nothing.weight")),
        AbsciseError,
        "",
    ),
    "wrong size": (
        _plan_with(lambda plan: plan["edits"][0].update(size=4)),
        AbsciseError,
        "",
    ),
    "axis that is not there": (
        _plan_with(lambda plan: plan["edits"][0].update(axis=5)),
        AbsciseError,
        "",
    ),
    "other removal": (
        _plan_with(lambda plan: plan["edits"][0].update(removed=[0])),
        AbsciseError,
        "",
    ),
    "module that is not there": (
        _plan_with(lambda plan: plan["attributes"][0].update(module="nothing")),
        AbsciseError,
        "",
    ),
    "NaN": (
        lambda f: (f / "plan.json").write_text('{"format": NaN}'),
        StoreError,
        "NaN is not JSON",
    ),
    "missing weight": (
        _weights_with(lambda state: state.pop("one.bias")),
        StoreError,
        "missing: one.bias",
    ),
    "unexpected weight": (
        _weights_with(lambda state: state.update(x=torch.ones(1))),
        StoreError,
        "unexpected: x",
    ),
    "dense weight": (
        _weights_with(lambda state: state.update({"one.bias": torch.ones(5)})),
        StoreError,
        "one.bias (5,), must be (3,)",
    ),
    "other dtype": (
        _weights_with(lambda state: state.update({"one.bias": torch.ones(3).double()})),
        StoreError,
        "one.bias is torch.float64, must be torch.float32",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_folder_is_one_line(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "saved"
    save(folder, compaction())
    damage, error, message = DAMAGE[name]
    _ = damage(folder)
    user = Net()
    state = copy.deepcopy(user.state_dict())
    with pytest.raises(error) as found:
        _ = load(folder, user)
    assert message in str(found.value)
    assert "\n" not in str(found.value)
    assert all(torch.equal(value, state[key]) for key, value in user.state_dict().items())


def test_another_class_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "saved", compaction())
    with pytest.raises(PlanError, match="belongs to another architecture than Linear"):
        _ = load(tmp_path / "saved", nn.Linear(2, 2))
    with pytest.raises(PlanError, match="belongs to another architecture than Net"):
        _ = load(tmp_path / "saved", Net().double())


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist: give the folder of a saved model"):
        _ = load(tmp_path / "nothing", Net())
    _ = (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="is not a folder"):
        _ = load(tmp_path / "file", Net())


def test_a_damaged_certificate_is_refused_when_it_is_read(tmp_path: Path) -> None:
    save(tmp_path / "saved", compaction())
    _ = (tmp_path / "saved" / "certificate.json").write_text("{}")
    assert isinstance(load(tmp_path / "saved", Net()), Net)
    with pytest.raises(StoreError, match="certificate: missing fields"):
        _ = read_certificate(tmp_path / "saved")


def test_a_plan_that_breaks_the_edit_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "saved", compaction())

    def fail(*_: object) -> nn.Module:
        message = "first line\nsecond line"
        raise IndexError(message)

    monkeypatch.setattr(_folder, "restructure", fail)
    with pytest.raises(PlanError, match=r"does not fit Net: first line$"):
        _ = load(tmp_path / "saved", Net())


def test_json_that_is_too_large_or_cannot_be_read_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "saved", compaction())

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        with pytest.raises(StoreError, match=r"cannot read .*plan\.json: Permission denied"):
            _ = load(tmp_path / "saved", Net())
    monkeypatch.setattr(_folder, "_MAX_JSON_BYTES", 10)
    with pytest.raises(StoreError, match="larger than 10 bytes"):
        _ = load(tmp_path / "saved", Net())
