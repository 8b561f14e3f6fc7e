"""What a sweep looks like: one line per finished run, and on a terminal a live line below."""

from types import TracebackType

from rich.text import Text
from typing_extensions import override

from abscise.cli._live_view import LiveView
from abscise.papers import Finished, Moment, Stage


class ReproduceView(LiveView):
    """Shows every `Moment`; as a context manager it owns the terminal's live area."""

    @override
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Clear the live area: what is finished stands above it."""
        if self._live is not None:
            self._live.update(Text(""))
        super().__exit__(kind, error, trace)

    def show(self, moment: Moment) -> None:
        """Show one moment."""
        left = self._left(moment.done, moment.of)
        if moment.finished is not None:
            line = f"[{moment.done}/{moment.of}] {finished_line(moment.finished)}"
            self._console.print(line + left, soft_wrap=True)
        elif moment.stage is Stage.FAILED:
            self._console.print(f"failed: {moment.task.label}: {moment.problem}", soft_wrap=True)
        elif self._live is not None:
            self._live.update(Text(_now(moment)), refresh=True)


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
