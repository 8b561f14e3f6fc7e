"""Which parameters a gradient can reach, for any input and any loss, now and later.

Liveness asks whether a value is read; training asks more. gamma = 0 makes a unit a constant, but
with a positive beta gamma has a gradient, and the unit may revive. So this is a pass of its own:
forward, the constants that cannot be lost by training; backward, the elements to which some
gradient may flow. Batch norms are taken as they are in train mode.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from abscise.graph._analysis import Analysis, constants_into
from abscise.graph._compact import align, any_but, any_to, unvector
from abscise.graph._constants import CONSTANT, UNKNOWN, ConstantPass, Known, channel_view
from abscise.graph._labels import unit_ids
from abscise.graph._liveness import LivenessPass
from abscise.graph._program import Program, Step
from abscise.graph.rules import (
    BatchNorm,
    BorderPad,
    Contract,
    Contraction,
    Elementwise,
    Identity,
    Movement,
    Pool,
    Reduction,
    Rule,
    batch_norm_operands,
    channel_units,
    is_product,
    read_channels,
)

_FLAT = frozenset({"aten.relu.default", "aten.relu6.default"})
_SUMS = frozenset({"aten.add.Tensor"})
_PASS_ON = (Movement, Pool, Reduction, BorderPad, Identity)


class LastingConstants(ConstantPass):
    """Constants that rest on zeros and signs, never on sizes: 0, or not above 0 for ever.

    A sum of constants that happens to be 0 is not one of them, nor a floor, nor what a running mean
    says: decay moves each at its own pace, and in train mode a batch norm knows no running mean.
    """

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self._rule: Rule | None = None
        self._step: Step | None = None

    def enter(self, step: Step, rule: Rule) -> None:
        """The step whose rule gives constants next."""
        self._step, self._rule = step, rule

    def leave(self) -> None:
        """No step gives constants any more."""
        self._step = self._rule = None

    @override
    def known(self, value: int) -> Known | None:
        found = super().known(value)
        if found is not None and isinstance(self._rule, Contract):
            return Known(torch.where(found.value == 0, found.kind, UNKNOWN), found.value)
        return found

    @override
    def give(self, value: int, kind: Tensor, content: Tensor) -> None:
        lasts = content <= 0
        if isinstance(self._rule, Elementwise):
            assert self._step is not None
            lasts = lasts & self._elementwise(self._step, len(self.program.values[value].shape))
        super().give(value, torch.where(lasts, kind, UNKNOWN), content)

    def _elementwise(self, step: Step, rank: int) -> Tensor:
        """Where a result that is not above 0 follows from zeros and signs alone."""
        zeros, low = [], []
        for operand in step.inputs:
            found = super().known(operand)
            if found is None:
                found = Known(torch.zeros([1] * rank, dtype=torch.int8), torch.zeros([1] * rank))
            zeros.append(align(found.zero, rank))
            low.append(align((found.kind > UNKNOWN) & (found.value <= 0), rank))
        some, every, below = zeros[0], zeros[0], low[0]
        for zero, under in zip(zeros[1:], low[1:], strict=True):
            some, every, below = some | zero, every & zero, below & under
        if is_product(step):
            return some
        return below if _is_flat(step) or _is_plain_sum(step) else every


def lasting(analysis: Analysis, program: Program) -> Analysis:
    """The same analysis of other weights, `program`'s, with lasting constants only."""
    unread: set[int | None] = set()
    for step, rule in zip(analysis.program.steps, analysis.rules, strict=True):
        if isinstance(rule, BatchNorm):
            unread.update(batch_norm_operands(step)[3:])
    values = tuple(
        replace(entry, data=None) if value in unread and entry.data is not None else entry
        for value, entry in enumerate(program.values)
    )
    program = replace(program, values=values)
    constants = LastingConstants(program)
    constants_into(constants, program, analysis.rules, constants.enter)
    constants.leave()
    return replace(analysis, program=program, constants=constants)


def reached_units(analysis: Analysis) -> NDArray[np.bool_]:
    """Unit id -> may any of its parameters' slices get a gradient, for some input and some loss?

    A batch norm's running statistics are no parameters.
    """
    ctx = _backward(analysis)
    labels, program = analysis.labels, analysis.program
    found = np.zeros(len(labels.roots), dtype=bool)
    for position, c in analysis.contractions.items():
        mask = ctx.needed(program.steps[position].outputs[0])
        if mask is not None:
            found[_rows(analysis, c, mask)] = True
            found[_columns(analysis, c)] = True
    for (value, dim), ids in labels.axes.items():
        mask = ctx.needed(value)
        if mask is not None:
            received = any_but(mask, dim).expand(len(ids)).numpy()
            found[labels.roots[ids[received]]] = True
    return found


def _rows(analysis: Analysis, c: Contraction, mask: Tensor) -> NDArray[np.int64]:
    """Units whose incoming weights get a gradient: their output does."""
    labels = analysis.labels
    ids = labels.axes.get((c.weight, c.out_axis))
    if ids is None:
        return np.empty(0, dtype=np.int64)  # the weight is computed; what it is made of is reached
    received = any_but(mask, c.out_dim)
    if len(received) not in (1, len(ids)):  # transposed groups
        received = received.any().reshape(1)
    units: NDArray[np.int64] = labels.roots[ids[received.expand(len(ids)).numpy()]]
    return units


def _columns(analysis: Analysis, c: Contraction) -> NDArray[np.int64]:
    """Units whose outgoing weights get a gradient here: their value is not always 0."""
    units = channel_units(analysis.labels, analysis.program, c).numpy()
    known = analysis.constants.known(c.x)
    zero = np.zeros(len(units), dtype=bool)
    if known is not None:
        kind, value = channel_view(known, c.in_dim, len(units))
        zero = ((kind == CONSTANT) & (value == 0)).numpy()
    found: NDArray[np.int64] = units[~zero & (units >= 0)]
    ids = analysis.labels.axes.get((c.weight, c.in_axis))
    if c.groups > 1 and ids is not None and not zero.all():  # offsets within a group
        found = np.append(found, unit_ids(analysis.labels.roots, ids))
    return found[found >= 0]


def _backward(analysis: Analysis) -> LivenessPass:
    """What gradients reach; of the weights of contractions nothing is noted."""
    program = analysis.program
    every = np.ones(len(analysis.labels.roots), dtype=bool)
    ctx = LivenessPass(program, analysis.labels, analysis.constants, every, {}, {})
    for position in range(len(program.steps) - 1, -1, -1):
        step, rule = program.steps[position], analysis.rules[position]
        masks = [ctx.needed(output) for output in step.outputs]
        ctx.position = position
        if all(mask is None for mask in masks):
            continue
        if isinstance(rule, _PASS_ON):
            rule.liveness(ctx, step, masks)
        elif masks[0] is None or not _one_output(ctx, step, rule, masks[0]):
            for value in step.inputs:
                ctx.need_all(value)
    return ctx


def _one_output(ctx: LivenessPass, step: Step, rule: Rule, mask: Tensor) -> bool:
    """The gradient's way through the rules that know more; False for all others."""
    if isinstance(rule, Contract):
        return _contraction(ctx, rule.contraction, mask)
    if isinstance(rule, BatchNorm):
        return _batch_norm(ctx, step, mask)
    if isinstance(rule, Elementwise):
        return _elementwise(ctx, step, mask)
    return False


def _contraction(ctx: LivenessPass, c: Contraction, mask: Tensor) -> bool:
    entry = ctx.program.values[c.weight]
    read = None if entry.data is None else read_channels(ctx.constants, c, mask)
    if read is None:
        return False
    if c.bias is not None:
        ctx.need(c.bias, any_but(mask, c.out_dim))
    if bool(read.any()):
        ctx.need(c.x, unvector(read, c.in_dim, len(ctx.program.values[c.x].shape)))
    return True


def _batch_norm(ctx: LivenessPass, step: Step, mask: Tensor) -> bool:
    x, weight, bias, _, _ = batch_norm_operands(step)
    reached = any_but(mask, 1)
    for parameter in (weight, bias):
        if parameter is not None:
            ctx.need(parameter, reached)
    gamma = None if weight is None else ctx.constants.tensor(weight)
    if gamma is not None:
        reached = reached & (gamma.detach().cpu() != 0)
    elif weight is not None:
        return False
    ctx.need(x, unvector(reached, 1, len(ctx.program.values[x].shape)))
    return True


def _elementwise(ctx: LivenessPass, step: Step, mask: Tensor) -> bool:
    rank = mask.ndim
    masks = [mask] * len(step.inputs)
    known = [ctx.constants.known(value) for value in step.inputs]
    if _is_flat(step) and known[0] is not None:
        masks = [mask & ~align((known[0].kind > UNKNOWN) & (known[0].value <= 0), rank)]
    elif is_product(step) and len(masks) == 2:
        nowhere = torch.zeros([1] * rank, dtype=torch.bool)
        zeros = [nowhere if it is None else align(it.zero, rank) for it in known]
        masks = [mask & ~zeros[1], mask & ~zeros[0]]
    elif step.op.startswith("aten.prelu"):
        return False
    for value, own in zip(step.inputs, masks, strict=True):
        ctx.need(value, any_to(own, ctx.program.values[value].shape))
    return True


def _is_flat(step: Step) -> bool:
    """Is it 0 at and below 0, and so is the slope? The slope of clamp is 1 at its border."""
    cut = step.op == "aten.hardtanh.default" and step.argument(1, "min_val", -1.0) == 0
    return step.op in _FLAT or cut


def _is_plain_sum(step: Step) -> bool:
    """Of two tensors: a number that is added would make sizes count."""
    return step.op in _SUMS and len(step.inputs) == 2 and not step.kwargs
