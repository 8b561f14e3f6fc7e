"""One tensor in few bytes: where it is not 0, and the values there, without losing a bit.

Three forms; the smallest one is taken:

* `values`: all numbers, where there are hardly any zeros.
* `mask`: one bit for each element, then the values that are not 0.
* `gaps`: one byte for each value, the number of zeros before it; 255 stands for as many zeros and
  no value. Then the values. Smaller than a mask where fewer than an eighth are not 0.

Weights times a mask are -0.0 at half of the zeros: where there is any, one bit for each zero
follows the index. Values are stored byte by byte: first the lowest byte of each, then the next,
because the bytes of exponents are alike. Index, signs and values are each compressed by zlib where
that is smaller. (lzma gains 2 % on weights and takes five times as long, bz2 nothing.)
"""

import math
import zlib
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from abscise._errors import StoreError
from abscise._json import MAX_INTEGER, Fields

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.complex64,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.bool,
    )
}
FORMS = ("values", "mask", "gaps")
ENTRY = ("dtype", "shape", "form", "values", "index", "signs", "stored")
OVERHEAD = 256
"""At least what the description of one packed tensor takes in the file."""

_SKIP = 255
_LEVEL = 6
_MAX_DIMENSIONS = 64
_TRIED = 2
"""Forms that are more than this many times larger than the smallest are not compressed at all."""

Bytes = NDArray[np.uint8]
Unsigned = NDArray[np.unsignedinteger]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Packed:
    """A tensor in few bytes, and what is needed to read them.

    Args:
        dtype: Its name, one of `DTYPES`.
        shape: Of the tensor.
        form: One of `FORMS`.
        values: How many numbers are stored.
        index: Bytes that say where they are, before compression.
        signs: Bytes of the signs of zeros, before compression; 0: none is -0.0.
        stored: Bytes of index and signs in `payload`; fewer than before: compressed.
        payload: Index, signs, values.
    """

    dtype: str
    shape: tuple[int, ...]
    form: str
    values: int
    index: int
    signs: int
    stored: tuple[int, int]
    payload: bytes

    def entry(self) -> dict[str, object]:
        """All but the payload, as JSON has it."""
        return {
            "dtype": self.dtype,
            "shape": list(self.shape),
            "form": self.form,
            "values": self.values,
            "index": self.index,
            "signs": self.signs,
            "stored": list(self.stored),
        }

    @property
    def dense_bytes(self) -> int:
        """Bytes of the tensor itself."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize


def pack(tensor: Tensor) -> Packed | None:
    """`tensor`, which is on the CPU, in few bytes; None where that saves nothing."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    dense_bytes = tensor.numel() * tensor.element_size()
    if dtype not in DTYPES or dense_bytes <= OVERHEAD:
        return None
    flat = _bits(tensor)
    mask = (flat << 1 if tensor.is_floating_point() else flat) != 0
    kept, zeros = flat[mask], flat[~mask]
    signs = np.packbits(zeros != 0).tobytes() if zeros.any() else b""
    index = {"values": b"", "mask": np.packbits(mask).tobytes(), "gaps": _gaps(mask)}
    sizes = {form: len(index[form]) + len(signs) + kept.nbytes for form in ("mask", "gaps")}
    sizes["values"] = dense_bytes
    found = []
    for form in FORMS:
        if sizes[form] <= _TRIED * min(sizes.values()):
            numbers = flat if form == "values" else kept
            parts = (index[form], b"" if form == "values" else signs, _planes(numbers))
            found.append(_compressed(dtype, tuple(tensor.shape), form, len(numbers), parts))
    best = min(found, key=lambda packed: len(packed.payload))
    return best if len(best.payload) + OVERHEAD < dense_bytes else None


def _compressed(
    dtype: str, shape: tuple[int, ...], form: str, values: int, parts: tuple[bytes, bytes, bytes]
) -> Packed:
    index, signs, _ = parts
    small = [_squeezed(part) for part in parts]
    return Packed(
        dtype=dtype,
        shape=shape,
        form=form,
        values=values,
        index=len(index),
        signs=len(signs),
        stored=(len(small[0]), len(small[1])),
        payload=b"".join(small),
    )


def read_entry(fields: Fields, payload: Tensor) -> Packed:
    """The packed tensor that `fields` describes; nothing is decompressed yet.

    Raises:
        StoreError: A field is impossible, or does not fit the others or the payload.
    """
    dtype = fields.text("dtype", tuple(DTYPES))
    shape = fields.integers("shape")
    elements = math.prod(shape[: _MAX_DIMENSIONS + 1])
    if len(shape) > _MAX_DIMENSIONS or not 0 < elements <= MAX_INTEGER:
        fields.refuse("shape", f"1 to {_MAX_DIMENSIONS} sizes of a tensor that is not empty")
    form = fields.text("form", FORMS)
    values = fields.integer("values", 0, elements)
    if form == "values" and values != elements:
        fields.refuse("values", f"the {elements} elements of the shape")
    lowest, highest = {
        "values": (0, 0),
        "mask": (-(-elements // 8),) * 2,
        "gaps": (values, values + elements // _SKIP),
    }[form]
    index = fields.integer("index", lowest, highest)
    most = -(-(elements - values) // 8) if DTYPES[dtype].is_floating_point else 0
    signs = fields.integer("signs", 0, most)
    if signs not in {0, most}:
        fields.refuse("signs", f"0 or {most}")
    if payload.dtype != torch.uint8 or payload.ndim != 1:
        message = f"{fields.where}: its bytes must be a row of uint8, got {payload.dtype}"
        raise StoreError(message)
    stored = fields.integers("stored")
    if len(stored) != 2 or stored[0] > index or stored[1] > signs or sum(stored) > len(payload):
        fields.refuse("stored", f"at most {index} and {signs}, of {len(payload)} bytes")
    content = payload.numpy().tobytes()
    return Packed(dtype, shape, form, values, index, signs, (stored[0], stored[1]), content)


def unpack(packed: Packed, where: str) -> Tensor:
    """The tensor, bit for bit. No step needs more memory than a few times the tensor's own.

    Raises:
        StoreError: The bytes do not hold what the description says; the text starts with `where`.
    """
    elements = math.prod(packed.shape)
    dtype = DTYPES[packed.dtype]
    first, second = packed.stored[0], sum(packed.stored)
    index = _expanded(packed.payload[:first], packed.index, where)
    signs = _expanded(packed.payload[first:second], packed.signs, where)
    values = _expanded(packed.payload[second:], packed.values * dtype.itemsize, where)
    numbers = _from_planes(values, dtype.itemsize)
    if packed.form != "values":
        places = _masked if packed.form == "mask" else _counted
        mask = places(np.frombuffer(index, np.uint8), elements, packed.values, where)
        filled = np.zeros(elements, numbers.dtype)
        filled[mask] = numbers
        if signs:
            zeros = elements - packed.values
            negative = np.unpackbits(np.frombuffer(signs, np.uint8), count=zeros)
            filled[~mask] = negative.astype(numbers.dtype) << (8 * dtype.itemsize - 1)
        numbers = filled
    if dtype is torch.bool and bool((numbers > 1).any()):
        _refuse(where, "a bool is neither 0 nor 1")
    return torch.from_numpy(numbers.view(np.uint8)).view(dtype).view(packed.shape)


def _bits(tensor: Tensor) -> Unsigned:
    """The elements in order, as unsigned integers."""
    plain = tensor.detach().resolve_conj().resolve_neg().contiguous().view(-1)
    found: Unsigned = plain.view(torch.uint8).numpy().view(f"<u{plain.element_size()}")
    return found


def _planes(numbers: Unsigned) -> bytes:
    """First the lowest byte of each number, then the next."""
    return numbers.view(np.uint8).reshape(-1, numbers.itemsize).T.tobytes()


def _from_planes(content: bytes, size: int) -> Unsigned:
    planes: Bytes = np.frombuffer(content, np.uint8).reshape(size, -1)
    found: Unsigned = np.array(planes.T, order="C").reshape(-1).view(f"<u{size}")
    return found


def _gaps(mask: Mask) -> bytes:
    gaps = np.diff(np.flatnonzero(mask), prepend=-1) - 1
    skips = gaps // _SKIP
    found = np.full(len(gaps) + int(skips.sum()), _SKIP, np.uint8)
    found[np.cumsum(skips + 1) - 1] = gaps % _SKIP
    return found.tobytes()


def _masked(index: Bytes, elements: int, values: int, where: str) -> Mask:
    bits = np.unpackbits(index)
    if bits[elements:].any() or int(bits.sum()) != values:
        _refuse(where, f"its mask does not name {values} of {elements} elements")
    return bits[:elements].view(np.bool_)


def _counted(index: Bytes, elements: int, values: int, where: str) -> Mask:
    ends = index != _SKIP
    if int(ends.sum()) != values or (len(index) > 0 and not ends[-1]):
        _refuse(where, f"its gaps do not lead to {values} values")
    places = np.cumsum(index + ends, dtype=np.int64)[ends] - 1
    if values and places[-1] >= elements:
        _refuse(where, f"its gaps lead beyond its {elements} elements")
    mask = np.zeros(elements, np.bool_)
    mask[places] = True
    return mask


def _squeezed(content: bytes) -> bytes:
    """Compressed where that is smaller; so the length says which it is."""
    packed = zlib.compress(content, _LEVEL)
    return packed if len(packed) < len(content) else content


def _expanded(content: bytes, size: int, where: str) -> bytes:
    """What `_squeezed` was given; never more than `size` bytes are made."""
    if len(content) == size:
        return content
    if len(content) > size:
        _refuse(where, f"{len(content)} bytes are stored where {size} belong")
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(content, size + 1)
    except zlib.error as error:
        message = f"{where}: its bytes are no zlib data ({error}); the file was cut or edited"
        raise StoreError(message) from error
    if len(found) != size or not stream.eof or stream.unused_data:
        _refuse(where, f"its bytes do not unpack to {size}")
    return found


def _refuse(where: str, problem: str) -> NoReturn:
    message = f"{where}: {problem}; the file was cut or edited"
    raise StoreError(message)
