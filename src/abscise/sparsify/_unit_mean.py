"""Sensitivities of units, measured by what their layers give."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from abscise.sparsify._backward import can_batch, chunks, gradients
from abscise.sparsify._measure import LogitsOf, Measured
from abscise.sparsify._parts import Whole
from abscise.sparsify._rerun import Calls, Rerun


class UnitMean:
    """Of what a unit gives before its activation: mean over examples, positions, calls, passes."""

    def __init__(self, layers: Mapping[str, Sequence[nn.Module]], chunk_bytes: int) -> None:
        """Layer name -> its modules, several if they share their weight; nothing is run yet."""
        self._layers = layers
        self._chunk_bytes = chunk_bytes

    def __call__(self, rerun: Rerun, chosen: Tensor, logits_of: LogitsOf) -> Measured:
        """See `Measure`."""
        output, calls = rerun.run([module for of in self._layers.values() for module in of])
        logits = logits_of(output)
        self._check_called(logits, calls)
        there = {
            layer: [(m, call) for m in modules for call in calls.get(id(m), ()) if call.edges]
            for layer, modules in self._layers.items()
        }
        edges = [call.edges[0] for of in there.values() for _, call in of]
        at = [edge.at for edge in edges]
        total = {layer: _zeros(modules[0]) for layer, modules in self._layers.items()}
        batched = len(chosen) > 1 and can_batch(logits, at)
        size = sum(edge.shape.numel() for edge in edges)
        for ahead in chunks(chosen, logits, size, self._chunk_bytes):
            found = iter(gradients(logits, at, ahead, batched=batched))
            for layer, of in there.items():
                for module, _ in of:
                    delta = next(found)
                    if delta is not None:
                        _ = total[layer].add_(_by_unit(module, delta), alpha=1 / len(of))
        return {layer: Whole(value.div_(len(chosen))) for layer, value in total.items()}

    def _check_called(self, logits: Tensor, calls: Calls) -> None:
        """Refuse a layer whose weights are read by something else than a call of it.

        Raises:
            ValueError: The logits depend on it, and nothing is known of its units.
        """
        aside = {
            layer: list(modules[0].parameters(recurse=False))
            for layer, modules in self._layers.items()
            if not any(call.edges for module in modules for call in calls.get(id(module), ()))
        }
        at = [parameter for of in aside.values() for parameter in of if parameter.requires_grad]
        zeros = logits.new_zeros((1, *logits.shape))
        found = dict(zip(map(id, at), gradients(logits, at, zeros, batched=False), strict=True))
        for layer, of in aside.items():
            if any(found.get(id(parameter)) is not None for parameter in of):
                message = (
                    f"observe: the logits depend on {layer}, but it is not called (its weights are "
                    "read by another module), so what its units give is not seen: leave it out, "
                    f"exclude=({layer!r},)"
                )
                raise ValueError(message)


def _zeros(module: Any) -> Tensor:
    count = getattr(module, "num_features", None) or getattr(module, "out_channels", None)
    return module.weight.new_zeros(count or module.out_features)


def _by_unit(module: nn.Module, delta: Tensor) -> Tensor:
    """`(units,)`: the mean of `|delta|` over all but units, summed over passes."""
    axis = delta.ndim - 1 if isinstance(module, nn.Linear) else 2
    moved = delta.abs().movedim(axis, 0).flatten(1)
    return moved.mean(1).mul_(len(delta))
