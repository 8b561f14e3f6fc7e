"""What a sweep looks like: one line per finished run, and on a terminal a live line below."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from abscise.papers import Finished, Moment, Stage


class ReproduceView:
    """Shows every `Moment`; as a context manager it owns the terminal's live area."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._first: tuple[int, float] | None = None

    def __enter__(self) -> Self:
        """Start the live area, where there is a terminal."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the live area."""
        if self._live is not None:
            self._live.update(Text(""))
            self._live.stop()

    def show(self, moment: Moment) -> None:
        """Show one moment."""
        if self._first is None:
            self._first = (moment.done, self._clock())
        if moment.finished is not None:
            line = f"[{moment.done}/{moment.of}] {finished_line(moment.finished)}"
            self._console.print(line + self._left(moment), soft_wrap=True)
        elif moment.stage is Stage.FAILED:
            self._console.print(f"failed: {moment.task.label}: {moment.problem}", soft_wrap=True)
        elif self._live is not None:
            self._live.update(Text(_now(moment)), refresh=True)

    def _left(self, moment: Moment) -> str:
        """How long it will take, by the speed since the first moment."""
        done, then = self._first or (0, 0.0)
        if moment.done <= done or moment.done == moment.of:
            return ""
        seconds = (self._clock() - then) / (moment.done - done) * (moment.of - moment.done)
        minutes, rest = divmod(round(seconds), 60)
        return f"  left {minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def finished_line(run: Finished) -> str:
    """One finished run in a line."""
    sure = "" if run.certified else "; the outputs are constant, so nothing could be certified"
    return (
        f"{run.task.label}: error {run.error_percent:.2f} %, {run.nonzero:,} of "
        f"{run.parameters:,} weights ({run.compression:.1f}x), {run.units_kept:,} of "
        f"{run.units:,} units left{sure}"
    )


def _now(moment: Moment) -> str:
    line = f"{moment.done} of {moment.of} done; {moment.task.label}"
    seen = moment.progress
    if seen is None:
        return line
    return f"{line}: step {seen.step:,} of {seen.steps:,}, accuracy {100 * seen.accuracy:.1f} %"
