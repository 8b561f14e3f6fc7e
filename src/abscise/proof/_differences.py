"""How far two sets of outputs are apart, measured by the spread of the dense outputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from abscise.proof._outputs import Leaves, tensors

_UNBOUNDED = 1e100


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What a difference is divided by, per output tensor.

    An element's range is its largest minus its smallest value over the runs. The spread of a tensor
    is the root mean square of the ranges of the elements that vary at all: one element that varies
    wildly does not hide the others (as a maximum would), and a mostly constant tensor, e.g. a mask
    or the zeros after a ReLU, does not dilute it (as a plain mean would).

    Args:
        divisors: Place of an output tensor -> its spread, or the size of its values if blind.
        blind: Places whose spread is too small beside the size of their values to show anything.
        spread: The smallest spread, divided by the size of the values.
    """

    divisors: Mapping[str, float]
    blind: tuple[str, ...]
    spread: float


@dataclass(frozen=True, slots=True)
class Difference:
    """The largest difference over all compared elements, as it is and divided by the yardstick."""

    absolute: float
    relative: float


def yardstick(runs: Sequence[Leaves], blind_below: float) -> Yardstick:
    """Measure the dense outputs; integer outputs only count where there are no others.

    Args:
        runs: Outputs for different inputs, at least one.
        blind_below: A spread smaller than this part of the values' size is blind.
    """
    divisors: dict[str, float] = {}
    blind: list[str] = []
    smallest = float("inf")
    for place in _measured_places(runs[0]):
        spread, size = _spread_and_size(place, runs)
        ratio = spread / size if size > 0 else 0.0
        smallest = min(smallest, ratio)
        if ratio < blind_below:
            blind.append(place)
            divisors[place] = size if size > 0 else 1.0
        else:
            divisors[place] = spread
    return Yardstick(divisors, tuple(blind), smallest if divisors else 0.0)


def largest_difference(
    expected: Sequence[Leaves], found: Sequence[Leaves], yard: Yardstick
) -> Difference:
    """Compare run by run, element by element, in float64; NaN and infinity count as 1e100.

    Raises:
        ValueError: A tensor is missing on one side, or shapes differ.
    """
    absolute, relative = 0.0, 0.0
    for one, other in zip(expected, found, strict=True):
        for place, divisor in yard.divisors.items():
            before, after = one.get(place), other.get(place)
            if not isinstance(before, Tensor) or not isinstance(after, Tensor):
                message = f"output{place} is no tensor in one of the runs"
                raise ValueError(message)  # noqa: TRY004 - the run, not an argument, is at fault
            if before.shape != after.shape:
                message = f"output{place} has {tuple(after.shape)}, not {tuple(before.shape)}"
                raise ValueError(message)
            if before.numel() > 0:
                gap = float((_float64(before) - _float64(after)).abs().max())
                absolute = max(absolute, _bounded(gap))
                relative = max(relative, _bounded(gap / divisor))
    return Difference(absolute, relative)


def predictions_equal(expected: Leaves, found: Leaves) -> bool | None:
    """Whether argmax over dimension 1 of the first floating-point output with classes agrees."""
    for place, before in tensors(expected).items():
        after = found.get(place)
        if not isinstance(after, Tensor) or not before.is_floating_point():
            continue
        if before.ndim >= 2 and before.shape[1] >= 2 and before.numel() > 0:
            return torch.equal(before.argmax(1), after.argmax(1))
    return None


def _bounded(gap: float) -> float:
    return min(_UNBOUNDED, gap)  # in this order also where the gap is NaN


def _measured_places(leaves: Leaves) -> list[str]:
    found = {place: leaf for place, leaf in tensors(leaves).items() if leaf.numel() > 0}
    floats = [
        place for place, leaf in found.items() if leaf.is_floating_point() or leaf.is_complex()
    ]
    return floats or list(found)


def _spread_and_size(place: str, runs: Sequence[Leaves]) -> tuple[float, float]:
    first = tensors(runs[0])[place]
    low = high = _float64(first)
    for leaves in runs[1:]:
        leaf = leaves.get(place)
        if isinstance(leaf, Tensor) and leaf.shape == first.shape:
            low, high = torch.minimum(low, _float64(leaf)), torch.maximum(high, _float64(leaf))
    ranges = high - low
    varies = ranges > 0
    if not bool(varies.any()):
        return 0.0, _root_mean_square(low)
    size = torch.maximum(low.abs(), high.abs())
    return _root_mean_square(ranges[varies]), _root_mean_square(size[varies])


def _root_mean_square(values: Tensor) -> float:
    """Scaled by the largest value first, so that nothing overflows or underflows."""
    largest = float(values.abs().max())
    if largest == 0.0:
        return 0.0
    return largest * float((values / largest).square().mean().sqrt())


def _float64(tensor: Tensor) -> Tensor:
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    return tensor.cpu().to(torch.float64)
