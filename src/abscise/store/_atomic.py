"""Files and folders that are there whole or not at all."""

import contextlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from abscise._errors import StoreError

OUR_FILES = frozenset(
    {
        "plan.json",
        "model.safetensors",
        "certificate.json",
        "report.html",
        "report.json",
        "report.txt",
        "model.onnx",
        "model.pt2",
    }
)

_LEFTOVER = re.compile(r"\.(.+)\.[0-9a-f]{32}\.tmp")


def write_json_atomically(path: Path | str, value: object) -> None:
    """Write `value` as JSON: afterwards `path` holds all of it, or what it held before.

    Raises:
        StoreError: It cannot be written; nothing was changed.
        ValueError: `value` holds NaN or infinity, which JSON does not know.
    """
    write_bytes_atomically(path, to_json_bytes(value))


def write_bytes_atomically(path: Path | str, content: bytes) -> None:
    """Write `content`: afterwards `path` holds all of it, or what it held before.

    Raises:
        StoreError: It cannot be written; nothing was changed.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    with _one_line(f"cannot write {target}"):
        try:
            _write_file(temporary, content)
            _ = temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    _flush_parent(target)


def to_json_bytes(value: object) -> bytes:
    """Readable JSON; NaN and infinity are refused."""
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write `files` as the whole content of `folder`.

    They are written to a new folder beside it, which then takes its name. A crash leaves the old or
    the new content; in the instant between two renames the old one is at `backup_of(folder)`, from
    where `recover` brings it back.

    Raises:
        StoreError: It cannot be written, or `folder` holds files of others; nothing was changed.
    """
    folder = folder.resolve()
    if not folder.name:
        message = f"cannot save to {folder}: name a folder in it"
        raise StoreError(message)
    recover(folder)
    refuse_foreign(folder)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    with _one_line(f"cannot save to {folder}"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.mkdir()
            for name, content in files.items():
                _write_file(temporary / name, content)
            _flush_folder(temporary)
            _swap(temporary, folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    _flush_parent(folder)


def backup_of(folder: Path) -> Path:
    """Where the old content waits while the new one takes its name."""
    return folder.with_name(f".{folder.name}.abscise-old")


def recover(folder: Path) -> None:
    """Finish what a crash between the two renames of `write_folder` left."""
    backup = backup_of(folder) if folder.name else folder
    if backup == folder or not backup.is_dir():
        return
    with _one_line(f"cannot bring back {folder} from {backup}"):
        if folder.exists():
            shutil.rmtree(backup)
        else:
            _ = backup.rename(folder)


def _swap(temporary: Path, folder: Path) -> None:
    if not folder.exists():
        _ = temporary.rename(folder)
        return
    backup = backup_of(folder)
    _ = folder.rename(backup)
    try:
        _ = temporary.rename(folder)
    except BaseException:
        _ = backup.rename(folder)
        raise
    shutil.rmtree(backup, ignore_errors=True)  # what stays is removed by the next `recover`


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder that `write_folder` would not replace.

    Raises:
        StoreError: It is a file, a mounted file system, holds files of others, or is in a folder
            that cannot be written to.
    """
    folder = folder.resolve()
    _refuse_place(folder)
    if not folder.exists():
        return
    if not folder.is_dir():
        message = f"cannot save to {folder}: it is a file; name a folder"
        raise StoreError(message)
    with _one_line(f"cannot read {folder}"):
        foreign = sorted(item.name for item in folder.iterdir() if not _is_ours(item.name))
    if foreign:
        message = (
            f"cannot save to {folder}: it holds other files ({', '.join(foreign[:3])}), which "
            "saving would remove; name a new folder"
        )
        raise StoreError(message)


def _is_ours(name: str) -> bool:
    """Whether saving may remove it: a file of ours, or one that a killed process left half."""
    left = _LEFTOVER.fullmatch(name)
    return name in OUR_FILES or (left is not None and left[1] in OUR_FILES)


def _refuse_place(folder: Path) -> None:
    """A folder is replaced as a whole: its parent changes, and it must not be a mounted one."""
    if folder.exists() and folder.is_mount():
        message = f"cannot save to {folder}: a file system is mounted there; name a folder in it"
        raise StoreError(message)
    parent = next(it for it in folder.absolute().parents if it.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        what = "cannot be written to" if parent.is_dir() else "is a file"
        message = f"cannot save to {folder}: {parent} {what}; name a folder elsewhere"
        raise StoreError(message)


def _write_file(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        _ = file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush_parent(path: Path) -> None:
    """Make the renaming last through a power cut; without it, the old or the new one is there."""
    with contextlib.suppress(OSError):
        _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # a folder cannot be opened there
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _one_line(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        message = f"{what}: {reason}; nothing was changed"
        raise StoreError(message) from error
