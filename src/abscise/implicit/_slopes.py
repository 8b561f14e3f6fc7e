"""Functions that are linear below their bend: how much of a gradient gets through there."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import Tensor
from torch.nn import LeakyReLU, Module, PReLU, RReLU


@dataclass(frozen=True, slots=True, order=True)
class Leak:
    """A function that lets a part of the gradient through below its bend.

    Args:
        slope: That part, 0 to 1; of several in one function the smallest.
        name: Of the function, such as leakyrelu.
        learned: Is it a parameter, on which decay may act?
    """

    slope: float
    name: str
    learned: bool = False


def leak_of_module(module: Module) -> Leak | None:
    """What leaks through a module; None: it has no slope below a bend."""
    match module:
        case LeakyReLU():
            return _leak("leakyrelu", module.negative_slope)
        case RReLU():
            return _leak("rrelu", _mean_size(module.lower, module.upper))
        case PReLU():
            return _leak("prelu", module.weight)
        case _:
            return None


def leak_of_call(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Leak | None:
    """The same for a torch function, by its plain name and what it was called with."""
    reading = _CALLS.get(name)
    return None if reading is None else _leak(name, reading(args[1:], kwargs))


def leak_of_name(name: str) -> Leak | None:
    """The same where nothing but a name is known: torch's own slope."""
    return leak_of_call(name, (), {})


def _leak(name: str, slope: float | Tensor) -> Leak | None:
    """None for what is no slope: of no channel, or not finite."""
    sizes = slope.detach().abs().flatten().tolist() if isinstance(slope, Tensor) else [abs(slope)]
    if not sizes or not all(map(math.isfinite, sizes)):
        return None
    return Leak(min(1.0, *sizes), name, learned=name == "prelu")


def _one(key: str, default: float) -> Callable[[tuple[Any, ...], Mapping[str, Any]], Any]:
    def read(rest: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        return rest[0] if rest else kwargs.get(key, default)

    return read


def _between(rest: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float:
    lower = rest[0] if rest else kwargs.get("lower", 1 / 8)
    upper = rest[1] if len(rest) > 1 else kwargs.get("upper", 1 / 3)
    return _mean_size(float(lower), float(upper))


def _mean_size(lower: float, upper: float) -> float:
    """Mean of |slope| for slopes drawn evenly from lower to upper."""
    if lower * upper >= 0:
        return abs(lower + upper) / 2
    return (lower**2 + upper**2) / (2 * (upper - lower))


_CALLS: Mapping[str, Callable[[tuple[Any, ...], Mapping[str, Any]], Any]] = MappingProxyType(
    {
        "leakyrelu": _one("negative_slope", 0.01),
        "prelu": _one("weight", 0.25),
        "rrelu": _between,
    }
)
