"""Linear layers and convolutions: they write new units and read others.

A weight is a value like any other: its layers (one per axis) say which units its rows write and its
columns read, whatever data movement it went through (rule R9).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from abscise.graph._compact import any_but, unvector, varying, vector
from abscise.graph._constants import CONSTANT, FIXED, UNKNOWN, ConstantPass, Known
from abscise.graph._functional import operation
from abscise.graph._labels import Balance, LabelPass, Labels
from abscise.graph._liveness import LivenessPass
from abscise.graph._movement import repeated
from abscise.graph._program import Program, Ref, Step
from abscise.graph.rules._contraction import Contraction


@dataclass(frozen=True, slots=True)
class Contract:
    """Linear, convolution (grouped, depthwise, transposed), and products with a weight."""

    contraction: Contraction

    def labels(self, ctx: LabelPass, step: Step) -> None:
        c = self.contraction
        rows, columns = _weight_layers(ctx, step, c)
        channels = _channels(ctx, step, c)
        if c.groups == 1:
            _join_readers(ctx, step, channels, columns)
        elif rows is not None or channels is not None:
            rows = _join_groups(ctx, step, c, channels, rows, columns)
        _write(ctx, step, c, rows)

    def constants(self, ctx: ConstantPass, step: Step) -> None:
        c = self.contraction
        if repeated(ctx.program, c.weight):
            return  # how many rows it sums over may be the batch size
        outputs = ctx.program.values[step.outputs[0]].shape[c.out_dim]
        size = ctx.program.values[c.x].shape[c.in_dim]
        nonzero = dense_nonzero(ctx, c, outputs)
        if nonzero is None:
            return
        known = ctx.known(c.x)
        unknown = torch.ones(size, dtype=torch.bool)
        if known is not None:
            unknown = any_but(known.kind == UNKNOWN, c.in_dim).expand(size)
        known_out = ~nonzero[:, unknown].any(1)
        if bool(known_out.any()):
            _give_constants(ctx, step, c, known_out, nonzero)

    def liveness(self, ctx: LivenessPass, step: Step, needed: list[Tensor | None]) -> None:
        del step
        c = self.contraction
        mask = needed[0]
        if c.bias is not None:
            ctx.need_all(c.bias)
        ctx.need_all(c.weight)
        if mask is None:
            return
        rank = len(ctx.program.values[c.x].shape)
        read = read_channels(ctx.constants, c, mask)
        if read is None:
            ctx.need_all(c.x)
            return
        read = (read & ~ctx.excused(channel_units(ctx.labels, ctx.program, c))) | ctx.demanded(
            len(read)
        )
        if not bool(read.any()):
            return
        result = unvector(read, c.in_dim, rank)
        if not c.spatial and mask.ndim == rank:
            # A linear layer works on each position by itself.
            positions = mask.any(c.out_dim, keepdim=True)
            result = result & positions
        ctx.need(c.x, result)


def read_channels(ctx: ConstantPass, c: Contraction, mask: Tensor) -> Tensor | None:
    """Input channels that the needed outputs (`mask`) read; None where the weight is unknown."""
    shape = ctx.program.values[c.weight].shape
    outputs = shape[c.out_axis] * (c.groups if c.transposed else 1)
    nonzero = dense_nonzero(ctx, c, outputs)
    if nonzero is None:
        return None
    rows = any_but(mask, c.out_dim).expand(outputs)
    if bool(rows.all()):
        return ctx.remember(("columns", c.weight, c.in_axis, c.groups), lambda: nonzero.any(0))
    return nonzero[rows].any(0)


def dense_nonzero(ctx: ConstantPass, c: Contraction, outputs: int) -> Tensor | None:
    """(outputs, inputs) -> does this output read this input with any weight that is not 0.0?"""
    size = ctx.program.values[c.x].shape[c.in_dim]
    own = ctx.nonzero(c.weight, c.out_axis, c.in_axis)
    if own is None or c.groups == 1:
        return own
    key = ("groups", c.weight, c.out_axis, c.groups)
    return ctx.remember(key, lambda: _spread_groups(c, own, outputs, size))


def channel_units(labels: Labels, program: Program, c: Contraction) -> Tensor:
    """Unit ids of the contraction's input channels, -1 where there is none."""
    size = program.values[c.x].shape[c.in_dim]
    for layer in labels.layers.get(c.x, ()):
        if c.in_dim in varying(layer):
            units = torch.from_numpy(labels.units(layer))
            for dim in varying(layer):
                if dim != c.in_dim:
                    units = units.narrow(dim, 0, 1)
            return vector(units, c.in_dim, size)
    return torch.full((size,), -1, dtype=torch.int64)


def _weight_layers(
    ctx: LabelPass, step: Step, c: Contraction
) -> tuple[Tensor | None, Tensor | None]:
    """Labels of the rows and of the columns, as vectors; kernel axes are no units."""
    shape = ctx.program.values[c.weight].shape
    found: dict[int, Tensor] = {}
    for layer in ctx.layers(c.weight):
        dims = varying(layer) or _last_axis(ctx, c, layer)
        if dims in ((c.out_axis,), (c.in_axis,)) and dims[0] not in found:
            found[dims[0]] = vector(layer, dims[0], shape[dims[0]])
        else:
            ctx.pin(layer, f"kernel of {step.where}")
    return found.get(c.out_axis), found.get(c.in_axis)


def _last_axis(ctx: LabelPass, c: Contraction, layer: Tensor) -> tuple[int, ...]:
    """The axis of a weight that a single label belongs to: the last unit of that axis."""
    for axis in (c.out_axis, c.in_axis):
        ids = ctx.axes.get((c.weight, axis))
        if ids is not None and len(ids) == 1 and int(ids[0]) == int(layer.flatten()[0]):
            return (axis,)
    shape = ctx.program.values[c.weight].shape
    single = [axis for axis in (c.out_axis, c.in_axis) if shape[axis] == 1]
    computed = ctx.program.values[c.weight].name is None
    return tuple(single) if ctx.compared and computed and len(single) == 1 else ()


def _channels(ctx: LabelPass, step: Step, c: Contraction) -> Tensor | None:
    """Labels of the input channels as a vector; other labels go on, or are pinned."""
    size = ctx.program.values[c.x].shape[c.in_dim]
    channels: Tensor | None = None
    for layer in ctx.layers(c.x):
        dims = varying(layer)
        if c.in_dim in dims and channels is None:
            flat = ctx.flatten_to(layer, c.in_dim, f"unevenly read by {step.where}")
            channels = vector(flat, c.in_dim, size)
        elif dims and (c.spatial or c.in_dim in dims):
            ctx.pin(layer, f"spatial size of {step.where}")
    single = [layer for layer in ctx.layers(c.x) if not varying(layer)]
    if channels is None and ctx.compared and len(single) == 1:
        return single[0].flatten().expand(size)  # the last unit of its axis
    return channels


def _join_readers(
    ctx: LabelPass, step: Step, channels: Tensor | None, columns: Tensor | None
) -> None:
    if channels is not None and columns is not None:
        ctx.join(channels, columns, f"read beside elements of no unit by {step.where}")
    elif columns is not None:
        ctx.pin(columns, "reads the model's inputs, or a size that is no layer's own")
    elif channels is not None and not (ctx.compared and len(channels) == 1):
        # A depthwise convolution of which one channel is left is an ordinary one.
        ctx.pin(channels, f"read through a computed weight by {step.where}")


def _join_groups(
    ctx: LabelPass,
    step: Step,
    c: Contraction,
    channels: Tensor | None,
    rows: Tensor | None,
    columns: Tensor | None,
) -> Tensor | None:
    """Depthwise: output o lives with its input. Grouped: equally many stay per group (R8)."""
    shape = ctx.program.values[c.weight].shape
    per_out = shape[1] if c.transposed else shape[0] // c.groups
    per_in = shape[0] // c.groups if c.transposed else shape[1]
    if per_in == 1 and channels is not None:
        # A transposed depthwise weight is (inputs, outputs per group): its axis 0 is the input's.
        own = columns if c.transposed else rows
        spread = channels if c.transposed else channels.repeat_interleave(per_out)
        if own is not None and (not c.transposed or per_out == 1):
            ctx.join(spread, own, f"read beside elements of no unit by {step.where}")
            return own
    grouped = not c.transposed and per_in > 1 and rows is not None
    plain = ctx.program.values[c.weight].name is not None and _used_once(ctx.program, c.weight)
    if not grouped or not plain:
        for labels in (channels, rows, columns):
            if labels is not None:
                ctx.pin(labels, f"groups of {step.where}")
        return None if c.transposed else rows
    if columns is not None:
        ctx.pin(columns, f"position within a group of {step.where}")
    assert rows is not None
    inputs = None if channels is None else tuple(channels.reshape(c.groups, per_in).numpy())
    outputs = tuple(rows.reshape(c.groups, per_out).numpy())
    ctx.balance(Balance(outputs, ctx.position, inputs, grouped=True))
    return rows


def _used_once(program: Program, value: int) -> bool:
    return sum(value in step.inputs for step in program.steps) == 1


def _write(ctx: LabelPass, step: Step, c: Contraction, rows: Tensor | None) -> None:
    output = step.outputs[0]
    rank = len(ctx.program.values[output].shape)
    layers = [
        layer
        for layer in ctx.layers(c.x)
        if not c.spatial and varying(layer) and c.in_dim not in varying(layer)
    ]
    if c.bias is not None:
        for layer in ctx.layers(c.bias):
            if rows is None:
                ctx.pin(layer, f"bias of {step.where}, whose weight is computed")
            else:
                ctx.join(layer, rows, f"bias of {step.where}")
    if rows is not None:
        ctx.write(rows)
        layers.append(unvector(rows, c.out_dim, rank))
    ctx.give(output, layers)


def _bias(ctx: ConstantPass, c: Contraction, outputs: int) -> Tensor | None:
    if c.bias is None:
        return torch.zeros(outputs, dtype=torch.float64)
    bias = ctx.tensor(c.bias)
    return None if bias is None else bias.detach().cpu().to(torch.float64)


def _give_constants(
    ctx: ConstantPass, step: Step, c: Contraction, known_out: Tensor, nonzero: Tensor
) -> None:
    """Outputs that read known inputs only: constants, or fixed where padding comes into the sum."""
    outputs, size = nonzero.shape
    rank = len(ctx.program.values[step.outputs[0]].shape)
    bias = _bias(ctx, c, outputs)
    known = ctx.known(c.x)
    if bias is None:
        return
    kind = torch.where(known_out, CONSTANT, UNKNOWN).to(torch.int8)
    if known is None or not bool(nonzero[known_out].any()):
        content = torch.where(known_out, bias, 0.0)
        ctx.give(
            step.outputs[0], unvector(kind, c.out_dim, rank), unvector(content, c.out_dim, rank)
        )
        return
    soft = known_out & nonzero[:, _unsteady(c, known, size)].any(1)
    plain = vector_or_none(known.kind, known.value, c.in_dim, size)
    if plain is not None and not bool(soft.any()):
        numbers = torch.where(plain[0] > UNKNOWN, plain[1], 0.0)
        total = torch.where(known_out, bias + kernel_sums(ctx, c, outputs) @ numbers, 0.0)
        ctx.give(step.outputs[0], unvector(kind, c.out_dim, rank), unvector(total, c.out_dim, rank))
        return
    full = _run(ctx, step, c, torch.where(known.kind > UNKNOWN, known.value, 0.0))
    kind[soft] = FIXED
    shaped = unvector(kind, c.out_dim, rank)
    ctx.give(step.outputs[0], shaped, torch.where(shaped > UNKNOWN, full, 0.0))


def _unsteady(c: Contraction, known: Known, size: int) -> Tensor:
    """Input channels that give another value at another position, or at another input shape."""
    zero = (known.kind == CONSTANT) & (known.value == 0)
    steady = zero if c.padded else known.kind == CONSTANT
    moving = any_but(~steady, c.in_dim).expand(size)
    low, high = known.value, known.value
    for dim in range(known.value.ndim):
        if dim != c.in_dim:
            low, high = low.amin(dim, keepdim=True), high.amax(dim, keepdim=True)
    return moving | (low != high).flatten().expand(size)


def vector_or_none(
    kind: Tensor, value: Tensor, dim: int, size: int
) -> tuple[Tensor, Tensor] | None:
    """State and value per channel, where neither varies along another dimension."""
    if set(varying(kind)) - {dim} or set(varying(value)) - {dim}:
        return None
    return vector(kind, dim, size), vector(value, dim, size)


def kernel_sums(ctx: ConstantPass, c: Contraction, outputs: int) -> Tensor:
    """(outputs, inputs) float64: the sum of each kernel, 0 across groups."""
    weight = ctx.tensor(c.weight)
    assert weight is not None
    own = weight.detach().cpu().to(torch.float64).movedim((c.out_axis, c.in_axis), (0, 1))
    own = own.flatten(2).sum(2) if own.ndim > 2 else own
    if c.groups == 1:
        return own
    size = ctx.program.values[c.x].shape[c.in_dim]
    return _spread_groups(c, own, outputs, size)


def _spread_groups(c: Contraction, own: Tensor, outputs: int, size: int) -> Tensor:
    """(outputs, inputs) from the blocks of a grouped weight; 0 or False across groups."""
    full = torch.zeros(outputs, size, dtype=own.dtype)
    per_out, per_in = outputs // c.groups, size // c.groups
    for group in range(c.groups):
        rows = slice(group * per_out, (group + 1) * per_out)
        columns = slice(group * per_in, (group + 1) * per_in)
        # A transposed convolution's weight is (inputs, outputs per group).
        full[rows, columns] = own[:, columns] if c.transposed else own[rows]
    return full


def _run(ctx: ConstantPass, step: Step, c: Contraction, value: Tensor) -> Tensor:
    """The operation on one whole map, in float64."""
    shape = list(ctx.program.values[c.x].shape)
    if len(shape) > c.spatial + 1 and value.shape[0] == 1:
        shape[0] = 1
    weight = ctx.tensor(c.weight)
    assert weight is not None
    bias = ctx.tensor(c.bias) if c.bias is not None else None
    replaced = {
        c.x: value.expand(shape),
        c.weight: weight.detach().cpu().to(torch.float64),
        **({c.bias: bias.detach().cpu().to(torch.float64)} if bias is not None else {}),
    }
    args = [replaced[item.value] if isinstance(item, Ref) else item for item in step.args]
    kwargs = {
        name: replaced[item.value] if isinstance(item, Ref) else item
        for name, item in step.kwargs.items()
    }
    result: Tensor = operation(step.op)(*args, **kwargs)
    return result
