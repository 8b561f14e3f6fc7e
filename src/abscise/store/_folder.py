"""A saved model: one folder that holds everything but the code of the original class."""

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from abscise._certificate import Certificate
from abscise._errors import AbsciseError, PlanError, StoreError
from abscise._json import parse_json
from abscise.compaction import (
    Compaction,
    Plan,
    fingerprint,
    plan_from_json,
    plan_to_json,
    restructure,
)
from abscise.store._atomic import (
    OUR_FILES,
    recover,
    to_json_bytes,
    write_folder,
    write_json_atomically,
)
from abscise.store._tensors import read_tensors, require_file, tensors_to_bytes
from abscise.store._weights import load_weights, restore_ties, tensor_state, tied_names

_PLAN = "plan.json"
_WEIGHTS = "model.safetensors"
_CERTIFICATE = "certificate.json"
_MAX_JSON_BYTES = 256 * 2**20
EXTRA_FILES = OUR_FILES - {_PLAN, _WEIGHTS, _CERTIFICATE}


def save(
    folder: Path | str,
    compaction: Compaction,
    *,
    files: Mapping[str, bytes] | None = None,
    sparse: bool = False,
) -> None:
    """Write plan, weights and certificate; afterwards `folder` holds all of it, or what it held.

    A tied weight is written once. Only a folder that does not exist, is empty, or holds an earlier
    saved model is written to.

    Args:
        folder: Where to.
        compaction: What to save.
        files: Name -> content of what else belongs to it, such as `report.json`.
        sparse: Pack the weights, so that single zeros take next to no space; `load` reads both
            forms, other readers of safetensors only the one without. No bit is lost.

    Raises:
        ValueError: `files` holds a name that is not kept beside a saved model.
        StoreError: It cannot be written (no space, no permission, other files in it), or the model
            holds state that is no tensor; nothing was changed.
    """
    extra = dict(files or {})
    if wrong := sorted(set(extra) - EXTRA_FILES):
        allowed = ", ".join(sorted(EXTRA_FILES))
        message = f"files beside a saved model must be of {allowed}, got {', '.join(wrong)}"
        raise ValueError(message)
    written = {
        _PLAN: to_json_bytes(plan_to_json(compaction.plan)),
        _WEIGHTS: _weights(compaction.model, sparse=sparse),
    }
    if compaction.certificate is not None:
        written[_CERTIFICATE] = to_json_bytes(compaction.certificate.to_json())
    write_folder(Path(folder), written | extra)


def bytes_on_disk(folder: Path | str) -> int:
    """Bytes of the weights in a saved folder: of `model.safetensors`.

    Raises:
        StoreError: There is no such file.
    """
    path = existing_folder(folder) / _WEIGHTS
    require_file(path)
    return path.stat().st_size


def file_bytes(model: nn.Module, *, sparse: bool = False) -> int:
    """Bytes of the `model.safetensors` that `save` would write for `model`; writes nothing.

    Raises:
        StoreError: The model holds state that is no tensor.
    """
    return len(_weights(model, sparse=sparse))


def load(folder: Path | str, model: nn.Module) -> nn.Module:
    """The compacted model: an edited copy of `model` with the saved weights.

    Args:
        folder: Written by `save`.
        model: An object of the original class, e.g. `OriginalClass()`; its weights do not matter,
            and it stays as it is.

    Raises:
        StoreError: A file is missing, truncated, edited or hostile.
        PlanError: The plan is malformed or belongs to another architecture.
    """
    folder = existing_folder(folder)
    plan = read_plan(folder)
    require_file(folder / _WEIGHTS)
    _require_architecture(plan, model, folder)
    compacted = _restructured(plan, model, folder)
    wanted = tensor_state(compacted)
    tensors, aliases = read_tensors(folder / _WEIGHTS, wanted)
    for name, tensor in tensors.items():
        if name in wanted and wanted[name].dtype != tensor.dtype:
            message = f"{folder / _WEIGHTS}: {name} is {tensor.dtype}, must be {wanted[name].dtype}"
            raise StoreError(message)
    load_weights(compacted, tensors | {name: tensors[of] for name, of in aliases.items()})
    restore_ties(compacted, aliases)
    return compacted


def read_plan(path: Path | str) -> Plan:
    """The plan in a file, or in the folder of a saved model.

    Raises:
        StoreError: The file is missing or no JSON.
        PlanError: A field of it is wrong.
    """
    path = Path(path)
    path = path / _PLAN if path.is_dir() else path
    return plan_from_json(read_json(path))


def write_plan(path: Path | str, plan: Plan) -> None:
    """Write `plan` alone, atomically.

    Raises:
        StoreError: It cannot be written; nothing was changed.
    """
    write_json_atomically(path, plan_to_json(plan))


def read_certificate(folder: Path | str) -> Certificate:
    """The certificate of a saved model.

    Raises:
        StoreError: The file is missing, truncated, edited or hostile.
    """
    return Certificate.from_json(read_json(existing_folder(folder) / _CERTIFICATE))


def existing_folder(folder: Path | str) -> Path:
    """The folder of a saved model, brought back where a crash left it under its backup's name.

    Raises:
        StoreError: There is none.
    """
    folder = Path(folder).resolve()
    recover(folder)
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        message = f"{folder} {what}: give the folder of a saved model"
        raise StoreError(message)
    return folder


def read_json(path: Path) -> object:
    """What a JSON file of ours holds; its fields are for the caller to check.

    Raises:
        StoreError: The file is missing, too large, truncated or no JSON.
    """
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        message = f"{path} {what}"
        raise StoreError(message)
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            message = f"{path} is larger than {_MAX_JSON_BYTES} bytes: it is not one of ours"
            raise StoreError(message)
        content = path.read_bytes()
    except OSError as error:
        message = f"cannot read {path}: {error.strerror}"
        raise StoreError(message) from error
    return parse_json(content, str(path), StoreError)


def _weights(model: nn.Module, *, sparse: bool) -> bytes:
    state = tensor_state(model)
    aliases = tied_names(state)
    once = {name: tensor for name, tensor in state.items() if name not in aliases}
    return tensors_to_bytes(once, aliases, sparse=sparse)


def _require_architecture(plan: Plan, model: nn.Module, folder: Path) -> None:
    if plan.fingerprint != fingerprint(model):
        message = (
            f"the plan in {folder} belongs to another architecture than {type(model).__name__}: "
            "build the model with the arguments (and the dtype) it was compacted with"
        )
        raise PlanError(message)


def _restructured(plan: Plan, model: nn.Module, folder: Path) -> nn.Module:
    try:
        return restructure(plan, model)
    except AbsciseError:
        raise
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        message = f"the plan in {folder} does not fit {type(model).__name__}: {lines[0]}"
        raise PlanError(message) from error
