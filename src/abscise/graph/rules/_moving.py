"""Data movement: labels, constants and liveness go where the elements go."""

import math

import torch
from torch import Tensor

from abscise.graph._compact import align, broadcast_shape, varying
from abscise.graph._constants import CONSTANT, FIXED, UNKNOWN, ConstantPass
from abscise.graph._labels import Balance, LabelPass, Layers, join_elementwise
from abscise.graph._liveness import LivenessPass
from abscise.graph._movement import (
    IDENTITIES,
    JOINS,
    PADS,
    index_values,
    move,
    move_back,
    moved_values,
    pad_value,
    touched_dims,
)
from abscise.graph._program import Program, Step

_END = 2**63 - 1  # how torch writes an open end
_EQUAL_PARTS = frozenset({"aten.chunk.default", "aten.split.Tensor"})


class Movement:
    """Every operation on the allow-list of `_movement`."""

    def labels(self, ctx: LabelPass, step: Step) -> None:
        for value in index_values(step):
            ctx.pin_value(value, f"its values are indices for {step.where}")
        if step.op in JOINS:
            ctx.give(step.outputs[0], _joined_layers(ctx, step))
            return
        (source,) = moved_values(step)
        moved = [_move_layer(ctx.program, step, layer) for layer in ctx.layers(source)]
        for place, output in enumerate(step.outputs):
            ctx.give(output, (tensors[place] for tensors in moved))
        if step.op in _EQUAL_PARTS:
            _balance(ctx, step)

    def constants(self, ctx: ConstantPass, step: Step) -> None:
        sources = [ctx.known(value) for value in moved_values(step)]
        if all(known is None for known in sources):
            return
        kinds: list[Tensor] = []
        contents: list[Tensor] = []
        for known, value in zip(sources, moved_values(step), strict=True):
            rank = len(ctx.program.values[value].shape)
            kinds.append(known.kind if known else torch.zeros([1] * rank, dtype=torch.int8))
            contents.append(known.value if known else torch.zeros([1] * rank, dtype=torch.float64))
        if step.op in PADS:
            _pad_constants(ctx, step, kinds[0], contents[0])
            return
        part = _takes_part(ctx.program, step)
        if part:
            kinds[0] = _without_windows(ctx.program, step, kinds[0], contents[0])
        moved = zip(
            move(ctx.program, step, kinds, UNKNOWN),
            move(ctx.program, step, contents, 0.0),
            strict=True,
        )
        for output, (kind, content) in zip(step.outputs, moved, strict=True):
            state = kind
            if part and output not in ctx.program.static:
                # Which part it is may depend on the input's shape.
                state = torch.where(kind == FIXED, UNKNOWN, kind).to(torch.int8)
            ctx.give(output, state, content)

    def liveness(self, ctx: LivenessPass, step: Step, needed: list[Tensor | None]) -> None:
        for value in index_values(step):
            ctx.need_all(value)
        if all(mask is None for mask in needed):
            return
        for value, mask in move_back(ctx.program, step, needed):
            ctx.need(value, mask)


class BorderPad:
    """Padding with what is there (reflect, replicate, circular): channels go through."""

    def labels(self, ctx: LabelPass, step: Step) -> None:
        x = step.inputs[0]
        dims = _padded_dims(ctx.program, step)
        passed = []
        for layer in ctx.layers(x):
            if set(dims) & set(varying(layer)):
                ctx.pin(layer, f"padded along by {step.where}")
            else:
                passed.append(layer)
        ctx.give(step.outputs[0], passed)

    def constants(self, ctx: ConstantPass, step: Step) -> None:
        known = ctx.known(step.inputs[0])
        dims = set(_padded_dims(ctx.program, step))
        if known is not None and not dims & {*varying(known.kind), *varying(known.value)}:
            ctx.give(step.outputs[0], known.kind, known.value)

    def liveness(self, ctx: LivenessPass, step: Step, needed: list[Tensor | None]) -> None:
        mask = needed[0]
        if mask is not None:
            for dim in _padded_dims(ctx.program, step):
                mask = mask.any(dim, keepdim=True)
            ctx.need(step.inputs[0], mask)


def is_border_pad(step: Step) -> bool:
    """Does the step pad with elements of its input?"""
    if step.op == "aten.pad.default":
        return step.argument(2, "mode", "constant") in {"reflect", "replicate", "circular"}
    return step.op.startswith(("aten.reflection_pad", "aten.replication_pad"))


def _padded_dims(program: Program, step: Step) -> tuple[int, ...]:
    rank = len(program.values[step.inputs[0]].shape)
    return tuple(range(rank - len(step.args[1]) // 2, rank))


class Identity:
    """Casts and the like: the first input itself, as far as removal is concerned."""

    def labels(self, ctx: LabelPass, step: Step) -> None:
        ctx.give(step.outputs[0], ctx.layers(step.inputs[0]))

    def constants(self, ctx: ConstantPass, step: Step) -> None:
        known = ctx.known(step.inputs[0])
        dtype = ctx.program.values[step.outputs[0]].dtype
        if known is not None and dtype.is_floating_point:
            ctx.give(step.outputs[0], known.kind, known.value.to(dtype).to(torch.float64))

    def liveness(self, ctx: LivenessPass, step: Step, needed: list[Tensor | None]) -> None:
        if needed[0] is not None:
            ctx.need(step.inputs[0], needed[0])


def _without_windows(program: Program, step: Step, kind: Tensor, content: Tensor) -> Tensor:
    """What varies where a part is taken is fixed: which part may depend on the input's shape."""
    low = high = content
    for dim in touched_dims(program, step) or ():
        low, high = low.amin(dim, keepdim=True), high.amax(dim, keepdim=True)
    return torch.where(low == high, kind, kind.clamp(max=FIXED)).to(torch.int8)


def _takes_part(program: Program, step: Step) -> bool:
    """Does the step leave elements of its input out?"""
    if step.op in JOINS or step.op in IDENTITIES:
        return False
    if step.op == "aten.slice.Tensor":  # what takes everything here may leave out elsewhere
        start, end = step.argument(2, "start") or 0, step.argument(3, "end")
        return start != 0 or (end is not None and end < _END) or step.argument(4, "step", 1) != 1
    whole = math.prod(program.values[moved_values(step)[0]].shape)
    return any(math.prod(program.values[output].shape) < whole for output in step.outputs)


def _move_layer(program: Program, step: Step, layer: Tensor) -> list[Tensor]:
    if step.op in IDENTITIES:
        return [layer]
    if step.op in PADS:
        widths = step.args[1]
        dims = [layer.ndim - 1 - place for place in range(len(widths) // 2)]
        padded = [dim for dim, w in zip(dims, zip(widths[::2], widths[1::2])) if any(w)]  # noqa: B905
        if not set(varying(layer)) & set(padded):
            return [layer]  # made elements beside a unit's own go with that unit
    return move(program, step, [layer], -1)


def _joined_layers(ctx: LabelPass, step: Step) -> Layers:
    """Along the joined dimension layers are put end to end; along others they are joined."""
    values = moved_values(step)
    shapes = [ctx.program.values[value].shape for value in values]
    rank = len(shapes[0])
    stacked = step.op == "aten.stack.default"
    dim = int(step.argument(1, "dim", 0)) % (rank + stacked)
    ends: list[Tensor] = []
    across: list[tuple[Layers, tuple[int, ...]]] = []
    for value, shape in zip(values, shapes, strict=True):
        layers = ctx.layers(value)
        if stacked:
            spread = tuple(layer.unsqueeze(dim) for layer in layers)
            across.append((spread, (*shape[:dim], 1, *shape[dim:])))
            continue
        own = [t for t in layers if dim in varying(t) or (not varying(t) and shape[dim] == 1)]
        for extra in own[1:]:
            ctx.pin(extra, f"two kinds of units along one dimension of {step.where}")
        ends.append(own[0] if own else torch.full([1] * rank, -1, dtype=torch.int64))
        flat = (*shape[:dim], 1, *shape[dim + 1 :])
        across.append(
            (tuple(t for t in layers if t not in own) if not own else _rest(layers, own), flat)
        )
    result = list(join_elementwise(ctx, step, across, rank + stacked))
    if not stacked and any(bool((end >= 0).any()) for end in ends):
        result.append(move(ctx.program, step, ends, -1)[0])
    return tuple(result)


def _rest(layers: Layers, own: list[Tensor]) -> Layers:
    return tuple(layer for layer in layers if all(layer is not item for item in own))


def _balance(ctx: LabelPass, step: Step) -> None:
    (source,) = moved_values(step)
    shape = ctx.program.values[source].shape
    dim = int(step.argument(2, "dim", 0)) % len(shape)
    sizes = {ctx.program.values[output].shape[dim] for output in step.outputs}
    layers = [layer for layer in ctx.layers(source) if dim in varying(layer)]
    if not layers or len(step.outputs) == 1:
        return
    if len(sizes) > 1:
        for layer in layers:
            ctx.pin(layer, f"parts of unequal size in {step.where}")
        return
    for layer in layers:
        flat = ctx.flatten_to(layer, dim, f"split unevenly by {step.where}")
        rows = align(flat, len(shape)).reshape(len(step.outputs), -1).numpy()
        ctx.balance(Balance(tuple(rows), ctx.position))


def _pad_constants(ctx: ConstantPass, step: Step, kind: Tensor, value: Tensor) -> None:
    """A constant that equals the padding stays one; another becomes fixed; unknown stays so."""
    fill = pad_value(step)
    rank = kind.ndim
    widths = step.args[1]
    dims = [
        rank - 1 - place
        for place in range(len(widths) // 2)
        if any(widths[2 * place : 2 * place + 2])
    ]
    shape = broadcast_shape(kind, value)
    known = (kind > UNKNOWN).expand(shape)
    for dim in dims:
        if known.shape[dim] > 1 and not bool((known == known.narrow(dim, 0, 1)).all()):
            return
    same = (value == fill).expand(shape)
    for dim in dims:
        same = same.all(dim, keepdim=True)
        known = known.all(dim, keepdim=True)
    padded = move(ctx.program, step, [value], fill)[0]
    state = torch.where(same, kind.amin(dims, keepdim=True), torch.tensor(FIXED, dtype=torch.int8))
    state = torch.where(known, state, torch.tensor(UNKNOWN, dtype=torch.int8))
    assert CONSTANT > FIXED > UNKNOWN
    ctx.give(
        step.outputs[0], state, torch.where(known, padded, torch.zeros((), dtype=padded.dtype))
    )
