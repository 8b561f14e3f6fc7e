"""Reading weights that somebody else wrote: safetensors, or torch files without code."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from abscise._errors import StoreError
from abscise._json import describe
from abscise.store._tensors import first_line, read_tensors, require_file

_PREFIXES = ("module.", "_orig_mod.")


def read_checkpoint(
    path: Path | str, key: str | None = None
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The state dict in a file, on the CPU, and notes on what was changed in it.

    Args:
        path: `.safetensors`, or a file of `torch.save`, of which only tensors and plain containers
            are read: code in it never runs.
        key: Where the state dict is inside a larger checkpoint, e.g. `model`.

    Raises:
        StoreError: The file is missing, truncated or hostile, or holds no state dict (under `key`).
    """
    path = Path(path)
    require_file(path)
    if path.suffix == ".safetensors":
        if key is not None:
            message = f"{path}: key {key!r} is given, but a .safetensors file has no keys; omit it"
            raise StoreError(message)
        tensors, aliases = read_tensors(path)
        return _without_prefixes(tensors | {name: tensors[of] for name, of in aliases.items()})
    return _without_prefixes(_state_dict(_read_torch(path), key, path))


def _read_torch(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found: object = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
    except MemoryError as error:
        message = f"{path} does not fit into memory"
        raise StoreError(message) from error
    except Exception as error:
        message = (
            f"{path} is truncated, or holds more than tensors and plain containers, which is not "
            f"read because it could run code: save model.state_dict() ({first_line(error)})"
        )
        raise StoreError(message) from error
    return found


def _state_dict(found: object, key: str | None, path: Path) -> dict[str, Tensor]:
    if key is not None:
        found = _under_key(found, key, path)
    if not isinstance(found, Mapping):
        message = f"{path} holds {_kind(found)}, not a state dict"
        raise StoreError(message)
    if not found or not any(isinstance(value, Tensor) for value in found.values()):
        message = f"{path} holds no state dict at this place: give key, one of {_names(found)}"
        raise StoreError(message)
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            message = (
                f"{path}: entry {describe(name)} is {_kind(value)}, a state dict holds tensors: "
                f"give key, one of {_names(found)}, or save model.state_dict()"
            )
            raise StoreError(message)
    return dict(found)


def _under_key(found: object, key: str, path: Path) -> object:
    if not isinstance(found, Mapping):
        message = f"{path} holds {_kind(found)}, which has no key {key!r}"
        raise StoreError(message)
    if key not in found:
        message = f"{path} has no key {key!r}; it has {_names(found)}"
        raise StoreError(message)
    return found[key]


def _names(found: Mapping[object, object]) -> str:
    """The keys that may lead to a state dict; all keys if none may."""
    inner = [key for key, value in found.items() if isinstance(value, Mapping)] or list(found)
    shown = ", ".join(describe(key) for key in inner[:8])
    return (shown + (", ..." if len(inner) > 8 else "")) or "none"


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"


def _without_prefixes(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    notes: list[str] = []
    while True:
        prefix = next(
            (item for item in _PREFIXES if state and all(name.startswith(item) for name in state)),
            None,
        )
        if prefix is None:
            return state, tuple(notes)
        state = {name.removeprefix(prefix): value for name, value in state.items()}
        notes.append(f"prefix {prefix!r} removed from all {len(state)} names")
