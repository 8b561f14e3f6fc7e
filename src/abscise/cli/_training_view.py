"""What a training run looks like: a live bar on a terminal, plain lines elsewhere."""

from collections.abc import Mapping

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.text import Text

from abscise.cli._live_view import LiveView
from abscise.train import Dying, Progress

PLAIN_LINES = 10


class TrainingView(LiveView):
    """Shows every `Progress`; as a context manager it owns the terminal's live area."""

    _tenths = 0

    def show(self, progress: Progress) -> None:
        """Show one state; without a terminal about ten of a run."""
        left = self._left(progress.step, progress.steps)
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
