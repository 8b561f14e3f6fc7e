"""What torch.export's nodes tell beside their operation: where they come from, what they wrap."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn

GRAD_MODE = "wrap_with_set_grad_enabled"
_FREE = (torch.SymInt, torch.SymFloat, torch.SymBool)


def sub_graph(node: fx.Node) -> fx.Graph:
    """The graph that a switch of the gradient mode wraps."""
    attribute = node.args[1]
    assert isinstance(attribute, fx.Node)
    owner = node.graph.owning_module
    module = owner.get_submodule(str(attribute.target)) if owner is not None else None
    assert isinstance(module, fx.GraphModule)
    return module.graph


def all_nodes(graph: fx.Graph) -> Iterator[fx.Node]:
    """All nodes in the order in which they run."""
    for node in graph.nodes:
        if node.op == "call_function" and str(node.target) == GRAD_MODE:
            yield from all_nodes(sub_graph(node))
        yield node


def tied_names(model: nn.Module) -> dict[str, str]:
    """Every name of a parameter or buffer -> the first name of the same object."""
    first: dict[int, str] = {}
    everything = [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]
    return {name: first.setdefault(id(tensor), name) for name, tensor in everything}


def free_arguments(node: fx.Node) -> dict[int | str, str]:
    """Arguments that are computed from a free input size, by position or name, as formulas."""
    places: list[tuple[int | str, Any]] = [*enumerate(node.args), *node.kwargs.items()]
    found: dict[int | str, str] = {}
    for place, item in places:
        numbers = [inner for inner in _nodes_in(item) if isinstance(inner.meta.get("val"), _FREE)]
        if numbers:
            found[place] = ", ".join(str(inner.meta["val"]) for inner in numbers)
    return found


def _nodes_in(tree: Any) -> list[fx.Node]:
    found: list[fx.Node] = []
    _ = fx.map_arg(tree, found.append)
    return found


def module_path(node: fx.Node) -> str:
    """Qualified name of the module whose forward made the node."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [entry[0] for entry in stack.values()]
    return str(paths[-1]) if paths else ""


def source_line(node: fx.Node) -> str:
    """`file.py:12 code` of the innermost line outside torch."""
    trace = str(node.meta.get("stack_trace") or "")
    lines = trace.splitlines()
    for place in range(len(lines) - 1, -1, -1):
        line = lines[place].strip()
        if line.startswith('File "') and "/torch/" not in line:
            path, _, rest = line.removeprefix('File "').partition('", line ')
            code = lines[place + 1].strip() if place + 1 < len(lines) else ""
            return f"{path.rsplit('/', 1)[-1]}:{rest.split(',')[0]} {code}".strip()
    return ""
