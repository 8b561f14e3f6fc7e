"""Data movement: operations that only re-arrange elements, by an allow-list of overloads.

They need no rule of their own. Labels and constants are moved by running the operation itself on
compact
tensors, in which only the dimensions that the operation touches have their full size; liveness
goes back through the operation's own vector-Jacobian product.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from abscise.graph._compact import align, any_to, compress
from abscise.graph._functional import operation
from abscise.graph._program import Program, Ref, Step, steps_behind
from abscise.graph._reshape import reshape_compact

RESHAPES = frozenset(
    f"aten.{name}"
    for name in (
        "view.default", "reshape.default", "_unsafe_view.default", "flatten.using_ints",
        "unflatten.int", "squeeze.default", "squeeze.dim", "squeeze.dims", "unsqueeze.default",
        "view_as.default", "reshape_as.default",
    )
)  # fmt: skip
EXPANSIONS = frozenset({"aten.expand.default", "aten.expand_as.default"})
# They copy what is there as often as asked; that may be the batch size.
REPEATS = EXPANSIONS | {"aten.repeat.default", "aten.repeat_interleave.self_int"}
IDENTITIES = frozenset(
    f"aten.{name}"
    for name in (
        "clone.default", "contiguous.default", "detach.default", "alias.default",
        "lift_fresh.default", "lift_fresh_copy.default", "detach_.default",
    )
)  # fmt: skip
PADS = frozenset({"aten.pad.default", "aten.constant_pad_nd.default"})
JOINS = frozenset({"aten.cat.default", "aten.concat.default", "aten.stack.default"})
# Which positional argument names the dimension that is touched.
_DIM_ARGUMENT = {
    "aten.slice.Tensor": 1,
    "aten.narrow.int": 1,
    "aten.select.int": 1,
    "aten.split.Tensor": 2,
    "aten.split.sizes": 2,
    "aten.split_with_sizes.default": 2,
    "aten.chunk.default": 2,
    "aten.unbind.int": 1,
    "aten.index_select.default": 1,
    "aten.repeat_interleave.self_int": 2,
}
_DEFAULT_DIM = {"aten.repeat_interleave.self_int": None}
PERMUTES = frozenset(
    f"aten.{name}"
    for name in (
        "permute.default", "transpose.int", "t.default", "numpy_T.default", "mT.default",
        "movedim.int", "movedim.intlist", "swapaxes.default", "swapdims.default",
    )
)  # fmt: skip
_LAST_THREE = frozenset(
    f"aten.{name}.default" for name in ("pixel_shuffle", "pixel_unshuffle", "channel_shuffle")
)
_DIM_LISTS = {"aten.flip.default": 1, "aten.roll.default": 2}
MOVEMENTS = (
    RESHAPES | EXPANSIONS | IDENTITIES | PADS | JOINS | PERMUTES | _LAST_THREE
    | frozenset(_DIM_ARGUMENT) | frozenset(_DIM_LISTS)
    | {"aten.repeat.default", "aten.index.Tensor"}
)  # fmt: skip


def is_movement(program: Program, step: Step) -> bool:
    """Is the step on the allow-list, with indices (if any) that do not depend on the inputs?"""
    if step.op not in MOVEMENTS:
        return False
    if step.op in PADS and not _plain_pad(step):
        return False
    if step.op == "aten.index.Tensor" and touched_dims(program, step) is None:
        return False
    return all(program.values[value].data is not None for value in index_values(step))


def sized_by_inputs(step: Step) -> bool:
    """Does it compute with a free input size, other than to give its result that shape?"""
    return bool(step.free) and step.op not in RESHAPES | REPEATS


def repeated(program: Program, value: int) -> bool:
    """Is a computed value copied, or cut, as often as an input's size says?"""
    return any(step.op in REPEATS or step.free for step in steps_behind(program, value))


def index_values(step: Step) -> tuple[int, ...]:
    """Values that say where elements come from, rather than being moved."""
    if step.op == "aten.index_select.default":
        return (step.args[2].value,)
    if step.op == "aten.index.Tensor":
        return tuple(item.value for item in step.args[1] if isinstance(item, Ref))
    return ()


def moved_values(step: Step) -> tuple[int, ...]:
    """Ids of the values whose elements are moved, in order."""
    if step.op in JOINS:
        return tuple(item.value for item in step.args[0])
    return (step.args[0].value,)


def touched_dims(program: Program, step: Step) -> tuple[int, ...] | None:
    """Input dimensions whose full size the operation needs; None where all are needed."""
    rank = len(program.values[moved_values(step)[0]].shape)
    if step.op in _DIM_ARGUMENT:
        dim = step.argument(_DIM_ARGUMENT[step.op], "dim", _DEFAULT_DIM.get(step.op, 0))
        dims: tuple[int, ...] | None = None if dim is None else (dim,)
    elif step.op in _DIM_LISTS:
        dims = tuple(step.argument(_DIM_LISTS[step.op], "dims", ())) or None
    elif step.op in PADS:
        dims = tuple(range(rank - len(step.args[1]) // 2, rank))
    elif step.op == "aten.index.Tensor":
        indexed = tuple(dim for dim, item in enumerate(step.args[1]) if item is not None)
        dims = indexed if len(indexed) == 1 else None
    else:
        fixed: dict[str, tuple[int, ...]] = {
            **dict.fromkeys(PERMUTES, ()),
            **dict.fromkeys(_LAST_THREE, (-3, -2, -1)),
        }
        dims = fixed.get(step.op)
    return None if dims is None else tuple(dim % rank for dim in dims)


def move(program: Program, step: Step, tensors: list[Tensor], fill: float) -> list[Tensor]:
    """Compact tensors of the moved inputs -> compact tensors of the outputs.

    `fill` stands where the operation makes elements (padding).
    """
    shapes = [program.values[value].shape for value in moved_values(step)]
    after = program.values[step.outputs[0]].shape
    if step.op in IDENTITIES:
        return tensors
    single: Tensor | None = None
    if step.op in RESHAPES:
        single = reshape_compact(tensors[0], shapes[0], after)
    elif step.op in EXPANSIONS:
        single = align(tensors[0], len(after))
    elif step.op in JOINS:
        single = _join(step, tensors, shapes)
    elif step.op in PADS:
        single = _pad(step, tensors[0], shapes[0], fill)
    if single is not None:
        return [single]
    full = _expand(tensors[0], shapes[0], touched_dims(program, step))
    result = _function(program, step)(full)
    outputs = list(result) if isinstance(result, tuple | list) else [result]
    return [compress(output) for output in outputs]


def move_back(
    program: Program, step: Step, needed: list[Tensor | None]
) -> list[tuple[int, Tensor]]:
    """Which elements of the moved inputs the needed elements of the outputs come from."""
    values = moved_values(step)
    shapes = [program.values[value].shape for value in values]
    first = next(mask for mask in needed if mask is not None)
    if step.op in JOINS:
        return _join_back(step, first, values, shapes)
    if step.op in IDENTITIES:
        result = first
    elif step.op in RESHAPES:
        after = program.values[step.outputs[0]].shape
        result = reshape_compact(first, after, shapes[0])
    elif step.op in EXPANSIONS:
        result = any_to(first, shapes[0])
    else:
        result = _pull_back(program, step, needed, shapes[0])
    return [(values[0], result)]


def _expand(tensor: Tensor, shape: tuple[int, ...], touched: tuple[int, ...] | None) -> Tensor:
    if touched is None:
        return tensor.expand(shape)
    sizes = list(tensor.shape)
    for dim in touched:
        sizes[dim] = shape[dim]
    return tensor.expand(sizes)


def _function(program: Program, step: Step) -> Callable[[Tensor], Any]:
    packet = operation(step.op)

    def resolve(tree: Any) -> Any:
        if isinstance(tree, Ref):
            return program.values[tree.value].data
        if isinstance(tree, tuple | list):
            return type(tree)(resolve(item) for item in tree)
        return tree

    rest = resolve(step.args[1:])
    kwargs = {name: resolve(value) for name, value in step.kwargs.items()}
    return lambda tensor: packet(tensor, *rest, **kwargs)


def _join_dim(step: Step, rank: int) -> int:
    dim = int(step.argument(1, "dim", 0))
    return dim % (rank + 1) if step.op == "aten.stack.default" else dim % rank


def _join(step: Step, tensors: list[Tensor], shapes: list[tuple[int, ...]]) -> Tensor:
    dim = _join_dim(step, len(shapes[0]))
    if step.op == "aten.stack.default":
        parts = [tensor.unsqueeze(dim) for tensor in tensors]
        sizes = [1] * len(parts)
    else:
        parts, sizes = tensors, [shape[dim] for shape in shapes]
    common = torch.broadcast_shapes(*(part.narrow(dim, 0, 1).shape for part in parts))
    full = []
    for part, size in zip(parts, sizes, strict=True):
        target = list(common)
        target[dim] = size
        full.append(part.expand(target))
    return compress(torch.cat(full, dim))


def _join_back(
    step: Step, needed: Tensor, values: tuple[int, ...], shapes: list[tuple[int, ...]]
) -> list[tuple[int, Tensor]]:
    dim = _join_dim(step, len(shapes[0]))
    stacked = step.op == "aten.stack.default"
    found = []
    start = 0
    for value, shape in zip(values, shapes, strict=True):
        size = 1 if stacked else shape[dim]
        part = needed if needed.shape[dim] == 1 else needed.narrow(dim, start, size)
        found.append((value, part.squeeze(dim) if stacked else part))
        start += size
    return found


def _plain_pad(step: Step) -> bool:
    mode = step.argument(2, "mode", "constant") if step.op == "aten.pad.default" else "constant"
    return mode == "constant" and all(width >= 0 for width in step.args[1])


def pad_value(step: Step) -> float:
    """The value that a constant padding writes."""
    position = 3 if step.op == "aten.pad.default" else 2
    return float(step.argument(position, "value", 0.0) or 0.0)


def _pad(step: Step, tensor: Tensor, shape: tuple[int, ...], fill: float) -> Tensor:
    widths = step.args[1]
    dims = range(len(shape) - 1, len(shape) - 1 - len(widths) // 2, -1)
    for dim, before, after in zip(dims, widths[::2], widths[1::2], strict=True):
        if before == after == 0:
            continue
        sizes = list(tensor.shape)
        sizes[dim] = shape[dim]
        body = tensor.expand(sizes)
        edges = []
        for width in (before, after):
            sizes[dim] = width
            edges.append(torch.full(sizes, fill, dtype=tensor.dtype, device=tensor.device))
        tensor = compress(torch.cat([edges[0], body, edges[1]], dim))
    return tensor


def _pull_back(
    program: Program, step: Step, needed: list[Tensor | None], shape: tuple[int, ...]
) -> Tensor:
    if step.op in PADS:
        return _pad_back(step, needed, shape)
    touched = touched_dims(program, step)
    sizes = [1] * len(shape) if touched is not None else list(shape)
    for dim in touched or ():
        sizes[dim] = shape[dim]
    function = _function(program, step)
    with torch.enable_grad():
        leaf = torch.zeros(sizes, dtype=torch.float64, requires_grad=True)
        outputs = function(leaf)
        if not _fits(outputs, needed):
            leaf = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
            outputs = function(leaf)
        outputs = list(outputs) if isinstance(outputs, tuple | list) else [outputs]
        pairs = [
            (output, mask.to(torch.float64).expand(output.shape))
            for output, mask in zip(outputs, needed, strict=True)
            if mask is not None
        ]
        (gradient,) = torch.autograd.grad(
            [output for output, _ in pairs], leaf, [mask for _, mask in pairs]
        )
    return compress(gradient > 0)


def _fits(outputs: Any, needed: list[Tensor | None]) -> bool:
    listed = list(outputs) if isinstance(outputs, tuple | list) else [outputs]
    return all(
        mask is None or all(m in (1, o) for m, o in zip(mask.shape, output.shape, strict=True))
        for output, mask in zip(listed, needed, strict=True)
    )


def _pad_back(step: Step, needed: list[Tensor | None], shape: tuple[int, ...]) -> Tensor:
    mask = next(item for item in needed if item is not None)
    widths = step.args[1]
    for place in range(len(widths) // 2):
        dim = len(shape) - 1 - place
        if mask.shape[dim] > 1:
            mask = mask.narrow(dim, widths[2 * place], shape[dim])
    return mask
