"""Where a tracker's records go: any function; a file of JSON lines; TensorBoard."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from abscise._errors import StoreError
from abscise._lines import append_line
from abscise.implicit._activity import Activity
from abscise.implicit._records import Record

Sink = Callable[[Record | Activity], object]
"""Is called with every record; what it raises stops the training."""


class Writer(Protocol):
    """What is needed of a TensorBoard writer, or of one like it."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int, /) -> Any:
        """Note one number."""
        ...


class JsonLines:
    """Appends each record to a file, as one whole line of JSON; `read_track` reads it.

    A file holds one run. That of an earlier one is gone on with by `Tracker.load_state_dict` only.

    Args:
        path: Is made if it is missing, with its folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ours = False

    def __call__(self, record: Record | Activity) -> None:
        """Append the line.

        Raises:
            StoreError: It cannot be written, or holds an earlier run; the file is as it was.
        """
        if not self._ours:
            self._refuse_earlier()
            self._ours = True
        line = json.dumps(record.to_json(), allow_nan=False) + "\n"
        append_line(self._path, line.encode())

    def rewind(self, step: int) -> None:
        """Cut the last lines off that are about later steps: a resumed run writes them again.

        What a lost power supply left of a last line goes, too.

        Raises:
            StoreError: The file cannot be read or cut, or a line of its end is none of ours.
        """
        with self._continuing():
            content = self._path.read_bytes() if self._path.exists() else b""
            lines = content.splitlines(keepends=True)
            if lines and not lines[-1].endswith(b"\n") and _begins_as_ours(lines[-1]):
                _ = lines.pop()
            while lines and json.loads(lines[-1])["step"] > step:
                _ = lines.pop()
            kept = sum(map(len, lines))
            if kept < len(content):
                with self._path.open("r+b") as file:
                    _ = file.truncate(kept)
        self._ours = True

    def _refuse_earlier(self) -> None:
        with self._continuing():
            earlier = self._path.exists() and self._path.stat().st_size > 0
        if earlier:
            message = f"{self._path} holds an earlier run: name another file, or delete that one"
            raise StoreError(message)

    @contextmanager
    def _continuing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as problem:
            message = f"{self._path}: cannot be continued ({type(problem).__name__}: {problem})"
            raise StoreError(message) from problem


def _begins_as_ours(line: bytes) -> bool:
    start = b'{"format": 1, "kind": "'
    return line[: len(start)] == start[: len(line)]


class TensorBoard:
    """Gives a writer of yours the share of dead units and, where known, of silent ones.

    Args:
        writer: Such as `torch.utils.tensorboard.SummaryWriter`; it stays yours to close.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def __call__(self, record: Record | Activity) -> None:
        """Note one number for each layer and figure."""
        add = self._writer.add_scalar
        if isinstance(record, Activity):
            for active in record.layers:
                _ = add(f"silent/{active.layer}", active.silent / len(active.peaks), record.step)
                if active.mean_selectivity is not None:
                    _ = add(f"selectivity/{active.layer}", active.mean_selectivity, record.step)
            return
        for layer in record.layers:
            share = layer.dead[record.threshold] / layer.units
            _ = add(f"dead/{layer.layer}", share, record.step)
            _ = add(f"revived/{layer.layer}", layer.revived, record.step)
            if layer.gradient_to_decay is not None:
                _ = add(f"gradient_to_decay/{layer.layer}", layer.gradient_to_decay, record.step)
