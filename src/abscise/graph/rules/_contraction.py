"""Contraction: a linear layer, convolution or matrix product, read off a step of the program."""

from dataclasses import dataclass

from abscise.graph._program import Program, Ref, Step

_CONVOLUTIONS = {
    f"aten.conv{rank}d.{kind}": rank for rank in (1, 2, 3) for kind in ("default", "padding")
}
_TRANSPOSED = {
    "aten.conv_transpose1d.default": 1,
    "aten.conv_transpose2d.input": 2,
    "aten.conv_transpose3d.input": 3,
}
_LINEAR = frozenset({"aten.linear.default"})
_PRODUCTS = frozenset({"aten.mm.default", "aten.matmul.default"})


@dataclass(frozen=True, slots=True)
class Contraction:
    """A step seen as out[o] = sum_i weight[o, i] x[i] + bias[o].

    Args:
        x: value ids of the input, the weight and the bias (None without one).
        in_dim: Dimension of the input that is summed over; `out_dim` of the output that is written.
        out_axis: Axis of the weight that writes; `in_axis` the one that reads.
        spatial: Number of kernel dimensions.
        padded: Zero padding can come into the sum, so that a constant input gives no constant
        output.
    """

    x: int
    weight: int
    bias: int | None
    in_dim: int
    out_dim: int
    out_axis: int
    in_axis: int
    spatial: int = 0
    groups: int = 1
    padded: bool = False
    transposed: bool = False


def contraction_of(program: Program, step: Step, static: frozenset[int]) -> Contraction | None:
    """The step as a contraction whose weight does not depend on the inputs, or None."""
    found = _read(program, step)
    if found is None or found.weight not in static or found.x in static:
        return None
    if found.bias is not None and found.bias not in static:
        return None
    return found


def _read(program: Program, step: Step) -> Contraction | None:
    found: Contraction | None = None
    if step.op in _CONVOLUTIONS:
        found = _convolution(program, step, _CONVOLUTIONS[step.op])
    elif step.op in _TRANSPOSED:
        found = _transposed(program, step, _TRANSPOSED[step.op])
    elif step.op == "aten.convolution.default":
        found = _generic(program, step)
    elif step.op in _LINEAR:
        found = _linear(program, step)
    elif step.op in _PRODUCTS or step.op == "aten.addmm.default":
        found = _product(program, step)
    return found


def _value(argument: object) -> int | None:
    return argument.value if isinstance(argument, Ref) else None


def _linear(program: Program, step: Step) -> Contraction | None:
    x, weight = step.args[0].value, step.args[1].value
    if len(program.values[weight].shape) != 2:
        return None
    last = len(program.values[x].shape) - 1
    bias = _value(step.argument(2, "bias"))
    return Contraction(x, weight, bias, last, last, out_axis=0, in_axis=1)


def _product(program: Program, step: Step) -> Contraction | None:
    shift = 1 if step.op == "aten.addmm.default" else 0
    if shift and (step.kwargs.get("beta", 1) != 1 or step.kwargs.get("alpha", 1) != 1):
        return None
    x, weight = step.args[shift].value, step.args[shift + 1].value
    if len(program.values[weight].shape) != 2:
        return None
    bias = step.args[0].value if shift else None
    if bias is not None and len(program.values[bias].shape) != 1:
        return None
    last = len(program.values[x].shape) - 1
    return Contraction(x, weight, bias, last, last, out_axis=1, in_axis=0)


def _convolution(program: Program, step: Step, spatial: int) -> Contraction:
    padding = step.argument(4, "padding", 0)
    if isinstance(padding, str):
        kernel = program.values[step.args[1].value].shape[2:]
        padded = padding == "same" and any(size > 1 for size in kernel)
    else:
        padded = any(padding) if isinstance(padding, list | tuple) else bool(padding)
    groups = int(step.argument(6, "groups", 1))
    return _conv(program, step, spatial, groups, padded=padded)


def _conv(program: Program, step: Step, spatial: int, groups: int, *, padded: bool) -> Contraction:
    x, weight = step.args[0].value, step.args[1].value
    dim = len(program.values[x].shape) - 1 - spatial
    bias = _value(step.argument(2, "bias"))
    return Contraction(x, weight, bias, dim, dim, 0, 1, spatial, groups, padded)


def _transposed(program: Program, step: Step, spatial: int) -> Contraction:
    x, weight = step.args[0].value, step.args[1].value
    dim = len(program.values[x].shape) - 1 - spatial
    bias = _value(step.argument(2, "bias"))
    groups = int(step.argument(6, "groups", 1))
    return Contraction(
        x, weight, bias, dim, dim, 1, 0, spatial, groups, padded=True, transposed=True
    )


def _generic(program: Program, step: Step) -> Contraction:
    x = step.args[0].value
    spatial = len(program.values[step.args[1].value].shape) - 2
    dim = len(program.values[x].shape) - 1 - spatial
    _, weight, bias, _, padding, _, transposed, _, groups = step.args
    if transposed:
        return Contraction(
            x,
            weight.value,
            _value(bias),
            dim,
            dim,
            1,
            0,
            spatial,
            groups,
            padded=True,
            transposed=True,
        )
    return _conv(program, step, spatial, groups, padded=any(padding))
