"""Example inputs as JSON (shapes, dtypes, plain values): a plan can capture a model again."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from abscise._errors import PlanError
from abscise._inputs import Inputs

_MAX_ELEMENTS = 2**31


def describe_inputs(inputs: Inputs) -> dict[str, object]:
    """The structure of the arguments; floats are not stored, integers neither: only their shapes.

    Raises:
        PlanError: An argument is neither a tensor nor a plain value, tuple, list or dict of such.
    """
    return {"args": _describe(tuple(inputs.args)), "kwargs": _describe(dict(inputs.kwargs))}


def rebuild_inputs(description: Mapping[str, object], device: torch.device) -> Inputs:
    """Inputs of the described shapes: floats from N(0, 1) by a fixed seed, other dtypes 0.

    Raises:
        PlanError: The description is malformed.
    """
    generator = torch.Generator().manual_seed(0)
    args = _rebuild(description.get("args"), generator, device)
    kwargs = _rebuild(description.get("kwargs"), generator, device)
    if not isinstance(args, tuple) or not isinstance(kwargs, dict):
        message = "the plan's inputs must hold a tuple of args and a dict of kwargs"
        raise PlanError(message)
    return Inputs(args, kwargs)


def _describe(tree: Any) -> dict[str, object]:
    found: dict[str, object] | None = None
    if isinstance(tree, Tensor):
        dtype = str(tree.dtype).removeprefix("torch.")
        found = {"tensor": {"shape": list(tree.shape), "dtype": dtype}}
    elif isinstance(tree, tuple | list):
        kind = "tuple" if isinstance(tree, tuple) else "list"
        found = {kind: [_describe(item) for item in tree]}
    elif isinstance(tree, Mapping):
        found = {"dict": {str(key): _describe(item) for key, item in tree.items()}}
    elif tree is None or isinstance(tree, bool | int | float | str):
        found = {"value": tree}
    if found is None:
        kind = type(tree).__name__
        message = f"a plan cannot describe an input of type {kind}; pass tensors or plain values"
        raise PlanError(message)
    return found


def _rebuild(tree: Any, generator: torch.Generator, device: torch.device) -> Any:
    if not isinstance(tree, Mapping) or len(tree) != 1:
        message = f"the plan's inputs are malformed at {str(tree)[:60]}"
        raise PlanError(message)
    ((kind, content),) = tree.items()
    if kind == "value":
        return content
    if kind == "tensor":
        return _rebuild_tensor(content, generator, device)
    if kind == "dict" and isinstance(content, Mapping):
        return {name: _rebuild(item, generator, device) for name, item in content.items()}
    if kind in ("tuple", "list") and isinstance(content, list):
        items = [_rebuild(item, generator, device) for item in content]
        return tuple(items) if kind == "tuple" else items
    message = f"the plan's inputs are malformed: unknown kind {kind!r}"
    raise PlanError(message)


def _rebuild_tensor(content: Any, generator: torch.Generator, device: torch.device) -> Tensor:
    fields: Mapping[str, Any] = content if isinstance(content, Mapping) else {}
    shape = fields.get("shape")
    dtype = getattr(torch, str(fields.get("dtype")), None)
    if (
        not isinstance(shape, list)
        or not all(isinstance(size, int) and size >= 0 for size in shape)
        or not isinstance(dtype, torch.dtype)
    ):
        message = f"the plan's inputs are malformed: {str(content)[:60]} is no tensor"
        raise PlanError(message)
    count = math.prod(shape)
    if count > _MAX_ELEMENTS:
        message = f"the plan asks for an input of {count} elements, at most {_MAX_ELEMENTS} can be"
        raise PlanError(message)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(device, dtype)
    return torch.zeros(shape, dtype=dtype, device=device)
