"""The passes over one program, and the model facts that they leave behind."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from abscise._errors import CaptureError, InputError
from abscise._inputs import Inputs
from abscise.graph._batches import (
    ANY_BATCH,
    Batches,
    batches_of,
    one_row,
    same_program,
)
from abscise.graph._capture import Batch, capture
from abscise.graph._compact import varying
from abscise.graph._constants import ConstantPass
from abscise.graph._labels import LabelPass, Labels
from abscise.graph._liveness import LivenessPass
from abscise.graph._movement import PADS, is_movement, moved_values, sized_by_inputs, touched_dims
from abscise.graph._program import Program, Step
from abscise.graph.rules import Contract, Contraction, Rule, fold_static, rule_of


@dataclass(frozen=True, slots=True)
class Analysis:
    """A program with its rules, labels and constants."""

    program: Program
    rules: tuple[Rule, ...]
    labels: Labels
    constants: ConstantPass
    batches: Batches = ANY_BATCH
    alone: "Analysis | None" = None
    """The same of a batch of one row, where forward looks at the batch size."""

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
    analysis = analyse_program(capture(model, inputs))
    batches = batches_of(model, inputs, analysis.program)
    if not batches.free and not _as_given(analysis.program, inputs):
        analysis = analyse_program(capture(model, inputs, check=False, batch=Batch.AS_GIVEN))
        batches = batches_of(model, inputs, analysis.program)
    analysis = replace(analysis, batches=batches)
    return _with_one_row(analysis, model, inputs) if batches.looks else analysis


def _with_one_row(analysis: Analysis, model: nn.Module, inputs: Inputs) -> Analysis:
    """torch.export never sees a batch of one: where forward looks at the size, it comes apart."""
    single = one_row(inputs, analysis.program)
    try:
        alone = analyse_program(capture(model, single, check=False, batch=Batch.AS_GIVEN))
    except (CaptureError, InputError):
        alone = None
    if alone is not None and _same_analysis(analysis, alone):
        return replace(analysis, alone=alone)
    if alone is not None and _as_given(alone.program, inputs):
        return replace(alone, batches=batches_of(model, inputs, alone.program))
    known = analysis.batches
    return replace(analysis, batches=replace(known, conditions=("rows > 1", *known.conditions)))


def _same_analysis(left: Analysis, right: Analysis) -> bool:
    """The same program, and the same units in it."""
    a, b = left.labels, right.labels
    same = same_program(left.program, right.program) and np.array_equal(a.roots, b.roots)
    return same and b.pins.keys() <= a.pins.keys()


def _as_given(program: Program, inputs: Inputs) -> bool:
    """Was the program captured with just these shapes?"""
    shapes = [program.values[value].shape for value in program.inputs]
    return shapes == [tuple(tensor.shape) for tensor in inputs.tensors()]


def analyse_program(program: Program) -> Analysis:
    """Run the label and constant passes over a captured program."""
    rules = rules_of(program)
    constants = ConstantPass(program)
    constants_into(constants, program, rules)
    return Analysis(program, rules, label(program, rules), constants)


def constants_into(
    constants: ConstantPass,
    program: Program,
    rules: tuple[Rule, ...],
    enter: Callable[[Step, Rule], None] | None = None,
) -> None:
    """Run the constant pass; `enter` is told each step before its rule."""
    for step, rule in zip(program.steps, rules, strict=True):
        if enter is not None:
            enter(step, rule)
        if _known_whatever_size(constants, step) and not fold_static(constants, step, rule):
            rule.constants(constants, step)


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


def _known_whatever_size(ctx: ConstantPass, step: Step) -> bool:
    """May constants go through? Not where the batch size decides which, or how large they are."""
    if not sized_by_inputs(step):
        return True
    if not is_movement(ctx.program, step) or step.op in PADS:
        return False
    dims = touched_dims(ctx.program, step)
    sources = [ctx.known(value) for value in moved_values(step)]
    return dims is not None and all(
        known is None or not set(dims) & {*varying(known.kind), *varying(known.value)}
        for known in sources
    )


def _pin_touched(ctx: LabelPass, step: Step) -> None:
    """How many elements are taken, or which, follows the batch size: units along there stay."""
    if not is_movement(ctx.program, step):
        return
    touched = touched_dims(ctx.program, step)
    for value in moved_values(step):
        for layer in ctx.layers(value):
            if touched is None or set(varying(layer)) & set(touched):
                ctx.pin(layer, f"the batch size decides in {step.where}")
