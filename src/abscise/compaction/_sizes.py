"""Sizes that modules keep beside their weights, as they are after the removal."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import nn

from abscise.compaction._attributes import CONVOLUTIONS, TRANSPOSED, attribute_of
from abscise.compaction._plan import Attribute, AxisEdit, Selection
from abscise.compaction._select_inputs import size_attribute
from abscise.compaction._slices import computes_weight
from abscise.graph import Analysis
from abscise.graph._compact import varying
from abscise.graph.rules import GROUP_NORM, Contraction, channel_units, group_norm_operands

Units = NDArray[np.bool_]


def attributes_after(
    analysis: Analysis,
    model: nn.Module,
    edits: tuple[AxisEdit, ...],
    removed: Units,
    selections: tuple[Selection, ...],
) -> tuple[Attribute, ...]:
    """Every attribute of a module that holds another number after the removal."""
    owners = _owners(analysis)
    found: dict[tuple[str, str], int] = {}
    for edit in edits:
        for path, leaf in owners[edit.name]:
            attribute = attribute_of(model.get_submodule(path), leaf, edit.axis)
            if attribute is not None:
                found[path, attribute] = edit.size - len(edit.removed)
    found.update(_contraction_sizes(analysis, model, owners, removed))
    found.update(_norm_sizes(analysis, model, removed))
    for item in selections:
        name = size_attribute(model.get_submodule(item.module))
        units = next((e for e in edits if (e.name, e.axis) == (item.weight, 1)), None)
        left = item.size - (len(units.removed) if units is not None else 0)
        found[item.module, name] = left - len(item.dropped)
    return tuple(
        Attribute(path, name, value)
        for (path, name), value in sorted(found.items())
        if getattr(model.get_submodule(path), name) != value
    )


def _contraction_sizes(
    analysis: Analysis,
    model: nn.Module,
    owners: Mapping[str, list[tuple[str, str]]],
    removed: Units,
) -> dict[tuple[str, str], int]:
    """Of convolutions, and of linear layers whose weight is computed: no edit tells theirs."""
    found: dict[tuple[str, str], int] = {}
    program = analysis.program
    nothing = np.zeros_like(removed)
    for position, contraction in analysis.contractions.items():
        weight = program.values[contraction.weight].name
        called = program.steps[position].module.partition("@")[0]
        if weight is not None:
            paths = [path for path, leaf in owners.get(weight, []) if leaf == "weight"]
        else:
            paths = [called] if computes_weight(program, contraction.weight, called) else []
        for path in paths:
            module = model.get_submodule(path)
            linear = weight is None and isinstance(module, nn.Linear)
            if not linear and not isinstance(module, CONVOLUTIONS + TRANSPOSED):
                continue
            after = _conv_sizes(analysis, contraction, removed)
            before = _conv_sizes(analysis, contraction, nothing)
            names = {"in_channels": "in_features", "out_channels": "out_features"}
            for name, size in after.items():
                own = names.get(name, "") if linear else name
                # A forward may call its weight otherwise than the attributes say.
                if _holds(module, own, before[name]):
                    found[path, own] = size
    return found


def _norm_sizes(analysis: Analysis, model: nn.Module, removed: Units) -> dict[tuple[str, str], int]:
    """Channels of InstanceNorms without parameters, and groups: sizes that no edit tells."""
    found: dict[tuple[str, str], int] = {}
    for step in analysis.program.steps:
        path = step.module.partition("@")[0]
        if step.op not in {"aten.instance_norm.default", GROUP_NORM} or not path:
            continue
        module = model.get_submodule(path)
        if not isinstance(module, (nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)):  # noqa: SLF001 - the public common base of InstanceNorm1d/2d/3d
            continue
        channels = analysis.program.values[step.inputs[0]].shape[1]
        left = _left(analysis, step.inputs[0], 1, removed)
        sizes = {"num_features": (channels, left)}
        if step.op == GROUP_NORM:
            groups = group_norm_operands(step)[1]
            sizes = {
                "num_channels": (channels, left),
                "num_groups": (groups, left * groups // channels),
            }
        for name, (before, after) in sizes.items():
            if _holds(module, name, before):
                found[path, name] = after
    return found


def _holds(module: nn.Module, attribute: str, size: int) -> bool:
    """Does the module keep this very number in a plain attribute of that name?"""
    plain = not isinstance(getattr(type(module), attribute, None), property)
    return bool(attribute) and plain and getattr(module, attribute, None) == size


def _left(analysis: Analysis, value: int, dim: int, removed: Units) -> int:
    """How many indices of a dimension of a value stay."""
    for layer in analysis.labels.layers.get(value, ()):
        if varying(layer) == (dim,):
            units = analysis.labels.units(layer).ravel()
            return int((~removed[np.maximum(units, 0)] | (units < 0)).sum())
    return analysis.program.values[value].shape[dim]


def _conv_sizes(analysis: Analysis, c: Contraction, removed: Units) -> dict[str, int]:
    """The attributes of a convolution after the removal."""
    program = analysis.program
    units = channel_units(analysis.labels, program, c).numpy()
    channels = int((~removed[np.maximum(units, 0)] | (units < 0)).sum())
    outputs = _left(analysis, c.weight, c.out_axis, removed)
    groups = c.groups
    if groups > 1 and len(units) == groups:  # depthwise
        groups = channels
    elif groups > 1:
        groups -= _groups_gone(analysis, c, removed)
    if c.transposed:
        outputs *= groups  # its weight is (inputs, outputs per group)
    return {"in_channels": channels, "out_channels": outputs, "groups": groups}


def _groups_gone(analysis: Analysis, c: Contraction, removed: Units) -> int:
    """How many groups of a grouped convolution go whole."""
    for balance in analysis.labels.balances:
        own = balance.grouped and analysis.contractions[balance.step].weight == c.weight
        if own and balance.inputs is not None:
            return sum(bool(removed[analysis.labels.roots[row]].all()) for row in balance.rows)
    return 0


def _owners(analysis: Analysis) -> dict[str, list[tuple[str, str]]]:
    """Name of a parameter -> (module, attribute) of all places that it is tied to."""
    owners: dict[str, list[tuple[str, str]]] = {}
    for name, first in analysis.program.aliases.items():
        path, _, leaf = name.rpartition(".")
        owners.setdefault(first, []).append((path, leaf))
    return owners
