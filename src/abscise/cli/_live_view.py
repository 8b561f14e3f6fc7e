"""A view of long work: on a terminal a live area, which it owns, and how long it will take."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live


class LiveView:
    """A context manager that owns the terminal's live area; without a terminal there is none."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._first: tuple[int, float] | None = None

    def __enter__(self) -> Self:
        """Start the live area."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the last state on the screen."""
        if self._live is not None:
            self._live.stop()

    def _left(self, done: int, of: int) -> str:
        """How long it will take, by the speed since this was first asked."""
        now = self._clock()
        if self._first is None:
            self._first = (done, now)
        first, then = self._first
        if done in {first, of}:
            return ""
        seconds = (now - then) / (done - first) * (of - done)
        minutes, rest = divmod(round(seconds), 60)
        return f"  left {minutes // 60}:{minutes % 60:02d}:{rest:02d}"
