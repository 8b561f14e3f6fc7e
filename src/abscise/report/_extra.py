"""The optional packages of this room: imported when a page is drawn, asked for with one line."""

import importlib.util

from abscise._errors import MissingExtraError

PACKAGES = ("jinja2", "matplotlib")


def require_extra() -> None:
    """Look that everything is there before anything is drawn.

    Raises:
        MissingExtraError: A package is not installed; the text holds the pip command.
    """
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            message = (
                f"the HTML report needs {package}, which is missing: pip install 'abscise[report]'"
            )
            raise MissingExtraError(message)
