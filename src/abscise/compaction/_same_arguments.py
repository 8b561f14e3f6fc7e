"""Rule R1 at one step: the same arguments as before, except sizes."""

import math
from collections.abc import Mapping
from typing import Any

from abscise.graph import Ref, Step
from abscise.graph._functional import operation
from abscise.graph._movement import EXPANSIONS, RESHAPES
from abscise.graph.rules import GROUP_NORM

_MAY_GET_BIAS = frozenset(
    {"aten.conv1d.default", "aten.conv2d.default", "aten.conv3d.default", "aten.linear.default"}
)
_FACTORIES = ("aten.zeros.", "aten.ones.", "aten.full.", "aten.empty.")
_SIZES_AT = {
    GROUP_NORM: 1,
    "aten.split.Tensor": 1,
    "aten.split.sizes": 1,
    "aten.split_with_sizes.default": 1,
    "aten.conv1d.default": 6,
    "aten.conv2d.default": 6,
    "aten.conv3d.default": 6,
    "aten.conv1d.padding": 6,
    "aten.conv2d.padding": 6,
    "aten.conv3d.padding": 6,
    "aten.conv_transpose1d.default": 6,
    "aten.conv_transpose2d.input": 6,
    "aten.conv_transpose3d.input": 6,
    "aten.convolution.default": 8,
}


def same_arguments(old: Step, new: Step, match: Mapping[int, int]) -> bool:
    """Equal but for sizes, where `match` gives the new value of each old one."""
    old_args, new_args = _all_arguments(old), _all_arguments(new)
    if old.op in _MAY_GET_BIAS and new.argument(2, "bias") is not None:
        # A reader may have got a new bias, which the old call had no place for.
        new_args[2] = None if old_args[2] is None else new_args[2]
    if len(old_args) != len(new_args) or old.kwargs.keys() != new.kwargs.keys():
        return False
    free = _free_arguments(old)
    if old.op not in RESHAPES and dict(old.free) != dict(new.free):
        return False
    return all(
        _equal(a, b, match, sizes=place in free)
        for place, (a, b) in enumerate(zip(old_args, new_args, strict=True))
    ) and all(_equal(old.kwargs[name], new.kwargs[name], match, sizes=False) for name in old.kwargs)


def _all_arguments(step: Step) -> list[Any]:
    """Positional arguments with the defaults that torch leaves out (a convolution's groups)."""
    args = list(step.args)
    if step.op in _MAY_GET_BIAS or step.op in _SIZES_AT:
        schema = operation(step.op)._schema  # noqa: SLF001 - the only way to an operation's defaults
        rest = schema.arguments[len(args) :]
        args += [item.default_value for item in rest if item.name not in step.kwargs]
    return args


def _free_arguments(step: Step) -> frozenset[int]:
    """Positions of arguments that are sizes, which may change with the number of units."""
    free: set[int] = set()
    if step.op in RESHAPES:
        free.update(range(1, len(step.args)))
    elif step.op in EXPANSIONS or step.op.startswith("aten.new_"):
        free.add(1)
    elif step.op.startswith(_FACTORIES):
        free.add(0)
    elif step.op in _SIZES_AT:
        free.add(_SIZES_AT[step.op])
    return frozenset(free)


def _equal(old: Any, new: Any, match: Mapping[int, int], *, sizes: bool) -> bool:
    """Equal arguments: references to matching values, equal numbers unless they are `sizes`."""
    if isinstance(old, tuple | list) and isinstance(new, int):
        new = [new] * len(old)  # a default written as one number
    if isinstance(old, tuple | list) and isinstance(new, tuple | list):
        pairs = zip(old, new, strict=False)
        return len(old) == len(new) and all(_equal(a, b, match, sizes=sizes) for a, b in pairs)
    if isinstance(old, Ref) and isinstance(new, Ref):
        return match.get(old.value) == new.value
    if sizes and isinstance(old, int) and isinstance(new, int):
        return True
    both_nan = isinstance(old, float) and isinstance(new, float) and math.isnan(old + new)
    return both_nan or (type(old) is type(new) and bool(old == new))
