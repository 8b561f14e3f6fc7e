"""Guards: what a forward asks of the input sizes that a capture leaves free."""

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch

_SIZE = re.compile(r"L\['[^\]]*'\](?:\[[^\]]*\])*\.size\(\)\[\d+\]")
_LEAST, _MOST = 1024, 16384  # batch sizes up to which conditions are tried
_NO_LIMIT = 2**31 - 1  # a batch of so many elements is not what anybody means
_OPERATORS: Mapping[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
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
    try:
        largest = _largest((*left, *right))
        return _accepted(left, largest) == _accepted(right, largest)
    except _UntoldError:
        return False


def restricting(guards: tuple[str, ...]) -> tuple[str, ...]:
    """The conditions in words, where a batch of two rows or more fails one of them."""
    try:
        largest = _largest(guards)
        if len(_accepted(guards, largest)) == largest - 1:
            return ()
    except _UntoldError:
        pass
    return tuple(_SIZE.sub("rows", guard) for guard in guards)


class _UntoldError(Exception):
    """The conditions are not such as can be tried."""


def _accepted(guards: tuple[str, ...], largest: int) -> frozenset[int]:
    """The sizes from 2 on that fulfil all conditions."""
    if len({name for guard in guards for name in _SIZE.findall(guard)}) > 1 or largest > _MOST:
        raise _UntoldError
    trees = [tree for tree in map(_parsed, guards) if _constant(tree) < _NO_LIMIT]
    try:
        return frozenset(
            size for size in range(2, largest + 1) if all(_value(tree, size) for tree in trees)
        )
    except (KeyError, TypeError, OverflowError) as error:
        raise _UntoldError from error


def _largest(guards: tuple[str, ...]) -> int:
    """The largest size to try: twice any number that a condition compares with."""
    numbers = [_constant(_parsed(guard)) for guard in guards]
    return max([_LEAST, *(2 * number for number in numbers if number < _NO_LIMIT)])


def _parsed(guard: str) -> ast.expr:
    try:
        return ast.parse(_SIZE.sub("size", guard), mode="eval").body
    except SyntaxError as error:
        raise _UntoldError from error


def _constant(tree: ast.expr) -> int:
    """The largest number in an expression."""
    found = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return max((int(value) for value in found if isinstance(value, int | float)), default=0)


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
        raise _UntoldError
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
