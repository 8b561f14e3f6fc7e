"""One process at a time in the folder of a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from abscise._errors import StoreError
from abscise._folders import locked

LOCK = "lock"


@contextmanager
def only_process_in(folder: Path) -> Iterator[None]:
    """Inside, no other process is here; a process that dies, however, leaves.

    The empty file that is locked stays: removing it would let in two who opened it before. Where
    there are no locks, two processes in one folder are not noticed.

    Raises:
        StoreError: Another process is in `folder`, or it cannot be written to.
    """
    with locked(folder / LOCK) as alone:
        if not alone:
            message = f"{folder}: another process trains in it: wait for its end, or stop it"
            raise StoreError(message)
        yield
