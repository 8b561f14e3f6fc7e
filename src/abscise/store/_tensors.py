"""Files of tensors: safetensors, with tied weights under one name, and packed ones where asked for.

A packed file is a safetensors file, too. The bytes of a packed tensor are a row of uint8 under
`abscise.packed/<name>`, so that no reader takes them for the weights, and the metadata entry
`abscise.packed` describes them, with a checksum over everything in the file.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from abscise._errors import StoreError
from abscise._json import Fields, check_format, describe, parse_json, read_fields
from abscise.store._sparse import ENTRY, Packed, pack, read_entry, unpack

FORMAT = 1
UNPACKED_BYTES = 2**28
UNPACKED_TIMES = 256
"""Where nobody says how large the tensors are: so many bytes, and so many times the file's."""

_ALIASES = "abscise.aliases"
_PACKED = "abscise.packed"
_PREFIX = _PACKED + "/"


def read_tensors(
    path: Path, wanted: Mapping[str, Tensor] | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors of a safetensors file, and for each further name of one the name it is under.

    Args:
        path: Packed or not.
        wanted: What the tensors will be loaded into. A packed tensor that is in it by another
            shape, or not at all, is refused before it is unpacked; without it, files that would
            unpack to much more than they hold are.

    Raises:
        StoreError: The file is missing, truncated, edited or hostile.
    """
    require_file(path)
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:
        message = f"{path} is not a whole safetensors file: {first_line(error)}"
        raise StoreError(message) from error
    if _PACKED in metadata or any(name.startswith(_PREFIX) for name in tensors):
        tensors = _unpacked(tensors, metadata, path, wanted)
    aliases: dict[str, str] = {}
    if _ALIASES in metadata:
        found = parse_json(
            metadata[_ALIASES].encode(), f"{path}: names of tied weights", StoreError
        )
        aliases = _checked_aliases(found, tensors, path)
    return tensors, aliases


def tensors_to_bytes(
    tensors: Mapping[str, Tensor], aliases: Mapping[str, str], *, sparse: bool = False
) -> bytes:
    """A safetensors file of `tensors`, each contiguous; names that share one are kept as text.

    Args:
        tensors: What to write.
        aliases: Further name of a tensor -> its name in `tensors`.
        sparse: Pack each tensor that gets smaller by it.

    Raises:
        StoreError: `sparse`, and a tensor bears a name that packed ones have.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"format": "pt", _ALIASES: json.dumps(dict(sorted(aliases.items())))}
    content = safetensors.torch.save(plain, metadata)
    return min(content, _packed_file(plain, metadata), key=len) if sparse else content


def require_file(path: Path) -> None:
    """Refuse what is no file.

    Raises:
        StoreError: `path` does not exist, or is a folder.
    """
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        message = f"{path} {what}"
        raise StoreError(message)


def first_line(error: BaseException) -> str:
    """What an exception of somebody else says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__


def _packed_file(plain: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    clash = next((name for name in plain if name.startswith(_PREFIX)), None)
    if clash is not None:
        message = f"{clash}: names that begin with {_PREFIX} are those of packed tensors"
        raise StoreError(message)
    tried = {name: pack(tensor) for name, tensor in plain.items()}
    packed = {name: it for name, it in tried.items() if it is not None}
    stored = {name: tensor for name, tensor in plain.items() if name not in packed}
    for name, it in packed.items():
        stored[_PREFIX + name] = torch.from_numpy(np.frombuffer(it.payload, np.uint8).copy())
    described = {name: it.entry() for name, it in packed.items()}
    crc32 = _checksum(stored, described, metadata[_ALIASES])
    content = {"format": FORMAT, "tensors": described, "crc32": crc32}
    return safetensors.torch.save(stored, {**metadata, _PACKED: json.dumps(content)})


def _unpacked(
    stored: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    path: Path,
    wanted: Mapping[str, Tensor] | None,
) -> dict[str, Tensor]:
    """All tensors, the packed ones unpacked: everything is checked before the first one is.

    Raises:
        StoreError: See `read_tensors`.
    """
    where = f"{path}: packed tensors"
    value = parse_json(metadata.get(_PACKED, "null").encode(), where, StoreError)
    check_format(value, FORMAT, where, "save the model again", StoreError)
    fields = read_fields(value, ("format", "tensors", "crc32"), where, StoreError)
    described = fields.mapping("tensors")
    if fields.integer("crc32") != _checksum(stored, described, metadata.get(_ALIASES, "")):
        message = f"{where}: the checksum is not that of the file: it was cut or edited"
        raise StoreError(message)
    found = {name: tensor for name, tensor in stored.items() if not name.startswith(_PREFIX)}
    packed = {name: _entry(fields, name, stored) for name in described}
    if len(found) + len(packed) != len(stored) or found.keys() & packed.keys():
        message = f"{where}: they are not the tensors of this file; it was edited"
        raise StoreError(message)
    _check_sizes(packed, path, wanted)
    return found | {name: unpack(it, f"{path}: {name}") for name, it in packed.items()}


def _entry(fields: Fields, name: str, stored: Mapping[str, Tensor]) -> Packed:
    described = fields.mapping("tensors")[name]
    if _PREFIX + name not in stored:
        message = f"{fields.where}: the bytes of {describe(name)} are missing; it was edited"
        raise StoreError(message)
    entry = read_fields(described, ENTRY, f"{fields.where}: {describe(name)}", StoreError)
    return read_entry(entry, stored[_PREFIX + name])


def _check_sizes(
    packed: Mapping[str, Packed], path: Path, wanted: Mapping[str, Tensor] | None
) -> None:
    """Refuse what would fill the memory, before it does."""
    if wanted is None:
        size = sum(it.dense_bytes for it in packed.values())
        limit = UNPACKED_BYTES + UNPACKED_TIMES * path.stat().st_size
        if size > limit:
            message = (
                f"{path} would unpack to {size} bytes, more than the {limit} that are allowed "
                "where no model says its sizes: load it with abscise.load"
            )
            raise StoreError(message)
        return
    for name, it in packed.items():
        shape = tuple(wanted[name].shape) if name in wanted else None
        if it.shape != shape:
            message = f"{path}: {name} {it.shape} is not in the model, or of another shape {shape}"
            raise StoreError(message)


def _checksum(stored: Mapping[str, Tensor], described: object, aliases: str) -> int:
    """Of names, dtypes, shapes and bytes of all tensors, and of what is said about them."""
    found = zlib.crc32(json.dumps([described, aliases], sort_keys=True).encode())
    for name in sorted(stored):
        tensor = stored[name]
        head = f"{name!r} {tensor.dtype} {tuple(tensor.shape)}"
        found = zlib.crc32(head.encode(errors="backslashreplace"), found)
        found = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, found)
    return found


def _checked_aliases(found: object, tensors: Mapping[str, Tensor], path: Path) -> dict[str, str]:
    if not isinstance(found, dict):
        message = f"{path}: names of tied weights must be an object, got {describe(found)}"
        raise StoreError(message)
    for name, of in found.items():
        if not isinstance(of, str) or of not in tensors or name in tensors:
            message = f"{path}: tied weight {describe(name)} must be another name of a stored one"
            raise StoreError(message)
    return found
