"""A brute-force oracle: is one unit read, is it constant? Decided by running the model in float64.

It knows nothing of graphs: it replaces the unit's value and looks whether any output moves. The
values are large and small and of both signs, so that a unit which merely sleeps on these inputs
(a ReLU far below zero) still counts as read.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

PROBES = (0.0, 1.0, -1.0, 30.0, -30.0, 1e3, -1e3, 1e9, -1e9)


def is_read(model: nn.Module, batch: Any, layer: str, index: int) -> bool:
    """Whether some output depends on unit `index` of the output of `layer`."""
    reference = _run(model, batch)
    for probe in PROBES:
        for noise in (0.0, 1.0):
            moved = _run(model, batch, (layer, _replace(index, probe, noise)))
            if any(not torch.equal(a, b) for a, b in zip(reference, moved, strict=True)):
                return True
    return False


def is_constant(model: nn.Module, batch: Any, layer: str, index: int) -> bool:
    """Whether unit `index` of `layer` has the same value for every input (it may vary in space)."""
    seen: list[Tensor] = []

    def record(value: Tensor) -> Tensor:
        seen.append(value.select(unit_axis(value), index).clone())
        return value

    _ = _run(model, batch, (layer, record))
    return all(
        torch.allclose(value, value[:1].expand_as(value), rtol=1e-12, atol=1e-12) for value in seen
    )


def may_go(model: nn.Module, batch: Any, layer: str, index: int) -> bool:
    """What every removal needs: the unit is unread, or does not depend on the input."""
    return is_constant(model, batch, layer, index) or not is_read(model, batch, layer, index)


def unread(model: nn.Module, batch: Any, layer: str, count: int) -> set[int]:
    """Which of the `count` units of `layer` no output depends on."""
    return {index for index in range(count) if not is_read(model, batch, layer, index)}


def unit_axis(value: Tensor) -> int:
    """Channels are axis 1 of images, and the last axis of (batch, features)."""
    return 1 if value.dim() > 2 else value.dim() - 1


def _replace(index: int, probe: float, noise: float) -> Callable[[Tensor], Tensor]:
    def edit(value: Tensor) -> Tensor:
        value = value.clone()
        unit = value.select(unit_axis(value), index)
        generator = torch.Generator().manual_seed(index)
        draw = torch.randn(unit.shape, generator=generator, dtype=torch.float64).to(unit)
        _ = unit.copy_(probe + noise * draw)
        return value

    return edit


def _run(
    model: nn.Module, batch: Any, edit: tuple[str, Callable[[Tensor], Tensor]] | None = None
) -> list[Tensor]:
    if edit is None:
        return _call(model, batch)
    layer, function = edit
    handle = model.get_submodule(layer).register_forward_hook(
        lambda _module, _arguments, output: function(output)
    )
    try:
        return _call(model, batch)
    finally:
        handle.remove()


def _call(model: nn.Module, batch: Any) -> list[Tensor]:
    with torch.no_grad():
        if isinstance(batch, Tensor):
            result = model(batch)
        elif isinstance(batch, dict):
            result = model(**batch)
        else:
            result = model(*batch)
    return [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
