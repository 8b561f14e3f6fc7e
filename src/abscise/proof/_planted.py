"""Planted errors: wrongly zero live slices of a model one at a time and watch the outputs."""

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from abscise._certificate import PlantedError
from abscise._inputs import Inputs
from abscise.proof._differences import Yardstick, largest_difference
from abscise.proof._outputs import Leaves
from abscise.proof._runs import run_model

_ROWS = 2
_TRIES = 6
_SEEN = 1e100


def plant_errors(
    model: nn.Module, inputs: Sequence[Inputs], outputs: Sequence[Leaves], yard: Yardstick
) -> PlantedError | None:
    """Zero the rows of largest norm of an early, a middle and a late weight.

    A row that changes no bit of the outputs is not live on these inputs; the nearest weight with a
    live one takes its place. None where none is found.

    Args:
        model: Rows are zeroed in it and put back.
        inputs: What it is run on.
        outputs: Its outputs for `inputs`.
        yard: Of the dense model.
    """
    weights = _weights(model)
    errors: dict[int, tuple[float, str]] = {}
    for target in dict.fromkeys((0, len(weights) // 2, len(weights) - 1)):
        nearest = sorted(range(len(weights)), key=lambda position: abs(position - target))
        for position in [item for item in nearest if item not in errors][:_TRIES]:
            name, weight, bias = weights[position]
            for row, zeroed in _largest_rows(weight, bias):
                size = _effect(model, zeroed, inputs, outputs, yard)
                if size > 0:
                    errors[position] = (size, f"{name}[{row}]")
                    break
            if position in errors:
                break
    if not errors:
        return None
    sizes = [size for size, _ in errors.values()]
    return PlantedError(max(sizes), min(sizes), tuple(name for _, name in errors.values()))


def _weights(model: nn.Module) -> list[tuple[str, Tensor, Tensor | None]]:
    """Name, weight, bias of parameters with rows as they are defined; vectors if no others."""
    found = [
        (name, parameter)
        for name, parameter in model.named_parameters()
        if parameter.is_floating_point() and parameter.numel() > 0 and parameter.ndim >= 1
    ]
    matrices = [(name, parameter) for name, parameter in found if parameter.ndim >= 2] or found
    by_name = dict(found)
    return [(name, weight, _bias_of(name, weight, by_name)) for name, weight in matrices]


def _bias_of(name: str, weight: Tensor, by_name: dict[str, nn.Parameter]) -> Tensor | None:
    bias = by_name.get(name.removesuffix("weight") + "bias") if name.endswith("weight") else None
    return bias if bias is not None and bias.shape == weight.shape[:1] else None


def _largest_rows(weight: Tensor, bias: Tensor | None) -> Iterator[tuple[int, list[Tensor]]]:
    """Row index and the views that zeroing it touches, largest norm first, at most `_ROWS`."""
    norms = weight.detach().reshape(weight.shape[0], -1).double().norm(dim=1)
    for row in norms.argsort(descending=True).tolist()[:_ROWS]:
        views = [weight.detach()[row]]
        if bias is not None:
            views.append(bias.detach()[row])
        yield row, views


def _effect(
    model: nn.Module,
    zeroed: list[Tensor],
    inputs: Sequence[Inputs],
    outputs: Sequence[Leaves],
    yard: Yardstick,
) -> float:
    """What zeroing the views does to the outputs of the first inputs on which it does anything."""
    kept = [view.clone() for view in zeroed]
    try:
        for view in zeroed:
            _ = view.zero_()
        for item, expected in zip(inputs, outputs, strict=True):
            size = largest_difference([expected], [run_model(model, item)], yard).relative
            if size > 0:
                return size
    except Exception:  # noqa: BLE001 - a crash is a difference that nobody overlooks
        return _SEEN
    finally:
        for view, values in zip(zeroed, kept, strict=True):
            _ = view.copy_(values)
    return 0.0
