"""Where the loop is: what it remembers between two steps, as JSON and tensors and back."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import torch
from torch import Tensor

from abscise._errors import StoreError
from abscise._json import Fields, read_fields
from abscise.train._progress import Dying, Progress

COURSE = ("step", "steps", "elapsed_s", "history", "epochs")


@dataclass(frozen=True, slots=True)
class Epoch:
    """One finished epoch: a line of `epochs.jsonl`.

    Args:
        epoch: Counts from 1.
        step: Steps done at its end.
        loss: Mean over its batches.
        accuracy: On the validation part, in [0, 1].
        learning_rate: Of its last step.
        dying: Units about to vanish, see `dying_units`.
        units: Units that were looked at.
        wall_s: Seconds since the start, without the time between an interruption and its resume.
    """

    epoch: int
    step: int
    loss: float
    accuracy: float
    learning_rate: float
    dying: int
    units: int
    wall_s: float


def epoch_of(progress: Progress, loss: float, wall_s: float) -> Epoch:
    """The line of the epoch that `progress` ends; `loss` is the mean over its batches."""
    layers = progress.layers.values()
    return Epoch(
        progress.epoch,
        progress.step,
        loss,
        progress.accuracy,
        progress.learning_rate,
        sum(layer.dying for layer in layers),
        sum(layer.units for layer in layers),
        wall_s,
    )


@dataclass(slots=True, eq=False)
class Course:
    """What the loop remembers between two steps.

    Args:
        step: Steps done.
        order: Of the examples in the current epoch, on the device.
        loss_sum: Of the current epoch's batches, on the device; NaN or infinite if one of them is.
        history: The reports so far.
        epochs: The finished epochs, where they are written down.
        elapsed_s: Seconds of training before this process.
    """

    step: int
    order: Tensor
    loss_sum: Tensor
    history: list[Progress]
    epochs: list[Epoch]
    elapsed_s: float

    @classmethod
    def start(cls, device: torch.device) -> "Course":
        """Before the first step."""
        order = torch.empty(0, dtype=torch.int64, device=device)
        return cls(0, order, torch.zeros((), device=device), [], [], 0.0)

    def to_json(self, steps: int, elapsed_s: float) -> dict[str, object]:
        """All but the tensors; `elapsed_s` up to now."""
        history = [asdict(progress) for progress in self.history]
        epochs = [asdict(epoch) for epoch in self.epochs]
        values = (self.step, steps, elapsed_s, history, epochs)
        return dict(zip(COURSE, values, strict=True))


def read_course(
    value: Mapping[str, object],
    tensors: Mapping[str, object],
    where: str,
    course: Course,
    sizes: tuple[int, int],
) -> Course:
    """What `to_json` gave; the tensors go to the device of those in `course`.

    Args:
        value: Fields.
        tensors: The order of the examples, and the sum of the losses.
        where: For errors.
        course: At the start.
        sizes: (steps, examples) of this run.

    Raises:
        StoreError: A field is missing, impossible, or not of this run.
    """
    known = read_fields(value, COURSE, where, StoreError)
    steps, examples = sizes
    _ = known.integer("steps", steps, steps)
    read = Course(
        known.integer("step", 0, steps),
        *_tensors(tensors, where, course, examples),
        [_progress(item) for item in known.objects("history", _names(Progress))],
        [_epoch(item) for item in known.objects("epochs", _names(Epoch))],
        known.number("elapsed_s"),
    )
    if read.step and not len(read.order):
        message = f"{where}: the order of the examples is missing at step {read.step}"
        raise StoreError(message)
    seen = [progress.step for progress in read.history]
    if seen != sorted(set(seen)) or seen[-1:] > [read.step]:
        message = f"{where}: history must have rising steps up to {read.step}, got {seen[-3:]}"
        raise StoreError(message)
    return read


def _tensors(
    tensors: Mapping[str, object], where: str, course: Course, examples: int
) -> tuple[Tensor, Tensor]:
    order, loss_sum = tensors.get("order"), tensors.get("loss_sum")
    if not isinstance(order, Tensor) or not isinstance(loss_sum, Tensor) or loss_sum.ndim:
        message = f"{where}: the order of the examples or the sum of the losses is missing"
        raise StoreError(message)
    whole = torch.arange(examples)
    fits = order.dtype == torch.int64 and (
        order.shape == (0,) or torch.equal(order.sort().values, whole)
    )
    if not fits or not loss_sum.is_floating_point():
        message = f"{where}: the order of the examples must have each of {examples} once"
        raise StoreError(message)
    return order.to(course.order), loss_sum.to(course.loss_sum)


def _progress(item: Fields) -> Progress:
    layers = {
        name: Dying(counts.integer("dying"), counts.integer("units"))
        for name, value in item.mapping("layers").items()
        for counts in [read_fields(value, _names(Dying), f"{item.where}: {name}", StoreError)]
    }
    return Progress(
        item.integer("step"),
        item.integer("steps"),
        item.number("loss"),
        item.number("accuracy"),
        item.number("learning_rate"),
        layers,
        item.integer("epoch"),
        item.integer("epochs"),
    )


def _epoch(item: Fields) -> Epoch:
    return Epoch(
        item.integer("epoch"),
        item.integer("step"),
        item.number("loss"),
        item.number("accuracy"),
        item.number("learning_rate"),
        item.integer("dying"),
        item.integer("units"),
        item.number("wall_s"),
    )


def _names(kind: type) -> tuple[str, ...]:
    return tuple(entry.name for entry in fields(kind))
