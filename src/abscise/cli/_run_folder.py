"""The folder of a training run, beside that of its model, and the command that goes on with it.

`OUT.training` holds the checkpoint and one line per epoch. It stays when the run is done: the
checkpoint is the only place with the dense network. An empty file says that its model is in OUT.
"""

import os
import shlex
from pathlib import Path

from abscise._errors import StoreError
from abscise.cli._options import TrainOptions
from abscise.cli._usage import UsageError
from abscise.store import refuse_foreign
from abscise.train import Checkpoints

FINISHED = "finished"


def open_run(options: TrainOptions) -> Checkpoints | None:
    """Where the run of `options` is kept; None without --out.

    Raises:
        UsageError: Options that do not go together, or a run that is finished.
        StoreError: OUT could not take the model, which nobody wants to hear after the training.
    """
    if options.out is None:
        _refuse_options(options)
        return None
    out = options.out if options.out.name.strip(".") else options.out.resolve()
    if not out.name:
        message = f"--out {options.out}: name a folder in it"
        raise UsageError(message)
    refuse_foreign(out)
    folder = out.with_name(f"{out.name}.training")
    mark = folder / FINISHED
    if not options.resume:
        _remove(mark)
    elif mark.exists() and (out / "plan.json").exists():
        message = f"--resume: the run is finished, and its model is in {options.out}"
        raise UsageError(message)
    return Checkpoints(folder, options.checkpoint_every, options.resume)


def finish_run(checkpoints: Checkpoints | None) -> None:
    """Note that the model of this run is saved; without the note a resume saves it again."""
    if checkpoints is not None:
        mark = checkpoints.folder / FINISHED
        try:
            mark.touch()
        except OSError as problem:
            message = f"cannot write {mark}: {problem.strerror or problem}"
            raise StoreError(message) from problem


def resuming(options: TrainOptions) -> str:
    """The command that goes on with the run of `options`, from the same folder."""
    given = {
        "--control": [options.control],
        "--set": options.set,
        "--out": [options.out],
        "--checkpoint-every": [options.checkpoint_every],
        "--log": [options.log],
        "--record": [options.record],
        "--data-root": [options.data_root],
    }
    pairs = [(name, str(of)) for name, values in given.items() for of in values if of is not None]
    flat = [text for pair in pairs for text in pair]
    return shlex.join(["abscise", "train", options.recipe, *flat, "--resume"])


def check_record(path: Path | None) -> None:
    """Whether a line can be appended to `path`: asked before the training, not after.

    Raises:
        UsageError: It cannot.
    """
    if path is None:
        return
    found = next(it for it in (path, *path.absolute().parents) if it.exists())
    fits = found.is_file() if found == path else found.is_dir()
    if not fits or not os.access(found, os.W_OK):
        message = f"--record {path}: {found} is in the way, or cannot be written"
        raise UsageError(message)


def _refuse_options(options: TrainOptions) -> None:
    given = (("resume", options.resume), ("checkpoint-every", options.checkpoint_every))
    for name, value in given:
        if value:
            message = f"--{name} needs --out, the folder of the run"
            raise UsageError(message)


def _remove(mark: Path) -> None:
    try:
        mark.unlink(missing_ok=True)
    except OSError as problem:
        message = f"cannot remove {mark}: {problem.strerror or problem}"
        raise StoreError(message) from problem
