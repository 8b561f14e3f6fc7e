"""A checkpoint: one safetensors file of tensors, one of them JSON as bytes; whole or absent.

The metadata of such a file, the usual place for a text, have a limit; the tensors have none.
The new file is written beside the old one, flushed and renamed over it: killed at any moment, the
run has the last good checkpoint. No pickle is written or read.
"""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from abscise._errors import StoreError
from abscise._json import parse_json, read_fields
from abscise.store import write_bytes_atomically
from abscise.train._packing import pack, unpack

FORMAT = 1
FILE = "checkpoint.safetensors"
JSON = "abscise"
FIELDS = ("format", "recipe", "data", "course", "state")


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """What a run needs to go on.

    Args:
        recipe: As plain values.
        data: The fingerprint of the training data.
        course: Where the loop is, as JSON: steps, reports, epochs.
        state: Nested dictionaries with everything else: weights, optimizer, random states.
    """

    recipe: Mapping[str, object]
    data: str
    course: Mapping[str, object]
    state: Mapping[str, object]


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Make `checkpoint` the one in `folder`; the old one stays until the new one is complete.

    Raises:
        StoreError: It cannot be written, or the state holds what only a pickle could hold.
    """
    tensors: dict[str, Tensor] = {}
    content = {
        "format": FORMAT,
        "recipe": checkpoint.recipe,
        "data": checkpoint.data,
        "course": checkpoint.course,
        "state": pack(checkpoint.state, tensors, "state"),
    }
    text = json.dumps(content, allow_nan=False).encode()
    tensors[JSON] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    try:
        content_bytes = safetensors.torch.save(tensors)
    except (SafetensorError, ValueError, RuntimeError) as problem:
        reason = " ".join(str(problem).split())[:200]
        message = f"cannot write {folder / FILE}: safetensors does not take the state ({reason})"
        raise StoreError(message) from problem
    write_bytes_atomically(folder / FILE, content_bytes)


def read_checkpoint(folder: Path, also: tuple[str, ...] = ()) -> Checkpoint | None:
    """The checkpoint in `folder`; None where there is none.

    What a killed process left half-written is removed: of the checkpoint, and of the files `also`.

    Raises:
        StoreError: It is truncated, edited, or of another format.
    """
    path = folder / FILE
    _remove_leftovers(folder, (FILE, *also))
    if not path.exists():
        return None
    tensors, text = _read(path)
    where = str(path)
    fields = read_fields(parse_json(text, where, StoreError), FIELDS, where, StoreError)
    _ = fields.integer("format", FORMAT, FORMAT)
    try:
        state = unpack(fields.values["state"], tensors)
    except StoreError as problem:
        message = f"{where}: {problem}"
        raise StoreError(message) from problem
    if not isinstance(state, dict):
        fields.refuse("state", "a dictionary")
    return Checkpoint(
        fields.mapping("recipe"), fields.text("data"), fields.mapping("course"), state
    )


def _read(path: Path) -> tuple[dict[str, Tensor], bytes]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as problem:
        reason = " ".join(str(problem).split())
        message = f"{path}: no checkpoint of ours ({reason}); it is truncated or was edited"
        raise StoreError(message) from problem
    text = tensors.pop(JSON, None)
    if text is None or text.dtype != torch.uint8:
        message = f"{path}: no checkpoint of ours (no JSON in it); it was edited, or is a model"
        raise StoreError(message)
    return tensors, text.numpy().tobytes()


def _remove_leftovers(folder: Path, names: tuple[str, ...]) -> None:
    """A killed process may leave half a file beside the whole one; nobody reads it."""
    with contextlib.suppress(OSError):
        for path in [path for name in names for path in folder.glob(f".{name}.*.tmp")]:
            path.unlink(missing_ok=True)
