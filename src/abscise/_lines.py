"""Files of lines that only grow: a line is appended whole or not at all."""

import os
from pathlib import Path

from abscise._errors import StoreError


def append_line(path: Path, line: bytes) -> None:
    """Append `line` to `path`; its folder is made if it is missing.

    Several processes may append at once: a line is one write. Without room for the whole line the
    file is left as it was.

    Raises:
        StoreError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _append(path, line)
    except OSError as problem:
        message = f"cannot append to {path}: {problem.strerror or problem}"
        raise StoreError(message) from problem


def _append(path: Path, line: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        before = os.fstat(descriptor).st_size
        if os.write(descriptor, line) != len(line):
            os.ftruncate(descriptor, before)
            message = "no space for a whole line"
            raise OSError(message)
    finally:
        os.close(descriptor)
