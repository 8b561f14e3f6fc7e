"""Which units are dead for training: no gradient reaches them, now or later, whatever the input.

Removing such a unit changes neither the outputs nor what the rest learns. Whether it is one rests
on zeros and signs of weights, so these must last: what the optimizer, or a gradient, may move is
taken as if it were not zero. What is left is a fixed point: a zero may be relied on only where it
belongs to a unit that is dead itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from abscise.graph import Analysis, Program, lasting, reached_units
from abscise.shrinking._optimizers import groups_of, keeps_signs, moving

Units = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Dead:
    """What `dead_units` found.

    Args:
        units: Unit id -> is it dead for training?
        analysis: Of the weights as far as they last; the removal is decided on it.
    """

    units: Units
    analysis: Analysis


def dead_units(
    analysis: Analysis,
    model: nn.Module,
    optimizer: Optimizer,
    candidates: Units,
    zeroed: Mapping[str, Tensor],
) -> Dead:
    """The largest set of units, of `candidates`, that is dead for training.

    Args:
        analysis: Of the model as it is.
        model: Whose parameters the analysis names.
        optimizer: What moves them.
        candidates: Unit id -> may it be one?
        zeroed: Parameter name -> where it is taken to be 0 and at rest, because it is about to be
            set so.
    """
    units = candidates.copy()
    facts = _facts(analysis.program, model, optimizer, zeroed)
    while True:
        found = lasting(analysis, _lasting_program(analysis, facts, units))
        rest = units & ~reached_units(found)
        if (rest == units).all():
            return Dead(units, found)
        units = rest


@dataclass(frozen=True, slots=True, eq=False)
class _Facts:
    """Of one parameter: where it is 0, or has a sign, and keeps that while it gets no gradient."""

    zero: Tensor
    signs: Tensor
    frozen: bool


def _facts(
    program: Program, model: nn.Module, optimizer: Optimizer, zeroed: Mapping[str, Tensor]
) -> dict[int, _Facts]:
    groups = groups_of(optimizer)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    found = {}
    for value, entry in enumerate(program.values):
        name = entry.name or ""
        parameter = parameters.get(name)
        if entry.data is None or parameter is None:
            continue
        rests = ~moving(optimizer, parameter)
        zero = (entry.data.detach() == 0) & rests
        if name in zeroed:
            zero = zero | zeroed[name]
        group = groups.get(id(parameter))
        frozen = not parameter.requires_grad
        creeps = frozen or (group is not None and keeps_signs(optimizer, group))
        found[value] = _Facts(zero, rests & creeps, frozen)
    return found


def _lasting_program(analysis: Analysis, facts: Mapping[int, _Facts], units: Units) -> Program:
    """The program with weights that are 0, or negative, only where they stay so."""
    values = list(analysis.program.values)
    for value, entry in enumerate(values):
        if entry.data is None or not entry.data.is_floating_point():
            continue
        data = entry.data.detach()
        fact = facts.get(value)
        if fact is None:  # a buffer, which may be written at any time
            lasts = signs = torch.zeros_like(data, dtype=torch.bool)
        else:
            lasts = fact.zero if fact.frozen else fact.zero & _within(analysis, value, data, units)
            signs = fact.signs
        new = torch.where(data == 0, torch.ones_like(data), data)
        new = torch.where(signs, new, new.abs()).masked_fill(lasts, 0.0)
        values[value] = replace(entry, data=new)
    return replace(analysis.program, values=tuple(values))


def _within(analysis: Analysis, value: int, data: Tensor, units: Units) -> Tensor:
    """Elements of a parameter that belong to one of the units along some axis."""
    inside = torch.zeros_like(data, dtype=torch.bool)
    for dim in range(data.ndim):
        ids = analysis.labels.axes.get((value, dim))
        if ids is not None:
            own = torch.from_numpy(units[analysis.labels.roots[ids]]).to(data.device)
            inside |= own.reshape([-1 if place == dim else 1 for place in range(data.ndim)])
    return inside
