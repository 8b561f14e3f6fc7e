"""What a rule is: how one kind of operation treats labels, constants and liveness."""

from typing import Protocol

from torch import Tensor

from abscise.graph._constants import ConstantPass
from abscise.graph._labels import LabelPass
from abscise.graph._liveness import LivenessPass
from abscise.graph._program import Step


class Rule(Protocol):
    """One kind of operation. Knowing nothing is always right: then less is removed."""

    def labels(self, ctx: LabelPass, step: Step) -> None:
        """Give layers to the outputs; join, pin and write labels."""

    def constants(self, ctx: ConstantPass, step: Step) -> None:
        """Give what is known of the outputs."""

    def liveness(self, ctx: LivenessPass, step: Step, needed: list[Tensor | None]) -> None:
        """From the needed elements of the outputs to those of the inputs."""


class Unknown:
    """An operation without a rule: everything it touches is pinned and read."""

    def labels(self, ctx: LabelPass, step: Step) -> None:
        for value in step.inputs:
            ctx.pin_value(value, f"no rule for {step.where}")

    def constants(self, ctx: ConstantPass, step: Step) -> None:
        del ctx, step

    def liveness(self, ctx: LivenessPass, step: Step, needed: list[Tensor | None]) -> None:
        del needed
        for value in step.inputs:
            ctx.need_all(value)
