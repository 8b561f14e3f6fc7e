"""Ctrl-C and SIGTERM as a question that the loop answers when the batch is done."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop, finished its batch and saved a checkpoint; it can be resumed.

    Args:
        folder: With the checkpoint.
        step: Steps done.
        steps: Steps of the whole run.
    """

    def __init__(self, folder: Path, step: int, steps: int) -> None:
        super().__init__(f"stopped at step {step:,} of {steps:,}; the checkpoint is in {folder}")
        self.folder = folder
        self.step = step
        self.steps = steps


@dataclass(slots=True)
class Question:
    """Whether somebody has asked the run to stop."""

    asked: bool = False


@contextmanager
def interruptible(*, active: bool) -> Iterator[Question]:
    """Inside: the first Ctrl-C or SIGTERM only asks; the second one stops at once.

    Outside the main thread, where python gives no signals, and unless `active`: nothing changes.
    """
    question = Question()
    if not active or threading.current_thread() is not threading.main_thread():
        yield question
        return
    before = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)}

    def ask(_kind: int, _frame: FrameType | None) -> None:
        question.asked = True
        restore()

    def restore() -> None:
        for kind, handler in before.items():
            # None: a handler that was not set from python, which python cannot set again.
            _ = signal.signal(kind, signal.SIG_DFL if handler is None else handler)

    for kind in before:
        _ = signal.signal(kind, ask)
    try:
        yield question
    finally:
        restore()
