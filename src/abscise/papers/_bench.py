"""Bench: what every run needs: data read once, a place for its checkpoint, removal and proof."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor, nn

from abscise.papers._shipping import EXAMPLES, errors_on, line_of, ship_state
from abscise.papers._task import Task
from abscise.train import (
    Attach,
    Checkpoints,
    Data,
    Progress,
    Recipe,
    Run,
    Trained,
    data_for,
    fit,
)


def _nobody(_progress: Progress) -> None:
    """Watch nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Shelf:
    """The data sets of this process: each is read once.

    Args:
        root: As in `load_data`.
    """

    root: Path | None = None
    held: dict[tuple[str, int], Data] = field(default_factory=dict)

    def data(self, recipe: Recipe) -> Data:
        """The recipe's data."""
        key = (recipe.data, recipe.limit)
        if key not in self.held:
            self.held[key] = data_for(recipe, self.root)
        return self.held[key]


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """Where one run is made.

    Args:
        shelf: Of the data.
        folder: For the checkpoints of this run; a run that left one there goes on from it.
        observer: Sees the training.
        device: As torch names it.
    """

    shelf: Shelf
    folder: Path
    observer: Callable[[Progress], None] = _nobody
    device: str = "cpu"

    def train(self, recipe: Recipe, attachments: Sequence[Attach] = ()) -> Trained:
        """Train, or go on with the training that an earlier process left.

        Raises:
            Interrupted: Somebody asked the process to stop; a checkpoint is kept.
        """
        recipe = replace(recipe, device=self.device)
        begun = any(self.folder.glob("checkpoint.*")) if self.folder.is_dir() else False
        return fit(
            recipe,
            data=self.shelf.data(recipe),
            observer=self.observer,
            checkpoints=Checkpoints(self.folder, resume=begun),
            attachments=attachments,
        )

    def ship(
        self,
        task: Task,
        trained: Trained,
        *,
        model: nn.Module | None = None,
        about: str = "",
    ) -> Run:
        """Compact, prove, measure: the line of this run.

        The test part is read here, once more after `fit`, by the model that is shipped; nothing is
        chosen by it.

        Args:
            task: What was done.
            trained: What came of it.
            model: What to compact instead of the trained network, such as a snapped copy of it.
            about: What made the network sparse, in words.

        Raises:
            NotEqualError: The compacted model does not give the outputs of the trained one.
        """
        data = trained.data
        dense = (trained.model if model is None else model).cpu().eval()
        found = ship_state(dense, data, task.label, sparse=False)
        validation, test = (errors_on([found.model], it)[0] for it in (data.validation, data.test))
        notes = {
            "strength": task.strength,
            "about": about,
            "layers": {row.layer: [row.units, row.removed] for row in found.plan.layers},
        }
        return line_of(task, trained, found, validation=validation, test=test, notes=notes)


def clear(folder: Path) -> None:
    """Remove the folder of a finished run; one that cannot be removed harms nobody."""
    shutil.rmtree(folder, ignore_errors=True)


def example_of(recipe: Recipe, data: Data) -> Tensor:
    """A few examples, to capture the recipe's network with."""
    return data.train.inputs[: min(EXAMPLES, recipe.batch_size)].clone()
