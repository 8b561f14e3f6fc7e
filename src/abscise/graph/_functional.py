"""From torch.export's graph to a `Program`: concrete sizes, tied weights, no in-place operation."""

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from abscise._inputs import Inputs
from abscise.graph._guards import guards_of
from abscise.graph._nodes import (
    GRAD_MODE,
    all_nodes,
    free_arguments,
    module_path,
    source_line,
    sub_graph,
    tied_names,
)
from abscise.graph._program import Program, Ref, Step, Value, resolve, static_values

# In eval mode these return their input itself.
_DROPOUT = frozenset(
    f"aten.{name}.default"
    for kind in ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
    for name in (kind, f"{kind}_")
)
_ALIASES = frozenset({"aten.alias.default", "aten.detach.default", "aten.detach_.default"})
# Outputs that may or may not share the input's memory although their schema does not say so.
_MAYBE_SHARED = frozenset(
    {
        "aten.contiguous.default",
        "aten.reshape.default",
        "aten.pad.default",
        "aten.lift_fresh.default",
    }
)


class NotFunctionalError(Exception):
    """An in-place operation whose effect cannot be followed here."""


class DataNumberError(Exception):
    """Something is computed with a number that forward read from a tensor; the line that does."""


def build_program(model: nn.Module, exported: torch.export.ExportedProgram) -> Program:
    """Number the values, make sizes concrete and in-place operations functional.

    Raises:
        NotFunctionalError: An in-place operation touches memory that is read later under another
            name.
        DataNumberError: Forward computes with a number that depends on the data.
    """
    builder = _Builder(model, exported)
    for node in exported.graph.nodes:
        builder.add(node)
    return builder.finish()


class _Builder:
    def __init__(self, model: nn.Module, exported: torch.export.ExportedProgram) -> None:
        self._exported = exported
        args, kwargs = exported.example_inputs or ((), {})
        self._examples = Inputs(args, kwargs).tensors()  # free sizes are evaluated at these
        self._values: list[Value] = []
        self._steps: list[Step] = []
        self._inputs: list[int] = []
        self._outputs: list[int] = []
        self._meta: list[Tensor] = []  # value id -> a tensor without data that has its shape
        self._env: dict[fx.Node, Any] = {}
        self._mutated = frozenset(exported.graph_signature.buffers_to_mutate.values())
        self._memory: dict[int, int] = {}  # value id -> id of the memory it may share
        self._order = {node: i for i, node in enumerate(all_nodes(exported.graph))}
        self._aliases = tied_names(model)
        self._by_name: dict[str, int] = {}
        self._tensors: dict[str, Tensor] = {
            **dict(model.named_parameters(remove_duplicate=False)),
            **dict(model.named_buffers(remove_duplicate=False)),
        }
        self._specs = {spec.arg.name: spec for spec in exported.graph_signature.input_specs}

    def finish(self) -> Program:
        dynamic = frozenset(
            (place, dim)
            for place, node in enumerate(self._user_nodes())
            for dim, size in enumerate(node.meta["val"].shape)
            if isinstance(size, torch.SymInt)
        )
        return Program(
            steps=tuple(self._steps),
            values=tuple(self._values),
            inputs=tuple(self._inputs),
            outputs=tuple(self._outputs),
            aliases=self._aliases,
            dynamic=dynamic,
            static=static_values(self._steps, self._values),
            guards=guards_of(self._exported),
        )

    def add(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self._add_placeholder(node)
        elif node.op == "output":
            _ = fx.map_arg(node.args, self._read_output)
        elif node.op == "call_function":
            self._add_call(node)
        else:  # get_attr: a sub-graph of a higher-order operation, inlined or pinned at its use
            self._env[node] = None

    def _inline(self, node: fx.Node, graph: fx.Graph) -> None:
        """The nodes of a sub-graph in place of the one that calls it."""
        places = iter(node.args[2:])
        for inner in graph.nodes:
            if inner.op == "placeholder":
                self._env[inner] = self._env[next(places)]  # type: ignore[index]
            elif inner.op == "output":
                outputs = inner.args[0]
                assert isinstance(outputs, tuple | list)
                self._env[node] = tuple(self._env[item] for item in outputs)
            else:
                self.add(inner)

    def _user_nodes(self) -> list[fx.Node]:
        return [
            node
            for node in self._exported.graph.nodes
            if node.op == "placeholder"
            and self._specs[node.name].kind is torch.export.graph_signature.InputKind.USER_INPUT
            and isinstance(node.meta.get("val"), Tensor)
        ]

    def _add_placeholder(self, node: fx.Node) -> None:
        spec = self._specs[node.name]
        fake = node.meta.get("val")
        if not isinstance(fake, Tensor):
            self._env[node] = fake
            return
        if spec.kind is torch.export.graph_signature.InputKind.USER_INPUT:
            example = self._examples[len(self._inputs)]
            value = self._new_value(torch.empty(example.shape, dtype=fake.dtype, device="meta"))
            self._inputs.append(value)
        else:
            value = self._constant(str(spec.target))
        self._env[node] = value

    def _constant(self, target: str) -> int:
        name = self._aliases.get(target, target)
        if name in self._by_name:
            return self._by_name[name]
        owned = name in self._tensors
        if target in self._mutated:  # another value at the next call: it is no constant
            fake = self._tensors[name] if owned else self._exported.constants[target]
            value = self._new_value(torch.empty_like(fake, device="meta"), name=name)
            self._by_name[name] = value
            return value
        data = self._tensors[name] if owned else self._exported.constants[target]
        data = data.detach() if isinstance(data, Tensor) else torch.as_tensor(data)
        value = self._new_value(
            torch.empty_like(data, device="meta"), name=name if owned else None, data=data
        )
        self._by_name[name] = value
        return value

    def _new_value(self, meta: Tensor, name: str | None = None, data: Tensor | None = None) -> int:
        self._values.append(Value(tuple(meta.shape), meta.dtype, name, data))
        self._meta.append(meta)
        return len(self._values) - 1

    def _read_output(self, node: fx.Node) -> fx.Node:
        found = self._env[node]
        if isinstance(found, int) and isinstance(node.meta.get("val"), Tensor):
            self._outputs.append(found)
        return node

    def _add_call(self, node: fx.Node) -> None:
        target = node.target
        op = str(target)
        idle = op in _DROPOUT and (_argument(node, 2) is False or _argument(node, 1) == 0)
        if target is operator.getitem:
            source = self._env[node.args[0]]  # type: ignore[index]
            place: Any = node.args[1]
            self._env[node] = source[place] if isinstance(source, tuple) else None
        elif not isinstance(node.meta.get("val"), Tensor | tuple | list):
            self._env[node] = self._number(node)
        elif op == GRAD_MODE:  # gradients on or off: the numbers are the same
            self._inline(node, sub_graph(node))
        elif op in _ALIASES or idle:
            self._env[node] = self._env[node.args[0]]  # type: ignore[index]
        elif isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable:  # noqa: SLF001
            self._add_in_place(node, target)
        else:
            self._env[node] = self._emit(node, op)
            self._share_memory(node, op)

    def _number(self, node: fx.Node) -> Any:
        """A size, or arithmetic on sizes, evaluated at the concrete shapes; None: not known."""

        def read(item: fx.Node) -> Any:
            found = self._env[item]
            return self._meta[found] if isinstance(item.meta.get("val"), Tensor) else found

        if callable(node.target) and node.meta.get("val") is not None:
            args = fx.map_arg(node.args, read)
            if all(isinstance(item, int | float | bool | Tensor) for item in args):
                try:
                    return node.target(*args)
                except (RuntimeError, NotImplementedError):  # it reads numbers, not sizes
                    return None
        return None

    def _emit(self, node: fx.Node, op: str, rename: str | None = None) -> Any:
        def read(item: fx.Node) -> Any:
            found, fake = self._env[item], item.meta.get("val")
            if found is None and isinstance(fake, torch.SymInt | torch.SymFloat | torch.SymBool):
                raise DataNumberError(source_line(item) or str(item.target))
            return Ref(found) if isinstance(fake, Tensor) else found

        args = tuple(fx.map_arg(node.args, read))
        kwargs = dict(fx.map_arg(node.kwargs, read))
        outputs = self._output_values(node, args, kwargs, rename)
        self._steps.append(
            Step(
                rename or op,
                args,
                kwargs,
                outputs,
                module_path(node),
                source_line(node),
                free_arguments(node),
            )
        )
        return outputs if isinstance(node.meta["val"], tuple | list) else outputs[0]

    def _output_values(
        self, node: fx.Node, args: Any, kwargs: Mapping[str, Any], rename: str | None
    ) -> tuple[int, ...]:
        fake = node.meta["val"]
        fakes = tuple(fake) if isinstance(fake, tuple | list) else (fake,)
        if any(isinstance(size, torch.SymInt) for item in fakes for size in _shape(item)):
            results = self._run_on_meta(node, args, kwargs, rename)
        else:
            results = fakes
        return tuple(
            self._new_value(torch.empty(_shape(item), dtype=_dtype(item), device="meta"))
            for item in results
        )

    def _run_on_meta(
        self, node: fx.Node, args: Any, kwargs: Mapping[str, Any], rename: str | None
    ) -> tuple[Tensor, ...]:
        meta_args, meta_kwargs = resolve((args, dict(kwargs)), self._meta)
        if "device" in meta_kwargs:
            meta_kwargs["device"] = torch.device("meta")
        function: Any = operation(rename) if rename else node.target
        try:
            result = function(*meta_args, **meta_kwargs)
        except Exception as error:
            raise NotFunctionalError(str(error)) from error
        return tuple(result) if isinstance(result, tuple | list) else (result,)

    def _add_in_place(self, node: fx.Node, target: torch._ops.OpOverload) -> None:
        name = str(target)
        base, overload = name.removeprefix("aten.").split(".")
        functional = f"aten.{base.removesuffix('_')}.{overload}"
        changed = node.args[0] if node.args else None
        if (
            not base.endswith("_")
            or operation(functional) is None
            or not isinstance(changed, fx.Node)
        ):
            raise NotFunctionalError(name)
        value = self._env[changed]
        memory = self._memory.get(value, value)
        if self._values[memory].data is not None or memory in self._inputs:
            raise NotFunctionalError(name)
        if any(self._read_later(other, node) for other in self._sharing(memory) - {value}):
            raise NotFunctionalError(name)
        new = self._emit(node, name, rename=functional)
        for other, found in list(self._env.items()):
            if (
                found == value
                and isinstance(found, int)
                and isinstance(other.meta.get("val"), Tensor)
            ):
                self._env[other] = new
        self._env[node] = new

    def _share_memory(self, node: fx.Node, op: str) -> None:
        outputs = self._env[node]
        schema = getattr(node.target, "_schema", None)
        views = schema is not None and any(item.alias_info is not None for item in schema.returns)
        if not views and op not in _MAYBE_SHARED:
            return
        first = next((item for item in node.args if isinstance(item, fx.Node)), None)
        source = self._env.get(first) if first is not None else None
        if not isinstance(source, int):
            return
        for output in outputs if isinstance(outputs, tuple) else (outputs,):
            self._memory[output] = self._memory.get(source, source)

    def _sharing(self, memory: int) -> set[int]:
        return {memory} | {value for value, root in self._memory.items() if root == memory}

    def _read_later(self, value: int, now: fx.Node) -> bool:
        return any(
            self._order[user] > self._order[now]
            for node, found in self._env.items()
            if found == value or (isinstance(found, tuple) and value in found)
            for user in node.users
        )


def operation(name: str) -> Any:
    """The torch operation of a name such as "aten.relu.default"; None where there is none."""
    parts = name.split(".")
    packet = getattr(getattr(torch.ops, parts[0]), parts[1], None)
    return getattr(packet, parts[2], None) if packet is not None else None


def _argument(node: fx.Node, position: int) -> object:
    return node.args[position] if len(node.args) > position else None


def _shape(item: Any) -> tuple[Any, ...]:
    return tuple(item.shape) if isinstance(item, Tensor) else ()


def _dtype(item: Any) -> torch.dtype:
    return item.dtype if isinstance(item, Tensor) else torch.float32
