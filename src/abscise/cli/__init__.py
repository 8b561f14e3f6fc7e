"""The command `abscise`: the only place that prints and that turns errors into exit codes."""

from abscise.cli._main import main

__all__ = ["main"]
