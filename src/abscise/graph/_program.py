"""Program: the model's forward as a flat list of functional steps over numbered values."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Ref:
    """A tensor argument of a step: the id of the value it reads."""

    value: int


@dataclass(frozen=True, slots=True)
class Value:
    """One tensor of the program.

    Args:
        shape: Concrete sizes for the example inputs.
        name: Qualified name where it is a parameter or buffer, else None.
        data: The tensor itself where it does not depend on the inputs, else None.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    name: str | None = None
    data: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One operation. `args` and `kwargs` hold `Ref` for tensors and plain Python values.

    Args:
        free: Position or name of each argument that is computed from a free input size (it holds
            the number for the example inputs) -> its formula.
    """

    op: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    outputs: tuple[int, ...]
    module: str
    source: str
    free: Mapping[int | str, str] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[int, ...]:
        """Ids of the values it reads, in order, repeats included."""
        found: list[int] = []
        _collect(self.args, found)
        _collect(tuple(self.kwargs.values()), found)
        return tuple(found)

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument by position or by keyword."""
        if len(self.args) > position:
            return self.args[position]
        return self.kwargs.get(name, default)

    @property
    def where(self) -> str:
        """The op with its module and source line, as the user reads it in reasons."""
        place = f" in {self.module}" if self.module else ""
        source = f" ({self.source})" if self.source else ""
        return f"{self.op.removeprefix('aten.')}{place}{source}"


@dataclass(frozen=True, slots=True)
class Program:
    """Steps in execution order; `outputs` are read by the user (mutations included).

    Args:
        aliases: Every qualified name of a tied parameter -> the name its value bears.
        dynamic: (place of an input, dimension) of every size that the capture leaves free.
        static: Values that do not depend on the inputs: parameters, buffers, what is made of them.
        guards: Conditions on the free sizes under which forward takes these steps.
    """

    steps: tuple[Step, ...]
    values: tuple[Value, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    aliases: Mapping[str, str]
    dynamic: frozenset[tuple[int, int]]
    static: frozenset[int]
    guards: tuple[str, ...] = ()

    @property
    def consumers(self) -> dict[int, list[Step]]:
        """Value id -> the steps that read it."""
        found: dict[int, list[Step]] = {}
        for step in self.steps:
            for value in dict.fromkeys(step.inputs):
                found.setdefault(value, []).append(step)
        return found


def steps_behind(program: Program, value: int) -> Iterator[Step]:
    """Every step that a value is computed by, the nearest first, each once."""
    producers = {output: step for step in program.steps for output in step.outputs}
    open_values, seen = [value], set[int]()
    while open_values:
        step = producers.get(open_values.pop(0))
        if step is not None and not seen.issuperset(step.outputs):
            yield step
            seen.update(step.outputs)
            open_values += step.inputs


def static_values(steps: Iterable[Step], values: Sequence[Value]) -> frozenset[int]:
    """Values that do not depend on the inputs."""
    found = {value for value, entry in enumerate(values) if entry.data is not None}
    for step in steps:
        if step.inputs and found.issuperset(step.inputs):
            found.update(step.outputs)
    return frozenset(found)


def resolve(tree: Any, tensors: Sequence[Tensor] | Mapping[int, Tensor]) -> Any:
    """Arguments of a step with every `Ref` replaced by its tensor."""
    if isinstance(tree, Ref):
        return tensors[tree.value]
    if isinstance(tree, dict):
        return {name: resolve(item, tensors) for name, item in tree.items()}
    if isinstance(tree, tuple | list):
        return type(tree)(resolve(item, tensors) for item in tree)
    return tree


def _collect(tree: Any, found: list[int]) -> None:
    if isinstance(tree, Ref):
        found.append(tree.value)
    elif isinstance(tree, tuple | list):
        for item in tree:
            _collect(item, found)
