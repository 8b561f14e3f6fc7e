"""What a training run looks like: a live bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from abscise.train import Dying, Progress

PLAIN_LINES = 10


class TrainingView:
    """Shows every `Progress`; as a context manager it owns the terminal's live area."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: tuple[int, float] | None = None
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._tenths = 0

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
        """Leave the last state on the screen."""
        if self._live is not None:
            self._live.stop()

    def show(self, progress: Progress) -> None:
        """Show one state; without a terminal about ten of a run."""
        left = self._left(progress)
        if self._live is not None:
            bar = ProgressBar(total=progress.steps, completed=progress.step, width=40)
            lines = [Text(headline(progress) + left), Text(dying_line(progress.layers))]
            self._live.update(Group(bar, *lines), refresh=True)
            return
        tenths = PLAIN_LINES * progress.step // progress.steps
        if tenths > self._tenths:
            self._tenths = tenths
            line = f"{headline(progress)}{left}  {dying_line(progress.layers)}"
            self._console.print(line, soft_wrap=True)

    def _left(self, progress: Progress) -> str:
        """How long it will take, by the speed since the first state that was shown."""
        now = self._clock()
        if self._first is None:
            self._first = (progress.step, now)
        step, then = self._first
        if progress.step in {step, progress.steps}:
            return ""
        seconds = (now - then) / (progress.step - step) * (progress.steps - progress.step)
        minutes, rest = divmod(round(seconds), 60)
        return f"  left {minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def headline(progress: Progress) -> str:
    """Epoch, step, loss, accuracy and learning rate."""
    epoch = f"epoch {progress.epoch}/{progress.epochs}  " if progress.epochs else ""
    return (
        f"{epoch}step {progress.step:,}/{progress.steps:,}  loss {progress.loss:.4f}  "
        f"accuracy {100 * progress.accuracy:.1f} %  rate {progress.learning_rate:.1e}"
    )


def dying_line(layers: Mapping[str, Dying]) -> str:
    """Dying units of all units, per layer."""
    return "dying: " + "  ".join(f"{name} {it.dying}/{it.units}" for name, it in layers.items())
