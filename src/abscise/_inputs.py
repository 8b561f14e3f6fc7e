"""What a model is called with: one frozen form for a tensor, a tuple, a dict or `Inputs`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from abscise._errors import InputError


@dataclass(frozen=True, slots=True)
class Inputs:
    """The positional and keyword arguments of one call of the model."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def tensors(self) -> list[Tensor]:
        """Every tensor in the arguments, in call order, nested containers included."""
        return tensors_in((self.args, self.kwargs))


ExampleInputs = Tensor | tuple[Any, ...] | Mapping[str, Any] | Inputs


def as_inputs(example_inputs: ExampleInputs) -> Inputs:
    """Normalise a tensor, a tuple, a dict of keyword arguments, or `Inputs`.

    Raises:
        InputError: It is none of these, or holds no tensor.
    """
    given: object = example_inputs  # callers without a type checker pass anything
    if isinstance(given, Inputs):
        inputs = given
    elif isinstance(given, Tensor):
        inputs = Inputs((given,))
    elif isinstance(given, tuple):
        inputs = Inputs(given)
    elif isinstance(given, Mapping):
        inputs = Inputs((), dict(given))
    else:
        message = (
            "example_inputs must be a tensor, a tuple, a dict of keyword arguments or "
            f"abscise.Inputs, got {type(example_inputs).__name__}"
        )
        raise InputError(message)
    if not inputs.tensors():
        message = "example_inputs hold no tensor: give the model at least one"
        raise InputError(message)
    return inputs


def map_tensors(tree: Any, function: Any) -> Any:
    """A copy of nested tuples, lists and dicts with `function` applied to every tensor."""
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, Mapping):
        return {key: map_tensors(value, function) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        items = [map_tensors(value, function) for value in tree]
        return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)
    return tree


def tensors_in(tree: Any) -> list[Tensor]:
    """All tensors in nested tuples, lists and dicts, in order."""
    found: list[Tensor] = []
    _gather(tree, found)
    return found


def floats_in(tree: Any) -> list[Tensor]:
    """Those of them that hold floating-point numbers, detached and in float64."""
    return [it.detach().to(torch.float64) for it in tensors_in(tree) if it.is_floating_point()]


def _gather(tree: Any, into: list[Tensor]) -> None:
    if isinstance(tree, Tensor):
        into.append(tree)
    elif isinstance(tree, tuple | list):
        for one in tree:
            _gather(one, into)
    elif isinstance(tree, Mapping):
        for one in tree.values():
            _gather(one, into)


def random_inputs(inputs: Inputs, seed: int) -> Inputs:
    """Inputs of the same shapes: floats from N(0, 1) by `seed`, other dtypes as given."""
    generator = torch.Generator().manual_seed(seed)

    def draw(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float32)
        return noise.to(tensor)

    return Inputs(map_tensors(inputs.args, draw), map_tensors(dict(inputs.kwargs), draw))
