"""Multiply-accumulates of a captured graph; what is not known is listed, never taken as 0."""

import math
from collections.abc import Callable, Mapping

import torch

from abscise.graph import Program, Ref, Step


def count_macs(program: Program) -> tuple[int, tuple[str, ...]]:
    """Multiply-accumulates of one forward, and the names of ops that could not be counted.

    Attention is counted as dense, masks or not. Additions of a bias, normalisation, pooling and
    element-wise work count as none, as everybody counts.
    """
    total = 0
    uncounted: dict[str, None] = {}
    for step in program.steps:
        count = _macs_of(step, program)
        if count is None:
            uncounted[step.op] = None
        else:
            total += count
    return total, tuple(uncounted)


def _macs_of(step: Step, program: Program) -> int | None:
    name = _packet(step.op)
    if name in _FREE or _is_pointwise(step.op):
        return 0
    rule = _RULES.get(name)
    if rule is None:
        return None
    return rule(step, program)


def _packet(op: str) -> str:
    """`aten.relu_.default` -> `relu`: without namespace, overload and in-place mark."""
    parts = op.split(".")
    name = parts[1] if len(parts) > 1 and parts[0] == "aten" else op
    return name if name.startswith("__") else name.removesuffix("_")


def _is_pointwise(op: str) -> bool:
    """Whether torch itself marks the op so."""
    parts = op.split(".")
    if len(parts) != 3 or parts[0] != "aten":
        return False
    found = getattr(getattr(torch.ops.aten, parts[1], None), parts[2], None)
    return found is not None and torch.Tag.pointwise in found.tags


def _shape(step: Step, program: Program, position: int, name: str) -> tuple[int, ...]:
    argument = step.argument(position, name)
    if not isinstance(argument, Ref):
        message = f"{step.op}: argument {name} is no tensor"
        raise TypeError(message)
    return program.values[argument.value].shape


def _output(step: Step, program: Program) -> tuple[int, ...]:
    return program.values[step.outputs[0]].shape


def _convolution(step: Step, program: Program) -> int:
    return _kernel(step, program, _output(step, program))


def _transposed_convolution(step: Step, program: Program) -> int:
    return _kernel(step, program, _shape(step, program, 0, "input"))


def _general_convolution(step: Step, program: Program) -> int:
    transposed = bool(step.argument(6, "transposed", default=False))
    return (_transposed_convolution if transposed else _convolution)(step, program)


def _kernel(step: Step, program: Program, pixels: tuple[int, ...]) -> int:
    """Every element of `pixels` meets the whole kernel once: weight is (rows, per group, *size)."""
    return math.prod(pixels) * math.prod(_shape(step, program, 1, "weight")[1:])


def _linear(step: Step, program: Program) -> int:
    return math.prod(_output(step, program)) * _shape(step, program, 1, "weight")[-1]


def _product(first: int, name: str) -> Callable[[Step, Program], int]:
    """A matrix product whose left factor is the argument at `first`: its last axis is summed."""

    def count(step: Step, program: Program) -> int:
        return math.prod(_output(step, program)) * _shape(step, program, first, name)[-1]

    return count


def _summed_batches(step: Step, program: Program) -> int:
    left = _shape(step, program, 1, "batch1")
    return math.prod(left) * _shape(step, program, 2, "batch2")[-1]


def _dot(step: Step, program: Program) -> int:
    return math.prod(_shape(step, program, 0, "input"))


def _attention(step: Step, program: Program) -> int:
    query = _shape(step, program, 0, "query")
    key = _shape(step, program, 1, "key")
    value = _shape(step, program, 2, "value")
    return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _bilinear(step: Step, program: Program) -> int:
    rows = math.prod(_output(step, program)[:-1])
    outputs, left, right = _shape(step, program, 2, "weight")
    return rows * outputs * left * (right + 1)


def _einsum(step: Step, program: Program) -> int | None:
    """Two factors without ellipsis or repeated axes: every axis is a loop."""
    equation, operands = step.argument(0, "equation"), step.argument(1, "tensors")
    sides = str(equation).replace(" ", "").split("->")[0].split(",")
    plain = all(side.isalpha() and len(set(side)) == len(side) for side in sides)
    if not plain or len(sides) != 2 or len(operands) != 2:
        return None
    sizes: dict[str, int] = {}
    for side, operand in zip(sides, operands, strict=True):
        for axis, size in zip(side, program.values[operand.value].shape, strict=True):
            sizes[axis] = max(size, sizes.get(axis, 1))
    return math.prod(sizes.values())


_RULES: Mapping[str, Callable[[Step, Program], int | None]] = {
    "conv1d": _convolution,
    "conv2d": _convolution,
    "conv3d": _convolution,
    "conv_transpose1d": _transposed_convolution,
    "conv_transpose2d": _transposed_convolution,
    "conv_transpose3d": _transposed_convolution,
    "convolution": _general_convolution,
    "linear": _linear,
    "matmul": _product(0, "input"),
    "mm": _product(0, "input"),
    "bmm": _product(0, "input"),
    "mv": _product(0, "input"),
    "dot": _dot,
    "vdot": _dot,
    "addmm": _product(1, "mat1"),
    "addmv": _product(1, "mat"),
    "baddbmm": _product(1, "batch1"),
    "addbmm": _summed_batches,
    "bilinear": _bilinear,
    "einsum": _einsum,
    "scaled_dot_product_attention": _attention,
    "_scaled_dot_product_flash_attention": _attention,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_efficient_attention": _attention,
    "_scaled_dot_product_cudnn_attention": _attention,
}

# Beside what torch marks as pointwise. A name that is in no list is reported as uncounted.
_FREE = frozenset(
    """
    batch_norm _native_batch_norm_legit_no_training native_batch_norm layer_norm
    native_layer_norm group_norm native_group_norm instance_norm rms_norm _fused_rms_norm
    local_response_norm softmax _softmax log_softmax _log_softmax logsumexp
    linalg_vector_norm norm _weight_norm
    avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d
    max_pool2d_with_indices max_pool3d_with_indices max_pool1d_with_indices
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d
    _adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
    upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d
    upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d _upsample_bilinear2d_aa
    _upsample_bicubic2d_aa grid_sampler grid_sampler_2d grid_sampler_3d im2col col2im
    max_unpool2d max_unpool3d
    sum mean var std var_mean std_mean prod max min amax amin aminmax argmax argmin any all
    cumsum cumprod sort argsort topk median count_nonzero bucketize searchsorted histc
    bincount logcumsumexp kthvalue nonzero
    view reshape _unsafe_view view_as expand expand_as permute transpose t numpy_T mT
    flatten unflatten squeeze unsqueeze cat concat stack split split_with_sizes chunk unbind
    narrow select slice index index_select gather scatter scatter_add index_put index_add
    take take_along_dim masked_select masked_fill masked_scatter roll flip rot90 repeat
    repeat_interleave tile pad constant_pad_nd reflection_pad1d reflection_pad2d
    reflection_pad3d replication_pad1d replication_pad2d replication_pad3d unfold
    pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle tril triu diagonal
    diag diag_embed contiguous clone detach alias lift_fresh lift_fresh_copy _to_copy to
    type_as movedim swapaxes swapdims broadcast_to meshgrid select_scatter slice_scatter
    copy as_strided embedding broadcast_tensors atleast_1d atleast_2d resolve_conj
    view_as_real view_as_complex
    arange full full_like zeros zeros_like ones ones_like empty empty_like new_zeros
    new_ones new_full new_empty scalar_tensor linspace eye one_hot rand rand_like randn
    randn_like bernoulli
    dropout feature_dropout alpha_dropout feature_alpha_dropout native_dropout relu relu6
    prelu selu celu hardswish hardsigmoid hardtanh leaky_relu rrelu glu silu mish gelu elu
    softplus log_sigmoid rsub square item _local_scalar_dense sym_size sym_numel
    _assert_async _assert_scalar _assert_tensor_metadata __and__ __or__ __xor__ threshold
    softshrink hardshrink where clamp
    """.split()  # noqa: SIM905 - a list that can be read
)
