"""The passes over one program, and the model facts that they leave behind."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from abscise._inputs import Inputs
from abscise.graph._capture import capture
from abscise.graph._compact import varying
from abscise.graph._constants import ConstantPass
from abscise.graph._labels import LabelPass, Labels
from abscise.graph._liveness import LivenessPass
from abscise.graph._movement import is_movement, moved_values, sized_by_inputs, touched_dims
from abscise.graph._program import Program, Step
from abscise.graph.rules import Contract, Contraction, Rule, fold_static, rule_of


@dataclass(frozen=True, slots=True)
class Analysis:
    """A program with its rules, labels and constants."""

    program: Program
    rules: tuple[Rule, ...]
    labels: Labels
    constants: ConstantPass

    @property
    def contractions(self) -> dict[int, Contraction]:
        """Step position -> the contraction that it is."""
        return {
            position: rule.contraction
            for position, rule in enumerate(self.rules)
            if isinstance(rule, Contract)
        }

    def liveness(
        self,
        kept: NDArray[np.bool_],
        excused: Mapping[int, Tensor],
        demanded: Mapping[int, Tensor],
    ) -> LivenessPass:
        """One backward pass for a given set of kept units."""
        ctx = LivenessPass(self.program, self.labels, self.constants, kept, excused, demanded)
        for position in range(len(self.program.steps) - 1, -1, -1):
            step = self.program.steps[position]
            ctx.position = position
            self.rules[position].liveness(ctx, step, [ctx.needed(out) for out in step.outputs])
        return ctx


def analyse(model: nn.Module, inputs: Inputs) -> Analysis:
    """Capture the model and run the label and constant passes."""
    return analyse_program(capture(model, inputs))


def analyse_program(program: Program) -> Analysis:
    """Run the label and constant passes over a captured program."""
    rules = rules_of(program)
    constants = ConstantPass(program)
    for step, rule in zip(program.steps, rules, strict=True):
        if not sized_by_inputs(step) and not fold_static(constants, step, rule):
            rule.constants(constants, step)
    return Analysis(program, rules, label(program, rules), constants)


def rules_of(program: Program) -> tuple[Rule, ...]:
    """The rule of each step."""
    static = program.static
    return tuple(rule_of(program, step, static) for step in program.steps)


def label(program: Program, rules: tuple[Rule, ...]) -> Labels:
    """Run the label pass."""
    ctx = LabelPass(program)
    for position, (step, rule) in enumerate(zip(program.steps, rules, strict=True)):
        ctx.position = position
        if sized_by_inputs(step):
            _pin_touched(ctx, step)
        rule.labels(ctx, step)
    return ctx.finish()


def _pin_touched(ctx: LabelPass, step: Step) -> None:
    """How many elements are taken, or which, follows the batch size: units along there stay."""
    if not is_movement(ctx.program, step):
        return
    touched = touched_dims(ctx.program, step)
    for value in moved_values(step):
        for layer in ctx.layers(value):
            if touched is None or set(varying(layer)) & set(touched):
                ctx.pin(layer, f"the batch size decides in {step.where}")
