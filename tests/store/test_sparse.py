"""Packed weights: bit for bit, never larger, and no edited file is taken for a whole one."""

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Tensor, nn

import abscise
from abscise._errors import StoreError
from abscise.store import bytes_on_disk, file_bytes, read_checkpoint
from abscise.store._sparse import DTYPES, pack, unpack
from abscise.store._tensors import _checksum, read_tensors, tensors_to_bytes
from support.round_trips import same_bits, sparse_tensor

SIZES = st.lists(st.integers(0, 40), max_size=3).map(tuple)
SHARES = st.sampled_from([0.0, 0.001, 0.02, 0.1, 0.3, 0.6, 0.99, 1.0])


@given(st.sampled_from(sorted(DTYPES)), SIZES, SHARES, st.integers(0, 2**31))
def test_what_is_packed_is_unpacked_bit_for_bit(
    dtype: str, shape: tuple[int, ...], share: float, seed: int
) -> None:
    tensor = sparse_tensor(DTYPES[dtype], shape, share, seed)
    packed = pack(tensor)
    if packed is not None:
        assert same_bits(unpack(packed, "here"), tensor)
        assert len(packed.payload) < tensor.numel() * tensor.element_size()


@given(st.integers(0, 2**31), SHARES)
def test_a_sparse_file_is_never_larger_and_holds_the_same(
    tmp_path_factory: pytest.TempPathFactory, seed: int, share: float
) -> None:
    tensors = {
        name: sparse_tensor(dtype, (7, 30 + seed % 50), share, seed)
        for name, dtype in DTYPES.items()
    }
    tensors |= {"empty": torch.zeros(0, 3), "number": torch.tensor(3), "ünï.cödé": torch.zeros(99)}
    aliases = {"tied": "float32"}
    path = tmp_path_factory.mktemp("packed") / "x.safetensors"
    sparse = tensors_to_bytes(tensors, aliases, sparse=True)
    assert len(sparse) <= len(tensors_to_bytes(tensors, aliases))
    _ = path.write_bytes(sparse)
    for wanted in (None, tensors):
        found, names = read_tensors(path, wanted)
        assert found.keys() == tensors.keys()
        assert all(same_bits(found[name], tensor) for name, tensor in tensors.items())
        assert names == aliases
    _ = path.write_bytes(tensors_to_bytes(tensors | {"int8": tensors["int8"] + 1}, {}, sparse=True))
    assert not same_bits(read_tensors(path)[0]["int8"], tensors["int8"])


def bits(*patterns: int) -> Tensor:
    """Float32 numbers by their bits, among zeros."""
    numbers = np.zeros(1000, "<u4")
    numbers[:: 1000 // len(patterns)][: len(patterns)] = patterns
    return torch.from_numpy(numbers.view("<f4"))


def test_minus_zero_is_a_value_and_nans_keep_their_payload() -> None:
    tensor = bits(0x80000000, 0x7FC12345, 0xFFC00001, 0x7F800001, 0x00000001, 0x807FFFFF)
    packed = pack(tensor)
    assert packed is not None
    assert packed.values == 5
    assert packed.signs == 125
    assert same_bits(unpack(packed, "here"), tensor)
    assert not same_bits(unpack(packed, "here"), bits(0, 0x7FC12345, 0xFFC00001))
    assert not same_bits(tensor, tensor + 0.0)  # which makes -0.0 and a signalling NaN others


@pytest.mark.parametrize(
    ("share", "form"), [(0.001, "gaps"), (0.05, "gaps"), (0.4, "mask"), (1.0, "values")]
)
def test_the_form_follows_the_share_that_is_not_zero(share: float, form: str) -> None:
    packed = pack(masked(share) + 0.0)
    assert packed is not None
    assert packed.form == form
    assert len(packed.payload) < (share + 0.03) * 4 * 300 * 300


def test_the_signs_of_masked_weights_cost_a_bit_each() -> None:
    weights = masked(0.05)  # half of the zeros are -0.0
    signed, unsigned = pack(weights), pack(weights + 0.0)
    assert signed is not None
    assert unsigned is not None
    assert same_bits(unpack(signed, "here"), weights)
    assert not same_bits(unpack(unsigned, "here"), weights)
    assert len(unsigned.payload) < len(signed.payload)
    assert len(signed.payload) < len(unsigned.payload) + 1.2 * 300 * 300 / 8


def masked(share: float) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(300, 300, generator=generator)
    return weights * (torch.rand(300, 300, generator=generator) < share)


def test_runs_of_zeros_longer_than_a_gap_of_one_byte_are_counted() -> None:
    for first, last in ((0, 999), (254, 255), (255, 256), (256, 510), (509, 511), (765, 766)):
        tensor = torch.zeros(1000, dtype=torch.int16)
        tensor[[first, last]] = 7
        packed = pack(tensor)
        assert packed is not None
        assert packed.form == "gaps"
        assert same_bits(unpack(packed, "here"), tensor)


def test_views_and_transposed_tensors_are_stored_as_they_look() -> None:
    weight = sparse_tensor(torch.float32, (40, 60), 0.1, 0)
    kernel = sparse_tensor(torch.float32, (8, 8, 3, 3), 0.1, 0)
    strange = torch.complex(weight, weight.flip(0)).conj()
    views = (weight.t(), weight[::2, 3:], strange, kernel.to(memory_format=torch.channels_last))
    for view in views:
        packed = pack(view)
        assert packed is not None
        assert same_bits(unpack(packed, "here"), view)
        assert not torch.equal(unpack(packed, "here"), view.flip(0))


def network(seed: int = 0) -> nn.Sequential:
    """95 % of its weights are 0, and no unit is dead."""
    with torch.random.fork_rng():
        _ = torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(30, 200), nn.ReLU(), nn.Linear(200, 5))
        with torch.no_grad():
            for name in ("0.weight", "2.weight"):
                weight = model.get_parameter(name)
                _ = weight.mul_(torch.rand_like(weight) < 0.05)
    return model


def test_load_reads_both_forms_and_the_sparse_one_is_smaller(tmp_path: Path) -> None:
    model = network()
    inputs = torch.randn(9, 30, generator=torch.Generator().manual_seed(0))
    made = abscise.compact(model, inputs)
    for name, sparse in (("plain", False), ("sparse", True)):
        abscise.save(tmp_path / name, made, sparse=sparse)
        assert bytes_on_disk(tmp_path / name) == file_bytes(made.model, sparse=sparse)
        loaded = abscise.load(tmp_path / name, network(1))
        for key, tensor in made.model.state_dict().items():
            assert same_bits(loaded.state_dict()[key], tensor)
    assert bytes_on_disk(tmp_path / "sparse") < 0.4 * bytes_on_disk(tmp_path / "plain")
    state, _ = read_checkpoint(tmp_path / "sparse" / "model.safetensors")
    assert same_bits(state["0.weight"], made.model.state_dict()["0.weight"])


def test_other_readers_do_not_take_packed_bytes_for_weights(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    _ = path.write_bytes(tensors_to_bytes(network().state_dict(), {}, sparse=True))
    with safe_open(path, framework="pt") as file:
        assert "0.weight" not in file.keys()  # noqa: SIM118
        assert "0.bias" in file.keys()  # noqa: SIM118


def small_file() -> bytes:
    tensors = {
        "a": sparse_tensor(torch.float32, (20, 30), 0.1, 0),
        "b": sparse_tensor(torch.bool, (700,), 0.02, 0),
        "c": sparse_tensor(torch.int64, (500,), 1.0, 0),
        "plain": torch.ones(3),
    }
    return tensors_to_bytes(tensors, {"again": "a"}, sparse=True)


def read(path: Path, content: bytes) -> dict[str, Tensor] | None:
    """The tensors, or None where the file is refused, in one line."""
    _ = path.write_bytes(content)
    try:
        return read_tensors(path)[0]
    except StoreError as error:
        problem = str(error)
    assert "\n" not in problem
    assert str(path) in problem
    return None


def test_a_truncated_file_is_refused_at_every_length(tmp_path: Path) -> None:
    content, path = small_file(), tmp_path / "x.safetensors"
    assert read(path, content) is not None
    for length in range(0, len(content), 19):
        assert read(path, content[:length]) is None
    assert read(path, content + b"\0") is None


def test_a_flipped_bit_is_seen_or_changes_nothing(tmp_path: Path) -> None:
    content, path = small_file(), tmp_path / "x.safetensors"
    whole = read(path, content)
    assert whole is not None
    refused = 0
    for place in range(0, 8 * len(content), 61):
        edited = bytearray(content)
        edited[place // 8] ^= 1 << place % 8
        found = read(path, bytes(edited))
        refused += found is None
        assert found is None or all(same_bits(found[name], whole[name]) for name in whole)
    assert refused > 0.9 * (8 * len(content) // 61)


def edited(change: Callable[[dict[str, Any], dict[str, Tensor]], object]) -> bytes:
    """A packed file with other descriptions, whose checksum is right again."""
    content = small_file()
    size = struct.unpack("<Q", content[:8])[0]
    metadata = json.loads(content[8 : 8 + size])["__metadata__"]
    stored = dict(safetensors.torch.load(content))
    packed = json.loads(metadata["abscise.packed"])
    _ = change(packed, stored)
    if isinstance(packed.get("tensors"), dict) and packed.get("crc32") != 1:
        packed["crc32"] = _checksum(stored, packed["tensors"], metadata.get("abscise.aliases", ""))
    metadata["abscise.packed"] = json.dumps(packed)
    return safetensors.torch.save(stored, metadata)


def entry(**fields: Any) -> Callable[[dict[str, Any], dict[str, Tensor]], object]:
    return lambda packed, _: packed["tensors"]["a"].update(fields)


def payload(change: Callable[[Tensor], Tensor]) -> Callable[..., object]:
    def work(_: dict[str, Any], stored: dict[str, Tensor]) -> None:
        stored["abscise.packed/a"] = change(stored["abscise.packed/a"])

    return work


HOSTILE: dict[str, tuple[Callable[..., object], str]] = {
    "other version": (lambda c, _: c.update(format=2), "format must be 1"),
    "no tensors": (lambda c, _: c.pop("tensors"), "missing fields"),
    "tensors a list": (lambda c, _: c.update(tensors=[]), "must be an object"),
    "a field more": (entry(more=1), "unknown fields"),
    "unknown dtype": (entry(dtype="object"), "dtype must be one of"),
    "unknown form": (entry(form="pickle"), "form must be one of"),
    "negative size": (entry(shape=[-20, -30]), "shape must be"),
    "fractional size": (entry(shape=[20.0, 30]), "shape must be"),
    "empty": (entry(shape=[0, 600]), "shape must be"),
    "overflow": (entry(shape=[2**52, 2**52]), "shape must be"),
    "many dimensions": (entry(shape=[1] * 99), "shape must be"),
    "huge": (
        entry(shape=[2**40], form="gaps", values=0, index=0, stored=[0, 0]),
        "would unpack to",
    ),
    "more values than elements": (entry(values=601), "values must be an integer from 0 to 600"),
    "fewer values": (entry(values=1), "index must be|do not lead|not unpack|bytes are stored"),
    "wrong index": (entry(index=10**9), "index must be"),
    "index cut": (entry(stored=[0, 0]), "not unpack|no zlib|bytes are stored"),
    "signs of others": (entry(signs=1), "signs must be 0 or"),
    "one length": (entry(stored=[1]), "stored must be"),
    "index beyond": (entry(stored=[10**6, 0]), "stored must be"),
    "another shape of as many": (entry(form="mask", index=75, stored=[60, 0]), "not|no zlib|bytes"),
    "values form with gaps": (entry(form="values"), "values must be the 600 elements"),
    "missing bytes": (lambda _, t: t.pop("abscise.packed/a"), "bytes of 'a' are missing"),
    "bytes of nobody": (
        lambda _, t: t.update({"abscise.packed/d": torch.zeros(3, dtype=torch.uint8)}),
        "not the tensors of this file",
    ),
    "twice": (lambda _, t: t.update(a=torch.zeros(20, 30)), "not the tensors of this file"),
    "bytes are floats": (payload(lambda t: t.float()), "must be a row of uint8"),
    "bytes in two dimensions": (payload(lambda t: t[None].contiguous()), "must be a row of uint8"),
    "bytes cut": (payload(lambda t: t[:-1].clone()), "not unpack|no zlib|bytes"),
    "no bytes": (payload(lambda t: t[:0].clone()), "stored must be"),
    "a checksum of others": (
        lambda c, _: c["tensors"].pop("b") and c.update(crc32=1),
        "checksum is not",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    change, words = HOSTILE[name]
    path = tmp_path / "x.safetensors"
    _ = path.write_bytes(edited(lambda *_: None))
    assert "a" in read_tensors(path)[0]
    _ = path.write_bytes(edited(change))
    with pytest.raises(StoreError, match=words) as error:
        _ = read_tensors(path)
    assert "\n" not in str(error.value)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    zeros = torch.zeros(100_000, 1000, dtype=torch.int8).expand(100_000, 1000)
    path = tmp_path / "x.safetensors"
    made = pack(zeros)
    assert made is not None
    assert len(made.payload) == 0
    bomb = edited(entry(dtype="int8", shape=[2**34], form="gaps", values=0, index=0, stored=[0, 0]))
    _ = path.write_bytes(bomb)
    with pytest.raises(StoreError, match="would unpack to 17179869884 bytes, more than the"):
        _ = read_tensors(path)
    with pytest.raises(StoreError, match=r"a \(17179869184,\) is not in the model"):
        _ = read_tensors(path, {"a": torch.zeros(20, 30)})
    with pytest.raises(StoreError, match="is not in the model"):
        _ = read_tensors(path, {})


def test_compressed_bytes_never_expand_beyond_what_is_described(tmp_path: Path) -> None:
    bomb = torch.from_numpy(np.frombuffer(zlib.compress(b"\0" * 10**7), np.uint8).copy())
    fields = entry(form="mask", values=0, index=20_000, stored=[len(bomb), 0], shape=[160_000])

    def change(packed: dict[str, Any], stored: dict[str, Tensor]) -> None:
        _ = fields(packed, stored)
        stored["abscise.packed/a"] = bomb

    path = tmp_path / "x.safetensors"
    _ = path.write_bytes(edited(change))
    with pytest.raises(StoreError, match="do not unpack to 20000"):
        _ = read_tensors(path)


def test_a_bool_that_is_neither_is_refused() -> None:
    packed = pack(sparse_tensor(torch.uint8, (2000,), 0.2, 0))
    assert packed is not None
    with pytest.raises(StoreError, match="a bool is neither 0 nor 1"):
        _ = unpack(replace(packed, dtype="bool"), "here")


def test_a_file_without_zeros_to_speak_of_stays_plain() -> None:
    random = {"a": torch.from_numpy(np.random.default_rng(0).integers(0, 256, 4000, np.uint8))}
    assert set(safetensors.torch.load(tensors_to_bytes(random, {}, sparse=True))) == {"a"}
    random["a"][1000:] = 0
    found = safetensors.torch.load(tensors_to_bytes(random, {}, sparse=True))
    assert set(found) == {"abscise.packed/a"}


def test_a_name_of_a_packed_tensor_is_refused_on_writing() -> None:
    with pytest.raises(StoreError, match=r"abscise\.packed/x: names that begin with"):
        _ = tensors_to_bytes({"abscise.packed/x": torch.zeros(9)}, {}, sparse=True)
