"""Writing slices: for every layer, the parameter that scales each unit, and how large it is.

For a layer that a BatchNorm alone follows that is the BatchNorm's weight (its own rows do not
count: the norm undoes their size); for any other layer it is the incoming row.
"""

import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from abscise.graph import Analysis, Program, Step, steps_behind, unit_ids
from abscise.graph.rules import (
    BATCH_NORMS,
    WEIGHT_NORM,
    Contraction,
    batch_norm_operands,
    evaluate,
    is_elementwise,
    normalises_by_batch,
    weight_norm_operands,
)


@dataclass(frozen=True, slots=True)
class WritingSlice:
    """What writes the units of one layer.

    Args:
        layer: Name of the layer (or of a norm that no layer precedes directly).
        units: Unit id of each output, -1 where it belongs to none.
        parameter: Qualified name of the BatchNorm weight ("scale") or of the layer's weight
        ("row").
        shift: Qualified name of the BatchNorm bias, or the layer's bias; None without one.
        axis: Axis of `parameter` that runs over the units.
        magnitude: |scale|, or the largest |weight| of the row; one per unit.
        activation: Value id of the units' activation (after the element-wise functions that
        follow).
        dim: Dimension of the activation that runs over the units.
        writes: Is it a layer that computes the units (not a norm on its own)?
    """

    layer: str
    units: NDArray[np.int64]
    parameter: str
    shift: str | None
    axis: int
    kind: str
    magnitude: Tensor
    activation: int
    dim: int
    writes: bool = True


def writing_slices(analysis: Analysis) -> tuple[WritingSlice, ...]:
    """One slice for each layer that computes units, and for each BatchNorm on its own."""
    program = analysis.program
    users = program.consumers
    rows = dict(analysis.labels.writers)
    found: list[WritingSlice] = []
    scaled: set[int] = set()
    names = layer_names(analysis)
    for position, contraction in analysis.contractions.items():
        weight = analysis.constants.tensor(contraction.weight)
        parameter = _row_parameter(program, contraction)
        if parameter is None or weight is None or position not in rows:
            continue
        units = unit_ids(analysis.labels.roots, rows[position])
        layer = names[position]
        output = program.steps[position].outputs[0]
        norm = _only_norm(program, users, output)
        if norm is not None:
            scaled.add(program.steps.index(norm))
            found.append(_scale(program, users, norm, layer, units))
            continue
        found.append(
            WritingSlice(
                layer=layer,
                units=units,
                parameter=parameter,
                shift=_name(program, contraction.bias),
                axis=contraction.out_axis,
                kind="row",
                magnitude=channel_maximum(weight, contraction.out_axis).to(weight.dtype),
                activation=_activation(program, users, output),
                dim=contraction.out_dim,
            )
        )
    for position, step in enumerate(program.steps):
        if step.op in BATCH_NORMS and position not in scaled:
            lone = _lone_norm(analysis, users, step)
            if lone is not None:
                found.append(lone)
    return tuple(found)


def _row_parameter(program: Program, c: Contraction) -> str | None:
    """The parameter whose rows are those of a weight: itself, or for weight norm its lengths."""
    if program.values[c.weight].name is not None:
        return program.values[c.weight].name
    step = next((step for step in program.steps if c.weight in step.outputs), None)
    if step is None or step.op != WEIGHT_NORM:
        return None
    _, lengths, axis = weight_norm_operands(step)
    return program.values[lengths].name if axis == c.out_axis else None


def layer_names(analysis: Analysis) -> dict[int, str]:
    """Position of each contraction -> the name of its layer, another one for each weight.

    That is the module of the weight; where one module has several weights, the weight itself.
    """
    program = analysis.program
    weights: dict[str, int] = {}
    names: dict[int, str] = {}
    for position, c in analysis.contractions.items():
        options = _name_options(program, c, program.steps[position])
        name = next(name for name in options if weights.get(name, c.weight) == c.weight)
        weights[name] = c.weight
        names[position] = name
    return names


def _name_options(program: Program, c: Contraction, step: Step) -> Iterator[str]:
    name = program.values[c.weight].name
    if name is not None:
        path, _, leaf = name.rpartition(".")
        own = path or "(model)" if leaf == "weight" else name
        yield own
    else:
        own = step.module or "(model)"
        made_of = named_sources(program, c.weight)
        if _is_weight_of(made_of, step.module):
            yield own
        if len(made_of) == 1:
            yield from made_of
        yield own
    yield from (f"{own} ({count})" for count in itertools.count(2))


def _is_weight_of(names: Collection[str], module: str) -> bool:
    """Are these what `module.weight` is computed from, by parametrization or in its forward?"""
    path = f"{module}." if module else ""
    return any(
        name == f"{path}weight"
        or name.startswith((f"{path}weight_", f"{path}parametrizations.weight."))
        for name in names
    )


def named_sources(program: Program, value: int) -> frozenset[str]:
    """Qualified names of the parameters and buffers that a value is, or is computed from."""
    read = {value, *(source for step in steps_behind(program, value) for source in step.inputs)}
    names = (program.values[source].name for source in read)
    return frozenset(name for name in names if name is not None)


def computes_weight(program: Program, value: int, module: str) -> bool:
    """Is this computed value the weight of `module`?"""
    return _is_weight_of(named_sources(program, value), module)


def small_units(
    slices: tuple[WritingSlice, ...], threshold: float, count: int
) -> NDArray[np.bool_]:
    """Unit id (of `count`) -> is it below `threshold` in every layer, but not exactly 0 in all?"""
    small = np.zeros(count, dtype=bool)
    large = np.zeros(count, dtype=bool)
    for item in slices:
        if not item.writes:
            continue
        valid = item.units >= 0
        below = (item.magnitude < threshold).numpy()
        small[item.units[valid & below & (item.magnitude > 0).numpy()]] = True
        large[item.units[valid & ~below]] = True
    return small & ~large


def _only_norm(program: Program, users: Mapping[int, list[Step]], value: int) -> Step | None:
    readers = users.get(value, [])
    if len(readers) != 1 or readers[0].op not in BATCH_NORMS or value in program.outputs:
        return None
    weight = batch_norm_operands(readers[0])[1]
    named = weight is not None and program.values[weight].name is not None
    return readers[0] if named and not normalises_by_batch(readers[0]) else None


def _scale(
    program: Program,
    users: Mapping[int, list[Step]],
    norm: Step,
    layer: str,
    units: NDArray[np.int64],
    *,
    writes: bool = True,
) -> WritingSlice:
    _, weight, bias, _, _ = batch_norm_operands(norm)
    assert weight is not None
    entry = program.values[weight]
    assert entry.data is not None
    assert entry.name is not None
    return WritingSlice(
        layer=layer,
        units=units,
        parameter=entry.name,
        shift=_name(program, bias),
        axis=0,
        kind="scale",
        magnitude=entry.data.detach().abs().cpu(),
        activation=_activation(program, users, norm.outputs[0]),
        dim=1,
        writes=writes,
    )


def _lone_norm(
    analysis: Analysis, users: Mapping[int, list[Step]], step: Step
) -> WritingSlice | None:
    program = analysis.program
    weight = batch_norm_operands(step)[1]
    if weight is None or program.values[weight].name is None or normalises_by_batch(step):
        return None
    ids = analysis.labels.axes.get((weight, 0))
    if ids is None:
        return None
    units = unit_ids(analysis.labels.roots, ids)
    return _scale(program, users, step, step.module, units, writes=False)


def _activation(program: Program, users: Mapping[int, list[Step]], value: int) -> int:
    """Follow functions of one operand: what the readers see."""
    while True:
        readers = users.get(value, [])
        if len(readers) != 1 or value in program.outputs:
            return value
        step = readers[0]
        if not is_elementwise(step) or len(step.inputs) != 1:
            return value
        if float(evaluate(step, [torch.zeros((), dtype=torch.float64)])) != 0:
            return value  # a unit that is silent behind this function does not hold 0 before it
        value = step.outputs[0]


def _name(program: Program, value: int | None) -> str | None:
    return None if value is None else program.values[value].name


def channel_maximum(tensor: Tensor, dim: int) -> Tensor:
    """Largest |x| per index of `dim`, as float64; 0 where there is none."""
    if tensor.numel() == 0:
        return torch.zeros(tensor.shape[dim], dtype=torch.float64)
    others = [place for place in range(tensor.ndim) if place != dim]
    peak = tensor.detach().abs()
    return (peak.amax(others) if others else peak).to(torch.float64).cpu()
