"""Shipping: the kept states of a run: tested once, made smaller, proved and measured."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

import abscise
from abscise._errors import NotEqualError
from abscise._inputs import Inputs
from abscise.compaction import Plan
from abscise.papers._finished import notes_of
from abscise.papers._task import Task
from abscise.store import file_bytes
from abscise.train import Data, Run, Split, Trained, accuracy, run_of

EXAMPLES = 64
VERIFIED = 1000

State = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Shipped:
    """A state without its dead units, and the proof that it gives the same outputs.

    Args:
        model: The compacted one.
        nonzero: Its parameters that are not 0.
        parameters: All of them.
        plan: What went.
        macs: Of the compacted network, for one example; None where they cannot be counted.
        dense_macs: The same of the dense network.
        bytes_on_disk: Of the compacted weights' file.
        certificate: The proof.
    """

    model: nn.Module
    nonzero: int
    parameters: int
    plan: Plan
    macs: int | None
    dense_macs: int | None
    bytes_on_disk: int
    certificate: abscise.Certificate

    @property
    def units(self) -> int:
        """Units of the dense network that may go."""
        return self.plan.units - self.plan.pinned_units

    @property
    def units_removed(self) -> int:
        """How many are gone."""
        return self.plan.removed_units

    def figures(self) -> dict[str, object]:
        """For a recorded run."""
        return {
            "nonzero": self.nonzero,
            "parameters": self.parameters,
            "units_removed": self.units_removed,
            "macs": self.macs,
            "bytes_on_disk": self.bytes_on_disk,
            "certified": self.certificate.passed,
        }


def with_state(model: nn.Module, state: State) -> nn.Module:
    """A copy of the model on the CPU, in eval mode, with other weights."""
    copied = copy.deepcopy(model).cpu().eval()
    _ = copied.load_state_dict(state)
    return copied


def ship_state(model: nn.Module, data: Data, label: str, *, sparse: bool = True) -> Shipped:
    """Compact, prove, measure. The test part is not read.

    Args:
        model: Dense, with zeros; on the CPU.
        data: Examples of the training part to capture with, of the validation part to prove with.
        label: Of the run, for the error.
        sparse: Is the weights' file one in which zeros take next to no space?

    Raises:
        NotEqualError: The compacted model does not give the same outputs.
    """
    timed = Inputs((data.train.inputs[:EXAMPLES].clone(),))
    seen = Inputs((data.validation.inputs[:VERIFIED].clone(),))
    made = abscise.compact(model, timed, verify_inputs=seen)
    certificate = made.certificate
    if not (certificate.passed or certificate.inconclusive):
        message = f"{label}: the compacted model is not the trained one: {certificate.reason}"
        raise NotEqualError(message)
    before = abscise.measure(model, timed, latency=False)
    after = abscise.measure(made.model, timed, latency=False)
    return Shipped(
        model=made.model,
        nonzero=after.nonzero,
        parameters=after.parameters,
        plan=made.plan,
        macs=_each(after.macs, after.batch),
        dense_macs=_each(before.macs, before.batch),
        bytes_on_disk=file_bytes(made.model, sparse=sparse),
        certificate=certificate,
    )


def line_of(
    task: Task,
    trained: Trained,
    found: Shipped,
    *,
    validation: float,
    test: float,
    notes: Mapping[str, Any],
) -> Run:
    """The line of a run.

    Args:
        task: What was done.
        trained: What came of it.
        found: What is shipped.
        validation: Its error on the validation part in percent.
        test: The same on the test part.
        notes: Whatever else the experiment notes.
    """
    needed = notes_of(
        task,
        validation_percent=validation,
        dense_macs=found.dense_macs,
        certified=found.certificate.passed,
    )
    return replace(
        run_of(trained, task.experiment),
        method=task.method,
        network=task.network,
        error_percent=test,
        nonzero=found.nonzero,
        units=found.units,
        units_removed=found.units_removed,
        macs=found.macs,
        bytes_on_disk=found.bytes_on_disk,
        notes={
            **needed,
            **notes,
            "parameters_left": found.parameters,
            "certificate": found.certificate.to_json(),
        },
    )


def errors_on(models: Sequence[nn.Module], part: Split) -> list[float]:
    """The percentage of `part` that each model gets wrong."""
    return [100 * (1 - accuracy(model, part)) for model in models]


def _each(macs: int | None, batch: int) -> int | None:
    return None if macs is None else macs // batch
