"""UsageError: the command line itself is wrong (exit code 2)."""

from collections.abc import Iterator
from contextlib import contextmanager


class UsageError(Exception):
    """An argument cannot mean anything; its text is the one line that the user reads."""


@contextmanager
def naming_usage() -> Iterator[None]:
    """A ValueError of the library is about what the user typed: a pattern, a layer, an index."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from error
