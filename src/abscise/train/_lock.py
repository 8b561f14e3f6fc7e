"""One process at a time in the folder of a run."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from abscise._errors import StoreError

LOCK = "lock"


@contextmanager
def only_process_in(folder: Path) -> Iterator[None]:
    """Inside, no other process is here; a process that dies, however, leaves.

    The empty file that is locked stays: removing it would let in two who opened it before.

    Raises:
        StoreError: Another process is in `folder`, or it cannot be written to.
    """
    path = folder / LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as problem:
        message = f"cannot write {path}: {problem.strerror or problem}"
        raise StoreError(message) from problem
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        import fcntl  # noqa: PLC0415 - not every system has it
    except ImportError:
        return  # there, two processes in one folder are not noticed
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as problem:
        message = f"{folder}: another process trains in it: wait for its end, or stop it"
        raise StoreError(message) from problem
    except OSError:
        return  # a file system without locks, as some that are mounted over a network
