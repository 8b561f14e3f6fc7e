"""The entry point: parse, run one command, and turn every expected error into an exit code."""

import importlib
import io
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum

from jsonargparse import ArgumentError, ArgumentParser
from rich.console import Console
from typing_extensions import override

from abscise._errors import AbsciseError, RecipeError
from abscise.cli._options import (
    CompactOptions,
    DemoOptions,
    DoctorOptions,
    ExplainOptions,
    InspectOptions,
    ModelOptions,
    ReportOptions,
    ReproduceOptions,
    TrainOptions,
    VerifyOptions,
    add_options,
    read_options,
)
from abscise.cli._usage import UsageError


class ExitCode(IntEnum):
    """What the shell is told."""

    DONE = 0
    REFUSED = 1  # refused, or not equal
    USAGE = 2
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Command:
    """One subcommand: its options and the module whose `run_<name>` does it."""

    name: str
    options: type
    module: str
    help: str


COMMANDS = (
    Command(
        "demo", DemoOptions, "_train", "The whole job on real digits: train, remove, prove, save."
    ),
    Command(
        "train", TrainOptions, "_train", "Train a recipe, remove what died, prove it, save it."
    ),
    Command(
        "inspect", InspectOptions, "_inspect", "Show what is dead, where, and by which evidence."
    ),
    Command(
        "compact", CompactOptions, "_compact", "Remove dead units and prove that nothing changed."
    ),
    Command("verify", VerifyOptions, "_compact", "Compare a saved folder with the dense model."),
    Command(
        "measure", ModelOptions, "_look", "Count parameters, MACs and bytes; time the forward."
    ),
    Command("explain", ExplainOptions, "_look", "Say why one unit stays, or why it may go."),
    Command(
        "doctor",
        DoctorOptions,
        "_doctor",
        "Say whether and when units will die, and what to change.",
    ),
    Command("report", ReportOptions, "_report", "Show a saved removal as one HTML page, or text."),
    Command(
        "reproduce",
        ReproduceOptions,
        "_reproduce",
        "Run a founding paper's experiment, or tell what came of it.",
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `abscise` with `argv` (default: the process's arguments) and give its exit code."""
    try:
        with _quiet_torch(), _any_text():
            return _run(sys.argv[1:] if argv is None else argv)
    except ArgumentError as error:
        code, problem = ExitCode.USAGE, f"{error} (see abscise --help)"
    except (UsageError, RecipeError) as error:
        code, problem = ExitCode.USAGE, str(error)
    except AbsciseError as error:
        code, problem = ExitCode.REFUSED, str(error)
    except KeyboardInterrupt:
        code, problem = ExitCode.INTERRUPTED, "interrupted"
    except BrokenPipeError:
        code, problem = ExitCode.REFUSED, "whoever read the output has closed it: stopped"
        _forget_output()
    print(f"abscise: {' '.join(problem.split())}", file=sys.stderr)
    return code


def parser() -> ArgumentParser:
    """The parser of all commands."""
    whole = ArgumentParser(
        prog="abscise",
        description="Find what is dead in a network, remove it, prove that nothing changed.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    commands = whole.add_subcommands(dest="command", required=True)
    for command in COMMANDS:
        inner = ArgumentParser(description=command.help, exit_on_error=False, allow_abbrev=False)
        add_options(inner, command.options)
        _ = commands.add_subcommand(command.name, inner, help=command.help)
    return whole


def _run(argv: Sequence[str]) -> int:
    found = parser().parse_args(list(argv))
    (command,) = (command for command in COMMANDS if command.name == found["command"])
    options = read_options(command.options, found[command.name].as_dict())
    module = importlib.import_module(f"abscise.cli.{command.module}")
    run: Callable[[object, Console], bool] = getattr(module, f"run_{command.name}")
    return (
        ExitCode.DONE
        if run(options, _Console(highlight=False, markup=False, emoji=False))
        else ExitCode.REFUSED
    )


class _Console(Console):
    """A console that says when nobody reads any more, instead of ending the process."""

    @override
    def on_broken_pipe(self) -> None:
        """Print nothing more, and let the command stop in order."""
        self.quiet = True
        raise BrokenPipeError


def _forget_output() -> None:
    """What is still to be printed goes nowhere: python would complain about it at its end."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


@contextmanager
def _any_text() -> Iterator[None]:
    """A terminal or pipe that does not know a character gets a question mark, not a traceback."""
    out = sys.stdout
    if not isinstance(out, io.TextIOWrapper):
        yield
        return
    before = out.errors
    out.reconfigure(errors="replace")
    try:
        yield
    finally:
        with suppress(OSError, ValueError):
            out.reconfigure(errors=before)


@contextmanager
def _quiet_torch() -> Iterator[None]:
    """Torch logs whole tracebacks of errors that it also raises; the user reads our one line."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
