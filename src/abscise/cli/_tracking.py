"""The tracker of a training run: how it is attached, where its lines go, what a report takes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from torch import Tensor, nn
from torch.optim import Optimizer

from abscise._errors import InputError, ModelError
from abscise.cli._training_report import evenly
from abscise.implicit import (
    Activity,
    Firing,
    JsonLines,
    Look,
    Record,
    Sink,
    Track,
    Tracker,
    read_track,
    track_of,
)
from abscise.train import Attachment, Checkpoints, Data, Recipe, Split, limited

UNITS_FILE = "units.jsonl"
MOST_COUNTS = 4_000  # records times layers that a report holds
_BATCH = 256  # examples of a pass over data at a time


@dataclass(frozen=True, slots=True, eq=False)
class _Batches:
    """Pairs of inputs and labels, again at each pass; copies, as a network may work in place."""

    split: Split
    size: int

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """From the first example on."""
        for start in range(0, len(self.split), self.size):
            chosen = slice(start, start + self.size)
            yield self.split.inputs[chosen].clone(), self.split.labels[chosen]


class _Untracked:
    """Stands for the tracker of a network that cannot be watched."""

    def state_dict(self) -> Mapping[str, object]:
        """Nothing."""
        return {}

    def load_state_dict(self, _state: dict[str, object], /) -> None:
        """Nothing to do."""


class RunTracker:
    """Attaches a tracker to one run: a record after each epoch, a pass over the data now and then.

    Args:
        recipe: Of the run.
        data: Of the run; passes see all of its training part.
        look_every: Epochs between two passes; None: one, after the last.
        console: Is told what each pass found, and how long it took.
        checkpoints: Where the run is kept; the lines go beside its checkpoint. None: they are kept
            in memory.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: Data,
        look_every: int | None,
        console: Console,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self._train = limited(data, recipe.limit).train
        self._per_epoch = max(len(self._train) // recipe.batch_size, 1)
        self._look_every = min(look_every or recipe.epochs, recipe.epochs)
        self._console = console
        self._seen: list[Record | Activity] = []
        self._path = None if checkpoints is None else checkpoints.folder / UNITS_FILE

    def attach(self, model: nn.Module, optimizer: Optimizer) -> Attachment:
        """The tracker of this network and optimizer, as `fit` asks for it.

        A network that cannot be watched is trained all the same, and it is said why.
        """
        batches = _Batches(self._train, min(_BATCH, len(self._train)))
        look = Look(batches, every=self._look_every * self._per_epoch, labelled=True)
        kept: Sink = self._seen.append if self._path is None else JsonLines(self._path)
        for chosen in (look, None):
            try:
                return Tracker(
                    model,
                    self._train.inputs[:2].clone(),
                    optimizer,
                    every=self._per_epoch,
                    look=chosen,
                    sinks=[kept, self._tell],
                )
            except (InputError, ModelError) as problem:
                without = "no pass over the data" if chosen else "no tracker"
                self._console.print(f"{without}: {problem}", soft_wrap=True)
        return _Untracked()

    def track(self) -> Track | None:
        """What was noted, few enough records for a report; None where there is none.

        Raises:
            StoreError: The file holds what is none of ours.
        """
        if self._path is None:
            found = track_of(self._seen)
        elif self._path.exists():
            found = read_track(self._path)
        else:
            return None
        return thinned_track(found) if found.weights or found.activity else None

    def _tell(self, record: Record | Activity) -> None:
        if isinstance(record, Activity):
            self._console.print(str(record), soft_wrap=True)


def thinned_track(track: Track) -> Track:
    """About evenly chosen records, the first and the last among them: a report stays small."""
    weights, activity = track.weights, track.activity
    return Track(
        tuple(evenly(weights, _most(weights))),
        tuple(evenly(activity, _most(activity))),
    )


def _most(records: Sequence[Record] | Sequence[Firing]) -> int:
    """How many records of so many layers a report holds, ten at least."""
    return max(10, MOST_COUNTS // max(len(records[-1].layers), 1)) if records else 10
