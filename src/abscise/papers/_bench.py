"""Bench: what every run needs: data read once, a place for its checkpoint, removal and proof."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor, nn

import abscise
from abscise._errors import NotEqualError
from abscise._inputs import Inputs
from abscise.compaction import Compaction
from abscise.papers._finished import notes_of
from abscise.papers._task import Task
from abscise.train import (
    Attach,
    Checkpoints,
    Data,
    Progress,
    Recipe,
    Run,
    Trained,
    accuracy,
    data_for,
    fit,
    run_of,
)

EXAMPLES = 64
VERIFIED = 1000


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
        timed = Inputs((data.train.inputs[:EXAMPLES].clone(),))
        seen = Inputs((data.validation.inputs[:VERIFIED].clone(),))
        made = abscise.compact(dense, timed, verify_inputs=seen)
        certificate = made.certificate
        if not (certificate.passed or certificate.inconclusive):
            message = f"{task.label}: the compacted model is not the trained one: "
            raise NotEqualError(message + certificate.reason)
        before = abscise.measure(dense, timed, latency=False)
        after = abscise.measure(made.model, timed, latency=False)
        plan = made.plan
        needed = notes_of(
            task,
            validation_percent=_error(made.model, data.validation),
            dense_macs=_each(before.macs, before.batch),
            certified=certificate.passed,
        )
        return replace(
            run_of(trained, task.experiment),
            method=task.method,
            network=task.network,
            error_percent=_error(made.model, data.test),
            nonzero=after.nonzero,
            units=plan.units - plan.pinned_units,
            units_removed=plan.removed_units,
            macs=_each(after.macs, after.batch),
            bytes_on_disk=stored_bytes(made),
            notes={
                **needed,
                "strength": task.strength,
                "about": about,
                "parameters_left": after.parameters,
                "layers": {row.layer: [row.units, row.removed] for row in plan.layers},
                "certificate": certificate.to_json(),
            },
        )


def stored_bytes(compaction: Compaction) -> int:
    """Size of the weights' file of a saved model."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        abscise.save(folder, compaction)
        return (folder / "model.safetensors").stat().st_size


def clear(folder: Path) -> None:
    """Remove the folder of a finished run; one that cannot be removed harms nobody."""
    shutil.rmtree(folder, ignore_errors=True)


def example_of(recipe: Recipe, data: Data) -> Tensor:
    """A few examples, to capture the recipe's network with."""
    return data.train.inputs[: min(EXAMPLES, recipe.batch_size)].clone()


def _error(model: nn.Module, part: abscise.train.Split) -> float:
    return 100 * (1 - accuracy(model, part))


def _each(macs: int | None, batch: int) -> int | None:
    return None if macs is None else macs // batch
