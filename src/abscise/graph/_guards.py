"""Guards: what a forward asks of the input sizes that a capture leaves free."""

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch

_SIZE = re.compile(r"L\['[^\]]*'\](?:\[[^\]]*\])*\.size\(\)\[\d+\]")
_MOST = 1024  # batch sizes that are tried
_OPERATORS: Mapping[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def guards_of(exported: torch.export.ExportedProgram) -> tuple[str, ...]:
    """Conditions on the free input sizes that the captured forward rests on."""
    code: Any = getattr(exported, "_guards_code", None)
    if code is None:  # a torch that does not tell: the ranges say less, but never too little
        code = [f"{name} in {bounds}" for name, bounds in exported.range_constraints.items()]
    return tuple(dict.fromkeys(str(line) for line in code))


def same_guards(left: tuple[str, ...], right: tuple[str, ...]) -> bool:
    """Do both accept the same sizes? Where they are not the same text, every size is tried."""
    if left == right:
        return True
    accepted = _accepted_sizes(left), _accepted_sizes(right)
    return None not in accepted and accepted[0] == accepted[1]


def _accepted_sizes(guards: tuple[str, ...]) -> frozenset[int] | None:
    """The sizes up to `_MOST` that fulfil all conditions; None where that cannot be told."""
    if len({name for guard in guards for name in _SIZE.findall(guard)}) > 1:
        return None
    try:
        trees = [ast.parse(_SIZE.sub("size", guard), mode="eval").body for guard in guards]
        return frozenset(
            size for size in range(1, _MOST + 1) if all(_value(tree, size) for tree in trees)
        )
    except (SyntaxError, KeyError, NotImplementedError):
        return None


def _value(node: ast.AST, size: int) -> Any:
    """The value of an expression in `size`; nothing holds of a division by zero."""
    parts = [_value(item, size) for item in _operands(node)]
    if isinstance(node, ast.Constant):
        found: Any = node.value
    elif isinstance(node, ast.Name) and node.id == "size":
        found = size
    elif isinstance(node, ast.BoolOp):
        found = all(parts) if isinstance(node.op, ast.And) else any(parts)
    elif isinstance(node, ast.Compare):
        pairs = zip(node.ops, parts, parts[1:], strict=False)
        found = all(_OPERATORS[type(op)](left, right) for op, left, right in pairs)
    elif isinstance(node, ast.BinOp | ast.UnaryOp):
        found = _applied(_OPERATORS[type(node.op)], parts)
    else:
        raise NotImplementedError(type(node).__name__)
    return found


def _operands(node: ast.AST) -> list[ast.expr]:
    named = ("operand", "left", "right", "values", "comparators")
    found = [getattr(node, name) for name in named if hasattr(node, name)]
    return [item for part in found for item in (part if isinstance(part, list) else [part])]


def _applied(function: Callable[..., Any], parts: list[Any]) -> Any:
    try:
        return function(*parts)
    except ZeroDivisionError:
        return math.nan
