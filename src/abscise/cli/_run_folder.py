"""The folder of a training run, beside that of its model, and the command that goes on with it.

`OUT.training` holds the checkpoint, one line per epoch, and the tracker's lines. It stays when the
run is done: the checkpoint is the only place with the dense network. An empty file says that its
model is in OUT.
"""

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event

from rich.console import Console

from abscise.cli._options import TrainOptions
from abscise.cli._tracking import UNITS_FILE
from abscise.cli._usage import UsageError
from abscise.store import refuse_foreign
from abscise.train import Checkpoints, Interrupted, is_finished


def open_run(options: TrainOptions) -> Checkpoints | None:
    """Where the run of `options` is kept; None without --out.

    Raises:
        UsageError: Options that do not go together, or a run that is finished.
        StoreError: OUT could not take the model, which nobody wants to hear after the training.
    """
    if options.out is None:
        _refuse_options(options)
        return None
    out = check_out(options.out)
    folder = out.with_name(f"{out.name}.training")
    if options.resume and is_finished(folder) and (out / "plan.json").exists():
        message = f"--resume: the run is finished, and its model is in {options.out}"
        raise UsageError(message)
    return Checkpoints(folder, options.checkpoint_every, options.resume, guarded=True)


def check_out(out: Path) -> Path:
    """`out` with a name of its own, where a model can be saved: asked before the training.

    Raises:
        UsageError: It has no name.
        StoreError: It could not take the model.
    """
    named = out if out.name.strip(".") else out.resolve()
    if not named.name:
        message = f"--out {out}: name a folder in it"
        raise UsageError(message)
    refuse_foreign(named)
    return named


@contextmanager
def telling_how_to_go_on(
    options: TrainOptions, checkpoints: Checkpoints | None, console: Console
) -> Iterator[Checkpoints | None]:
    """Whatever ends the work inside once the run can be resumed: say how to go on with it."""
    begun = Event()

    def begin() -> None:
        begun.set()
        if not options.resume and checkpoints is not None:  # the lines of a run that is done
            (checkpoints.folder / UNITS_FILE).unlink(missing_ok=True)

    try:
        yield None if checkpoints is None else replace(checkpoints, begun=begin)
    except BaseException as stopped:
        if begun.is_set():
            what = str(stopped) if isinstance(stopped, Interrupted) else "the training is kept"
            console.print(f"{what}; go on with:\n    {resuming(options)}", soft_wrap=True)
        raise


def resuming(options: TrainOptions) -> str:
    """The command that goes on with the run of `options`, from the same folder."""
    given = {
        "--control": [options.control],
        "--set": options.set,
        "--out": [options.out],
        "--checkpoint-every": [options.checkpoint_every],
        "--look-every": [options.look_every],
        "--log": [options.log],
        "--record": [options.record],
        "--data-root": [options.data_root],
    }
    pairs = [(name, str(of)) for name, values in given.items() for of in values if of is not None]
    flat = [text for pair in pairs for text in pair]
    flags = ["--sparse"] if options.sparse else []
    return shlex.join(["abscise", "train", options.recipe, *flat, *flags, "--resume"])


def check_record(path: Path | None, option: str = "--record") -> None:
    """Whether a line can be appended to `path`: asked before the training, not after.

    Raises:
        UsageError: It cannot.
    """
    if path is None:
        return
    found = next(it for it in (path, *path.absolute().parents) if it.exists())
    fits = found.is_file() if found == path else found.is_dir()
    if not fits or not os.access(found, os.W_OK):
        message = f"{option} {path}: {found} is in the way, or cannot be written"
        raise UsageError(message)


def _refuse_options(options: TrainOptions) -> None:
    given = (
        ("resume", options.resume),
        ("checkpoint-every", options.checkpoint_every),
        ("look-every", options.look_every),
        ("sparse", options.sparse),
    )
    for name, value in given:
        if value:
            message = f"--{name} needs --out, the folder of the run"
            raise UsageError(message)
