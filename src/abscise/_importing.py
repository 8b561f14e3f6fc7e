"""The user's own models and data, named as package.module:callable."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def import_callable(spec: str, what: str, refusal: type[Exception]) -> Callable[..., Any]:
    """The class or function `spec`; the current folder is importable.

    Raises:
        Exception: Of the class `refusal`: it cannot be imported, or cannot be called; the text
            starts with `what`.
    """
    module, _, name = spec.partition(":")
    if not module or not name:
        message = f"{what} must be named package.module:callable, got {spec!r}"
        raise refusal(message)
    try:
        with _current_folder_importable():
            found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as problem:
        message = f"{what} {spec}: {one_line(problem)}"
        raise refusal(message) from problem
    if not callable(found):
        message = f"{what} {spec} must be a class or function, got {type(found).__name__}"
        raise refusal(message)
    return found


def one_line(problem: Exception, limit: int = 300) -> str:
    """Class and text of an exception, on one line of bounded length."""
    text = f"{type(problem).__name__}: {' '.join(str(problem).split())}"
    return text if len(text) <= limit else f"{text[:limit]} ..."


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
