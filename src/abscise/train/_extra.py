"""The optional packages of this room: imported when needed, asked for with their pip command."""

import importlib
from types import ModuleType

from abscise._errors import MissingExtraError


def import_extra(module: str, purpose: str, extra: str = "train") -> ModuleType:
    """The optional package `module` of the extra `extra`, which `purpose` needs.

    Raises:
        MissingExtraError: It is not installed; the text holds the pip command.
    """
    try:
        return importlib.import_module(module)
    except ImportError as problem:
        message = f"{purpose} needs {module}, which is missing: pip install 'abscise[{extra}]'"
        raise MissingExtraError(message) from problem
