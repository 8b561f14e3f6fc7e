"""Subnormal weights are counted by their bits, and what they cost is measured, not assumed."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

import abscise
from abscise._measure import slowdown_by_subnormals
from abscise._subnormal import count_subnormal
from abscise.report import inspection_view, plain


def network(value: float) -> nn.Module:
    """32 of its weights have this value."""
    model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    with torch.no_grad():
        model.get_parameter("0.weight")[:4] = value
    return model


@contextmanager
def flushing(flush: bool) -> Iterator[None]:
    try:
        _ = torch.set_flush_denormal(flush)
        yield
    finally:
        _ = torch.set_flush_denormal(False)


def flushes() -> bool:
    return float(torch.tensor([1e-310], dtype=torch.float64) * 1.0) == 0.0


@pytest.mark.parametrize("flush", [False, True])
@pytest.mark.parametrize(("value", "count"), [(1e-40, 32), (-1e-40, 32), (1e-37, 0), (0.0, 0)])
def test_inspect_counts_and_times_whatever_the_caller_flushes(
    value: float, count: int, *, flush: bool
) -> None:
    model, x = network(value), torch.randn(4, 8)
    with flushing(flush):
        found = abscise.inspect(model, x)
        assert flushes() == flush
    assert found.subnormal == count
    assert (found.slowdown is None) == (count == 0)
    assert found.slowdown is None or found.slowdown > 0


def test_the_slowdown_is_the_time_without_flushing_over_that_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[bool] = []

    def fake(
        _model: nn.Module, _given: object, repeats: int, _: int, *, flush: bool
    ) -> list[float]:
        seen.append(flush)
        return [0.5 if flush else 1.5] * repeats

    monkeypatch.setattr("abscise._measure._in_new_thread", fake)
    assert slowdown_by_subnormals(network(1e-40), torch.randn(2, 8)) == 3.0
    assert seen == [False, True]
    measured = abscise.measure(network(1e-40), torch.randn(2, 8))
    assert measured.slowdown == 3.0
    assert abscise.measure(network(1.0), torch.randn(2, 8)).slowdown is None
    printed = plain(inspection_view(abscise.inspect(network(1e-40), torch.randn(2, 8))))
    assert "32 subnormal weights: a forward pass here takes 3.00 times as long" in printed


def test_all_that_inspect_and_measure_say_vanishes_with_snapping() -> None:
    model, x = network(1e-40), torch.randn(4, 8)
    _ = abscise.snap_(model, x, threshold=1e-3)
    assert abscise.inspect(model, x).slowdown is None
    assert sum(count_subnormal(it) for it in model.parameters()) == 0


def test_other_types_have_none() -> None:
    for tensor in (torch.ones(3, dtype=torch.int64), torch.ones(3, dtype=torch.complex64)):
        assert count_subnormal(tensor) == 0
    assert count_subnormal(Tensor([1e-40, 0.0, 1.0])) == 1
