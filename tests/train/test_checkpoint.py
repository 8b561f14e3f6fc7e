"""Checkpoints: every value comes back as it was, and no file that is none is taken for one."""

import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from abscise._errors import StoreError
from abscise.train._checkpoint import FILE, Checkpoint, read_checkpoint, write_checkpoint
from abscise.train._packing import pack, unpack
from support.checkpoints import read_inside, write_inside

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool]
TENSORS = st.builds(
    lambda sizes, dtype: torch.arange(math.prod(sizes)).reshape(sizes).to(dtype),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from(DTYPES),
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats()
    | st.text(st.characters(codec="utf-8"), max_size=8)
    | TENSORS
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=4) | st.integers() | st.none(), inner, max_size=3)
    ),
    max_leaves=12,
)


def same(one: Any, two: Any) -> bool:
    """Equal in type, order and every bit."""
    equal = bool(type(one) is type(two))
    if isinstance(one, Tensor):
        return equal and one.dtype == two.dtype and torch.equal(one, two)
    if isinstance(one, dict):
        return equal and same(list(one), list(two)) and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return equal and len(one) == len(two) and all(map(same, one, two))
    return equal and (one.hex() == two.hex() if isinstance(one, float) else bool(one == two))


@given(VALUES)
def test_every_value_comes_back_from_json_as_it_was(value: Any) -> None:
    tensors: dict[str, Tensor] = {}
    text = json.dumps(pack(value, tensors, "state"), allow_nan=False)
    assert same(unpack(json.loads(text), tensors), value)


def test_packed_tensors_are_copies() -> None:
    tensors: dict[str, Tensor] = {}
    weight = torch.ones(2)
    packed = pack({"weight": weight}, tensors, "state")
    _ = weight.zero_()
    assert same(unpack(packed, tensors), {"weight": torch.ones(2)})


@pytest.mark.parametrize("value", [object(), {1.5: 0}, {"a": {2j}}, torch.ones(2).to_sparse()])
def test_what_only_a_pickle_could_hold_is_refused(value: object) -> None:
    with pytest.raises(StoreError, match="state"):
        _ = pack({"a": value}, {}, "state")


def deep(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


UNWRITABLE: dict[str, tuple[object, str]] = {
    "too deep": (deep(60), "nested more than 50 deep"),
    "far too deep": (deep(5000), "nested more than 50 deep"),
    "huge": (10**5000, "an integer of more than 10000 bits"),
    "meta": (torch.ones(2, device="meta"), r"a tensor without values \(lazy, or on meta\)"),
    "lazy": (nn.LazyLinear(3).weight, r"a tensor without values \(lazy, or on meta\)"),
    "no text": ({"\ud800": torch.ones(1)}, "safetensors does not take the state"),
}


@pytest.mark.parametrize("case", UNWRITABLE)
def test_what_could_not_be_read_again_is_not_written(case: str, tmp_path: Path) -> None:
    value, text = UNWRITABLE[case]
    state = {"attachment": value}
    with pytest.raises(StoreError, match=text) as refused:
        write_checkpoint(tmp_path, Checkpoint({}, "data", {}, state))
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_what_is_as_deep_as_may_be_is_read_again(tmp_path: Path) -> None:
    state = {"attachment": deep(49)}
    write_checkpoint(tmp_path, Checkpoint({}, "data", {}, state))
    found = read_checkpoint(tmp_path)
    assert found is not None
    assert found.state == state


def test_the_json_may_be_larger_than_the_header_of_safetensors_allows(tmp_path: Path) -> None:
    state = {"text": "x" * 120_000_000}  # the limit is 100 MB
    write_checkpoint(tmp_path, Checkpoint({}, "data", {}, state))
    found = read_checkpoint(tmp_path)
    assert found is not None
    assert found.state == state


def checkpoint() -> Checkpoint:
    return Checkpoint({"seed": 1}, "data", {"step": 3}, {"model": {"w": torch.ones(3)}})


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, checkpoint())
    found = read_checkpoint(tmp_path)
    assert found is not None
    assert (found.recipe, found.data, found.course) == ({"seed": 1}, "data", {"step": 3})
    assert same(found.state, {"model": {"w": torch.ones(3)}})


def test_where_there_is_none_there_is_none(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path) is None
    assert read_checkpoint(tmp_path / "gone") is None


def test_half_a_file_beside_the_checkpoint_is_removed(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, checkpoint())
    half = tmp_path / f".{FILE}.0123.tmp"
    _ = half.write_bytes(b"half")
    assert read_checkpoint(tmp_path) is not None
    assert not half.exists()


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        held, tensors = read_inside(path)
        change(held)
        write_inside(path, held, tensors)

    return edit


def nested(held: dict[str, Any]) -> None:
    value: Any = None
    for _ in range(100):
        value = [value]
    held["state"] = value


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-4]), "truncated or was edited"),
    "empty": (lambda path: path.write_bytes(b""), "truncated or was edited"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "truncated or was edited"),
    "a model": (lambda path: safetensors.torch.save_file({}, path), "no JSON in it"),
    "format": (edited(lambda held: held.update(format=2)), "format must be an integer from 1 to 1"),
    "field": (edited(lambda held: held.pop("course")), r"missing fields \['course'\]"),
    "kind": (edited(lambda held: held.update(state={"call": "x"})), "an entry of no known kind"),
    "tensor": (edited(lambda held: held.update(state={"tensor": "x"})), "no known kind"),
    "list": (edited(lambda held: held.update(state=[1])), "state must be a dictionary"),
    "pairs": (edited(lambda held: held.update(state={"dict": [1]})), "a dictionary that is none"),
    "depth": (edited(nested), "nested too deeply"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, checkpoint())
    spoil, text = BROKEN[case]
    _ = spoil(tmp_path / FILE)
    with pytest.raises(StoreError, match=text) as refused:
        _ = read_checkpoint(tmp_path)
    assert str(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot write .*gone.*No such file"):
        write_checkpoint(tmp_path / "gone", checkpoint())
