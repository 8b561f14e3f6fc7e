"""Example inputs as JSON: shapes, dtypes and plain values, so that a plan can capture a model
again.
"""

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
    if isinstance(tree, Tensor):
        return {
            "tensor": {"shape": list(tree.shape), "dtype": str(tree.dtype).removeprefix("torch.")}
        }
    if isinstance(tree, tuple):
        return {"tuple": [_describe(item) for item in tree]}
    if isinstance(tree, list):
        return {"list": [_describe(item) for item in tree]}
    if isinstance(tree, Mapping):
        return {"dict": {str(key): _describe(item) for key, item in tree.items()}}
    if tree is None or isinstance(tree, bool | int | float | str):
        return {"value": tree}
    message = f"a plan cannot describe an input of type {type(tree).__name__}; pass tensors or plain values"
    raise PlanError(message)


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
    shape = content.get("shape") if isinstance(content, Mapping) else None
    dtype = (
        getattr(torch, str(content.get("dtype")), None) if isinstance(content, Mapping) else None
    )
    sizes_ok = isinstance(shape, list) and all(isinstance(n, int) and n >= 0 for n in shape)
    if not sizes_ok or not isinstance(dtype, torch.dtype):
        message = f"the plan's inputs are malformed: {str(content)[:60]} is no tensor"
        raise PlanError(message)
    count = 1
    for size in shape:
        count *= size
    if count > _MAX_ELEMENTS:
        message = (
            f"the plan asks for an input of {count} elements; at most {_MAX_ELEMENTS} are allowed"
        )
        raise PlanError(message)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(device, dtype)
    return torch.zeros(shape, dtype=dtype, device=device)
