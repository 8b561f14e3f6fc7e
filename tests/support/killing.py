"""A training run in a process of its own, which a test can kill: `python -m support.killing`."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from abscise.store import _atomic
from abscise.train import (
    Augment,
    Checkpoints,
    Data,
    ModelName,
    Progress,
    Recipe,
    Split,
    Trained,
    fit,
)

STAGES = ("half", "written", "renamed")
"""Where in the writing of a checkpoint the process kills itself."""


def made() -> Data:
    """60 + 20 + 20 random images of three classes."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(100, 1, 8, 8, generator=generator)
    labels = torch.randint(0, 3, (100,), generator=generator)
    sizes = [60, 20, 20]
    parts = zip(inputs.split(sizes), labels.split(sizes), strict=True)
    return Data("support.killing:made", 3, *(Split(x, y) for x, y in parts))


RECIPE = Recipe(
    name="killed",
    data="support.killing:made",
    shape=(1, 8, 8),
    classes=3,
    augment=Augment.CROP_FLIP,
    model=ModelName.CONV,
    widths=(4, 4),
    hidden=(8,),
    weight_decay=1e-3,
    epochs=10,
    batch_size=30,
    drops=(0.5,),
    report_every=1,
)


def say(progress: Progress) -> None:
    """Tell the parent process which step is done."""
    _ = sys.stdout.write(f"step {progress.step}\n")
    _ = sys.stdout.flush()


def run(folder: Path, *, resume: bool) -> Trained:
    """The run, with a checkpoint after every step; each step is printed."""
    return fit(
        RECIPE,
        data=made(),
        observer=say,
        checkpoints=Checkpoints(folder, every=1, resume=resume),
    )


def kill_while_writing(stage: str, count: int) -> None:
    """Kill this process at `stage` of the `count`-th checkpoint; the first one is before step 1."""
    left = [count]
    write, flush = _atomic._write_file, _atomic._flush_parent

    def now(path: Path) -> bool:
        left[0] -= ".checkpoint." in path.name
        return left[0] == 0

    def write_file(path: Path, content: bytes) -> None:
        if now(path):
            if stage == "half":
                content = content[: len(content) // 2]
            write(path, content)
            if stage != "renamed":
                die()
        else:
            write(path, content)

    def flush_parent(path: Path) -> None:
        if left[0] == 0 and path.name.startswith("checkpoint."):
            die()
        flush(path)

    patched: Any = _atomic
    patched._write_file, patched._flush_parent = write_file, flush_parent


def die() -> None:
    """No handler, no clean-up."""
    os.kill(os.getpid(), signal.SIGKILL)


def main(folder: str, stage: str, count: str, how: str) -> None:
    """Train in `folder` until the end, or until killed."""
    torch.set_num_threads(1)
    if stage in STAGES:
        kill_while_writing(stage, int(count))
    _ = run(Path(folder), resume=how == "resume")


if __name__ == "__main__":
    main(*sys.argv[1:])
