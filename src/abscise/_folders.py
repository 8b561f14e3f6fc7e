"""Folders that several processes work in: making them, and locks.

A process that dies, however it dies, holds no lock any more.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from abscise._errors import StoreError


def make_folder(folder: Path) -> None:
    """Make the folder, and those above it, where they are missing.

    Raises:
        StoreError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        message = f"cannot make the folder {folder}: {problem.strerror or problem}"
        raise StoreError(message) from problem


@contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Inside, this process holds the lock on the file `path`, if it was given True.

    A file that is missing is made, empty.

    Without `wait`, False says that another process holds it. Where the system or the file system
    has no locks, everybody is given True: then let only one process work on a file.

    Raises:
        StoreError: The file cannot be made.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as problem:
        message = f"cannot write {path}: {problem.strerror or problem}"
        raise StoreError(message) from problem
    try:
        yield _lock(descriptor, wait=wait)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, *, wait: bool) -> bool:
    try:
        import fcntl  # noqa: PLC0415 - not every system has it
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks, as some that are mounted over a network
    return True
