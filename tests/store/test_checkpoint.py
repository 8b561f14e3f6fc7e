"""Checkpoints: everybody's forms are read, no code in them runs, each failure is one line."""

import json
import os
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from typing_extensions import override

from abscise._errors import StoreError
from abscise.store import read_checkpoint


def state() -> dict[str, Tensor]:
    _ = torch.manual_seed(0)
    return dict(nn.Linear(3, 2).state_dict())


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


FORMS: dict[str, tuple[Any, str | None]] = {
    "plain": (state(), None),
    "ordered": (OrderedDict(state()), None),
    "under a key": ({"model": state(), "epoch": 3}, "model"),
    "DataParallel": ({f"module.{name}": value for name, value in state().items()}, None),
    "compiled": ({f"_orig_mod.{name}": value for name, value in state().items()}, None),
    "both": (
        {"state_dict": {f"module._orig_mod.{name}": value for name, value in state().items()}},
        "state_dict",
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_weights(tmp_path: Path, name: str) -> None:
    content, key = FORMS[name]
    torch.save(content, tmp_path / "model.pt")
    found, notes = read_checkpoint(tmp_path / "model.pt", key)
    assert same(found, state())
    prefixes = {"DataParallel": 1, "compiled": 1, "both": 2}.get(name, 0)
    assert len(notes) == prefixes
    assert all("removed from all 2 names" in note for note in notes)


def test_safetensors_are_read_and_their_prefix_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({f"module.{name}": value for name, value in state().items()}, path)
    found, notes = read_checkpoint(str(path))
    assert same(found, state())
    assert notes == ("prefix 'module.' removed from all 2 names",)


def test_a_prefix_that_not_all_names_have_stays(tmp_path: Path) -> None:
    content = {"module.a": torch.ones(1), "b": torch.ones(1)}
    torch.save(content, tmp_path / "model.pt")
    found, notes = read_checkpoint(tmp_path / "model.pt")
    assert same(found, content)
    assert notes == ()


class Payload:
    """What an attacker puts into a pickle: unpickling it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def _torch_bytes(content: Any, path: Path) -> bytes:
    torch.save(content, path)
    data = path.read_bytes()
    path.unlink()
    return data


def _safetensors(header: Any, body: bytes = b"\0" * 16) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def _entry(**changes: Any) -> dict[str, Any]:
    return {"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} | changes}


Make = Callable[[Path], bytes]

HOSTILE: dict[str, tuple[str, Make, str | None, str]] = {
    "empty": ("m.pt", lambda _: b"", None, "is truncated, or holds more"),
    "text": ("m.pt", lambda _: b"hello world", None, "is truncated, or holds more"),
    "truncated": ("m.pt", lambda t: _torch_bytes(state(), t)[:-200], None, "is truncated"),
    "half": ("m.pt", lambda t: _torch_bytes(state(), t)[:300], None, "is truncated"),
    "whole model": ("m.pt", lambda t: _torch_bytes(nn.Linear(1, 1), t), None, "could run code"),
    "payload": ("m.pt", lambda t: _torch_bytes(Payload(t / "ran"), t / "f"), None, "run code"),
    "payload inside": (
        "m.pt",
        lambda t: _torch_bytes({"model": state(), "x": Payload(t / "ran")}, t / "f"),
        "model",
        "could run code",
    ),
    "bare pickle": ("m.pkl", lambda t: pickle.dumps(Payload(t / "ran")), None, "is truncated"),
    "old pickle": (
        "m.bin",
        lambda t: pickle.dumps(Payload(t / "ran"), protocol=0),
        None,
        "is truncated",
    ),
    "list": ("m.pt", lambda t: _torch_bytes([1, 2], t), None, "holds a list, not a state dict"),
    "tensor": ("m.pt", lambda t: _torch_bytes(torch.ones(2), t), None, "holds a Tensor, not"),
    "no dict": ("m.pt", lambda t: _torch_bytes({}, t), None, "holds no state dict"),
    "nested": (
        "m.pt",
        lambda t: _torch_bytes({"model": state(), "ema": state(), "epoch": 3}, t),
        None,
        "give key, one of 'model', 'ema'",
    ),
    "wrong key": (
        "m.pt",
        lambda t: _torch_bytes({"model": state(), "epoch": 3}, t),
        "state",
        "has no key 'state'; it has 'model'",
    ),
    "key of a list": ("m.pt", lambda t: _torch_bytes([1], t), "a", "which has no key 'a'"),
    "mixed": (
        "m.pt",
        lambda t: _torch_bytes({**state(), "lr": 0.1}, t),
        None,
        "entry 'lr' is a float, a state dict holds tensors",
    ),
    "safetensors empty": ("m.safetensors", lambda _: b"", None, "is not a whole safetensors file"),
    "safetensors cut": (
        "m.safetensors",
        lambda _: safetensors.torch.save(state())[:-4],
        None,
        "is not a whole safetensors file",
    ),
    "safetensors cut head": (
        "m.safetensors",
        lambda _: safetensors.torch.save(state())[:20],
        None,
        "is not a whole safetensors file",
    ),
    "huge header": (
        "m.safetensors",
        lambda _: struct.pack("<Q", 2**62) + b"{}",
        None,
        "is not a whole safetensors file",
    ),
    "huge shape": (
        "m.safetensors",
        lambda _: _safetensors(_entry(shape=[2**62, 2**62])),
        None,
        "is not a whole safetensors file",
    ),
    "negative shape": (
        "m.safetensors",
        lambda _: _safetensors(_entry(shape=[-4])),
        None,
        "is not a whole safetensors file",
    ),
    "outside offsets": (
        "m.safetensors",
        lambda _: _safetensors(_entry(data_offsets=[0, 2**40])),
        None,
        "is not a whole safetensors file",
    ),
    "overlap": (
        "m.safetensors",
        lambda _: _safetensors(_entry() | {"v": _entry()["w"]}),
        None,
        "is not a whole safetensors file",
    ),
    "unknown dtype": (
        "m.safetensors",
        lambda _: _safetensors(_entry(dtype="PICKLE")),
        None,
        "is not a whole safetensors file",
    ),
    "pickle named safetensors": (
        "m.safetensors",
        lambda t: pickle.dumps(Payload(t / "ran")),
        None,
        "is not a whole safetensors file",
    ),
    "key for safetensors": (
        "m.safetensors",
        lambda _: safetensors.torch.save(state()),
        "model",
        "has no keys; omit it",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_line_and_runs_nothing(tmp_path: Path, name: str) -> None:
    file, make, key, message = HOSTILE[name]
    scratch = tmp_path / "scratch"
    if name.startswith(("payload", "bare", "old", "pickle")):
        scratch.mkdir()
    data = make(scratch)
    path = tmp_path / file
    _ = path.write_bytes(data)
    with pytest.raises(StoreError) as error:
        _ = read_checkpoint(path, key)
    assert str(path) in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (scratch / "ran").exists()


def test_the_payload_would_have_run(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


ALIASES: list[tuple[str, str]] = [
    ("[", "not valid JSON"),
    ("[1]", "names of tied weights must be an object"),
    ('{"b": 1}', "tied weight 'b' must be another name of a stored one"),
    ('{"b": "../../w"}', "tied weight 'b' must be"),
    ('{"w": "w"}', "tied weight 'w' must be"),
    ('{"b": "w", "b": "w"}', "a key appears twice"),
]


@pytest.mark.parametrize(("text", "message"), ALIASES)
def test_hostile_names_of_tied_weights_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "m.safetensors"
    safetensors.torch.save_file({"w": torch.ones(2)}, path, {"abscise.aliases": text})
    with pytest.raises(StoreError) as error:
        _ = read_checkpoint(path)
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["m.pt", "m.safetensors"])
def test_a_missing_file_or_a_folder_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match=f"{name} does not exist"):
        _ = read_checkpoint(tmp_path / name)
    (tmp_path / name).mkdir()
    with pytest.raises(StoreError, match=f"{name} is not a file"):
        _ = read_checkpoint(tmp_path / name)
