"""Options of another kind than they should be are refused where they are given, by name."""

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from abscise.sparsify import (
    Bisection,
    DecoupledDecay,
    Lobster,
    Magnitude,
    NetworkSlimming,
    Sensitivity,
    SeReNe,
    Thresholding,
    strength_to_vanish,
    typical_size,
)

MAKING: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "Sensitivity": (Sensitivity, {"strength": 0.1}),
    "SeReNe": (SeReNe, {"strength": 0.1}),
    "Magnitude": (Magnitude, {"target_sparsity": 0.5, "steps": 3}),
    "Thresholding": (Thresholding, {"target_error": 0.1}),
    "Bisection": (Bisection, {}),
    "DecoupledDecay": (DecoupledDecay, {"strength": 0.1}),
    "Lobster": (Lobster, {"strength": 0.1}),
    "NetworkSlimming": (NetworkSlimming, {"strength": 0.1}),
}
COUNTS = {
    "Sensitivity": ("every", "examples", "chunk_bytes", "seed"),
    "SeReNe": ("every", "examples", "chunk_bytes", "seed"),
    "Magnitude": ("steps", "after", "every"),
    "Thresholding": ("every", "after", "patience"),
    "Bisection": ("plateau", "evaluations"),
}
NUMBERS = {
    "Sensitivity": ("strength", "average"),
    "SeReNe": ("strength", "average"),
    "Magnitude": ("target_sparsity",),
    "Thresholding": ("target_error", "threshold"),
    "Bisection": ("tolerance",),
    "DecoupledDecay": ("strength",),
    "Lobster": ("strength",),
    "NetworkSlimming": ("strength",),
}


def pairs(table: dict[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    return [(name, option) for name, options in table.items() for option in options]


@pytest.mark.parametrize("value", [1.5, float("nan"), "3", True])
@pytest.mark.parametrize(("name", "option"), pairs(COUNTS))
def test_a_count_is_a_whole_number(name: str, option: str, value: Any) -> None:
    make, options = MAKING[name]
    _ = make(**{**options, option: 3})
    with pytest.raises(TypeError, match=f"^{name}: {option} must be a whole number, got"):
        _ = make(**{**options, option: value})


@pytest.mark.parametrize("value", ["0.1", True, [0.1]])
@pytest.mark.parametrize(("name", "option"), pairs(NUMBERS))
def test_a_number_is_a_number(name: str, option: str, value: Any) -> None:
    make, options = MAKING[name]
    _ = make(**{**options, option: 0.25})
    with pytest.raises(TypeError, match=f"^{name}: {option} must be a number, got"):
        _ = make(**{**options, option: value})


@pytest.mark.parametrize("value", ["yes", 1, None])
@pytest.mark.parametrize("option", ["estimate", "rescale"])
def test_a_switch_is_true_or_false(option: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"^Sensitivity: {option} must be True or False, got"):
        _ = Sensitivity(0.1, **{option: value})


@pytest.mark.parametrize("option", ["size", "threshold", "steps"])
def test_a_strength_is_found_from_numbers(option: str) -> None:
    options: dict[str, Any] = {"size": 0.1, "threshold": 0.01, "steps": 100}
    _ = strength_to_vanish(**options)
    with pytest.raises(TypeError, match=f"^strength_to_vanish: {option} must be a number, got '1'"):
        _ = strength_to_vanish(**{**options, option: "1"})


def test_a_quantile_is_a_number() -> None:
    quantile: Any = "0.5"
    with pytest.raises(TypeError, match=r"^typical_size: quantile must be a number, got '0\.5'"):
        _ = typical_size(nn.Linear(2, 2), quantile=quantile)
