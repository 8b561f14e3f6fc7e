"""One rule per kind of operation; `rule_of` finds it. An operation without a rule is pinned."""

from abscise.graph._movement import is_movement
from abscise.graph._program import Program, Step
from abscise.graph.rules._base import Rule, Unknown
from abscise.graph.rules._computed import WEIGHT_NORM, WeightNorm, fold_static, weight_norm_operands
from abscise.graph.rules._contract import (
    Contract,
    channel_units,
    dense_nonzero,
    kernel_sums,
    read_channels,
    vector_or_none,
)
from abscise.graph.rules._contraction import Contraction, contraction_of
from abscise.graph.rules._elementwise import Elementwise, evaluate, is_elementwise, is_product
from abscise.graph.rules._moving import BorderPad, Identity, Movement, is_border_pad
from abscise.graph.rules._norm import (
    BATCH_NORMS,
    GROUP_NORM,
    BatchNorm,
    GroupNorm,
    batch_norm_operands,
    group_norm_operands,
    normalises_by_batch,
)
from abscise.graph.rules._spatial import Pool, Reduction, is_pool, is_reduction

_CASTS = frozenset(
    f"aten.{name}"
    for name in (
        "to.dtype", "to.device", "to.other", "to.dtype_layout", "_to_copy.default",
        "type_as.default", "float.default", "half.default",
    )
)  # fmt: skip


def rule_of(program: Program, step: Step, static: frozenset[int]) -> Rule:
    """The rule of a step; `Unknown` where there is none. `static` is `program.static`."""
    contraction = contraction_of(program, step, static)
    if contraction is not None:
        return Contract(contraction)
    table: tuple[tuple[bool, Rule], ...] = (
        (step.op in BATCH_NORMS, BatchNorm()),
        (step.op == GROUP_NORM, GroupNorm()),
        (step.op == WEIGHT_NORM, WeightNorm()),
        (is_movement(program, step), Movement()),
        (is_border_pad(step), BorderPad()),
        (is_elementwise(step), Elementwise()),
        (is_pool(step), Pool()),
        (is_reduction(step), Reduction()),
        (step.op in _CASTS, Identity()),
    )
    return next((rule for applies, rule in table if applies), Unknown())


__all__ = [
    "BATCH_NORMS",
    "GROUP_NORM",
    "WEIGHT_NORM",
    "BatchNorm",
    "BorderPad",
    "Contract",
    "Contraction",
    "Elementwise",
    "Identity",
    "Movement",
    "Pool",
    "Reduction",
    "Rule",
    "batch_norm_operands",
    "channel_units",
    "contraction_of",
    "dense_nonzero",
    "evaluate",
    "fold_static",
    "group_norm_operands",
    "is_border_pad",
    "is_elementwise",
    "is_product",
    "kernel_sums",
    "normalises_by_batch",
    "read_channels",
    "rule_of",
    "vector_or_none",
    "weight_norm_operands",
]
