"""Thresholding: what falls, what is kept, when it stops, and what the search finds."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer
from typing_extensions import override

from abscise import attach
from abscise.sparsify import (
    Attachment,
    Bisection,
    DecoupledDecay,
    Thresholding,
    ThresholdingWorker,
)
from abscise.sparsify._bisection import largest_allowed
from support.sparsifying import same, small_network, state_of, train

Driver = Attachment[ThresholdingWorker]


def attached(**options: Any) -> tuple[nn.Sequential, Optimizer, Driver]:
    model = small_network()
    optimizer = Adam(model.parameters(), 0.01)
    return (
        model,
        optimizer,
        attach(Thresholding(**{"target_error": 0.5, **options}), optimizer, model),
    )


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def good() -> tuple[float, float]:
    return 1.0, 0.1


def test_what_is_below_the_threshold_falls_and_stays_and_the_rest_is_left() -> None:
    model, optimizer, driver = attached(threshold=0.03)
    train(model, optimizer, 3)
    before = weights(model)
    assert driver.after_epoch(good)
    for name, value in weights(model).items():
        expected = torch.where(before[name].abs() < 0.03, 0.0, before[name])
        assert torch.equal(value, expected), name
    fallen = {name: value == 0 for name, value in weights(model).items()}
    count = sum(int(mask.sum()) for mask in fallen.values())
    assert count == driver.worker.zeros > 50
    assert driver.worker.sparsity == count / sum(p.numel() for p in model.parameters())
    train(model, optimizer, 3, 3)
    assert same({name: value == 0 for name, value in weights(model).items()}, fallen)
    driver.detach()
    train(model, optimizer, 1, 6)
    assert not same({name: value == 0 for name, value in weights(model).items()}, fallen)


def test_weights_fall_every_so_many_steps_or_between_epochs_but_not_before_its_time() -> None:
    for options, expected in (
        ({"every": 2, "after": 3}, [False, False, False, True, False, True]),
        ({"every": 2}, [False, True, False, True, False, True]),
        ({"after": 3}, [False, False, False, False, False, False]),
    ):
        model, optimizer, driver = attached(threshold=0.05, **options)
        seen, last = [], 0
        for step in range(6):
            train(model, optimizer, 1, step)
            seen.append(driver.worker.zeros > last)
            last = driver.worker.zeros
        assert seen == expected
        _ = driver.after_epoch(good)
        assert (driver.worker.zeros > last) is ("every" not in options)
    model, optimizer, driver = attached(threshold=0.05, after=4)
    train(model, optimizer, 3)
    _ = driver.after_epoch(good)
    assert driver.worker.zeros == driver.worker.checks[-1].threshold == 0


def scripted(
    errors: list[float], *, patience: int = 3
) -> tuple[nn.Sequential, Driver, list[dict[str, Tensor]], list[int]]:
    """A run in which every epoch loses more weights, with these errors; its states and zeros."""
    model = small_network()
    optimizer = SGD(model.parameters(), 0.01)
    driver = attach(Thresholding(0.2, 0.02, patience=patience), optimizer, model)
    _ = attach(DecoupledDecay(0.2), optimizer, model)
    states, zeros = [], []
    for epoch, error in enumerate(errors):
        train(model, optimizer, 1, epoch)
        going = driver.after_epoch(lambda error=error: (1.0, error))  # type: ignore[misc]
        states.append(state_of(model))
        zeros.append(driver.worker.zeros)
        if not going:
            break
    assert zeros == sorted(set(zeros)), "more and more"
    return model, driver, states, zeros


def test_the_sparsest_state_that_met_the_target_is_kept_and_restored() -> None:
    model, driver, states, zeros = scripted([0.5, 0.1, 0.2, 0.3, 0.15, 0.21])
    assert driver.worker.kept is not None
    assert (driver.worker.kept.zeros, driver.worker.kept.error) == (zeros[4], 0.15)
    assert not same(state_of(model), states[4])
    driver.finish()
    assert same(state_of(model), states[4])
    assert driver.worker.zeros == zeros[4]
    dead = {name: p == 0 for name, p in model.named_parameters()}
    train(model, SGD(model.parameters(), 0.1), 1)
    optimizer = driver._optimizer
    train(model, optimizer, 1)  # what is held is that of the kept state
    assert all(bool((p == 0)[dead[name]].all()) for name, p in model.named_parameters())
    assert [check.error for check in driver.worker.checks] == [0.5, 0.1, 0.2, 0.3, 0.15, 0.21]


def test_of_equally_sparse_states_that_with_the_least_error_is_kept() -> None:
    model, optimizer, driver = attached(threshold=0.0)
    states = []
    for epoch, error in enumerate([0.3, 0.1, 0.2]):
        train(model, optimizer, 1, epoch)
        _ = driver.after_epoch(lambda error=error: (1.0, error))  # type: ignore[misc]
        states.append(state_of(model))
    driver.finish()
    assert same(state_of(model), states[1])


def test_without_a_state_that_met_the_target_nothing_is_restored() -> None:
    model, driver, states, _ = scripted([0.3, 0.4, 0.5, 0.6, 0.7])
    assert driver.worker.kept is None
    assert not driver.stopped, "a target that was never met is not lost"
    driver.finish()
    assert same(state_of(model), states[-1])


def test_it_stops_when_the_target_is_missed_patience_times_in_a_row() -> None:
    errors = [0.9, 0.1, 0.3, 0.3, 0.1, 0.3, 0.3, 0.3, 0.1]
    _, driver, states, _ = scripted(errors)
    assert len(states) == 8
    assert driver.stopped
    assert driver.worker.reason == "the error target is lost"
    assert not driver.after_epoch(good), "and stays so"
    assert len(driver.worker.checks) == 8


def test_it_stops_when_nothing_more_falls_but_not_before_anything_has() -> None:
    model, optimizer, driver = attached(threshold=0.0, patience=2)
    for _ in range(5):
        assert driver.after_epoch(good)
    model, optimizer, driver = attached(threshold=0.03, patience=2)
    train(model, optimizer, 1)
    assert [driver.after_epoch(good) for _ in range(3)] == [True, True, False]
    assert driver.worker.reason == "nothing more falls"


def test_after_it_has_stopped_nothing_falls_any_more() -> None:
    model, optimizer, driver = attached(threshold=0.03, patience=1, every=1)
    train(model, optimizer, 1)
    assert driver.after_epoch(good)
    driver.worker._state.stopped = "nothing more falls"
    zeros = driver.worker.zeros
    with attach(DecoupledDecay(0.5), optimizer, model):
        train(model, optimizer, 5, 1)
    assert driver.worker.zeros == zeros


# ------------------------------------------------------------------ the search


def fallen_squares(model: nn.Module, start: dict[str, Tensor]) -> Callable[[], tuple[float, float]]:
    """A loss that grows with every weight that falls: 1 + the sum of the squares of those."""

    def validate() -> tuple[float, float]:
        lost = [
            (start[name] ** 2)[p.detach() == 0].sum().item() for name, p in model.named_parameters()
        ]
        return 1.0 + math.fsum(lost), 0.1

    return validate


@pytest.mark.parametrize("tolerance", [0.0, 0.01, 0.3, 2.0])
def test_the_search_finds_the_largest_threshold_within_the_tolerance(tolerance: float) -> None:
    model, optimizer, driver = attached(threshold=Bisection(tolerance, plateau=1))
    start = weights(model)
    validate = fallen_squares(model, start)
    _ = driver.after_epoch(validate)  # the best so far
    assert driver.worker.zeros == 0
    _ = driver.after_epoch(validate)  # no better: a plateau
    sizes = torch.cat([value.abs().flatten() for value in start.values()]).sort().values
    allowed = int(((sizes**2).cumsum(0) <= tolerance).sum())
    assert driver.worker.zeros == allowed
    assert (allowed == 0) is (tolerance == 0)
    check = driver.worker.checks[-1]
    assert check.threshold == sizes[allowed].item()
    assert check.loss <= 1 + tolerance
    assert 1 + (sizes**2).cumsum(0)[allowed] > 1 + tolerance, "one weight more is too much"
    for name, value in weights(model).items():
        assert torch.equal(value, torch.where(start[name].abs() < check.threshold, 0, start[name]))
    assert optimizer.state == {}, "nobody has trained"


@given(count=st.integers(0, 300), last=st.integers(0, 400), evaluations=st.integers(1, 12))
def test_bisection_returns_an_allowed_rank_and_with_enough_questions_the_largest(
    count: int, last: int, evaluations: int
) -> None:
    asked: list[int] = []

    def allowed(rank: int) -> bool:
        asked.append(rank)
        return rank <= last

    found = largest_allowed(allowed, count, evaluations)
    right = max(0, min(last, count - 1))
    assert len(asked) <= evaluations
    assert found <= right
    assert right - found <= count / 2**evaluations
    if 2**evaluations >= count:
        assert found == right


def test_a_search_waits_for_a_plateau_and_starts_from_the_best_since_the_last_one() -> None:
    losses = iter([3.0, 2.0, 2.5, 2.1, 1.9, 1.95, 1.96, 1.97])
    model, optimizer, driver = attached(threshold=Bisection(0.1, plateau=2, evaluations=3))
    train(model, optimizer, 1)
    searched: list[float] = []

    def validate() -> tuple[float, float]:
        searched.append(next(losses))
        return searched[-1], 0.1

    asked = []
    for _ in range(4):
        _ = driver.after_epoch(validate)
        asked.append(len(searched))
    # 3.0; 2.0; 2.5 waits; 2.1 is the second without a better one, and within 1.1 * 2.0: three
    # questions (1.9 and 1.95, 1.96 are allowed) and the loss after the fall
    assert asked == [1, 2, 3, 8]
    assert driver.worker.checks[-1].loss == 1.97
    assert driver.worker.zeros > 0
    assert driver.worker._state.best == 1.97


def test_a_loss_that_is_too_large_already_lets_nothing_fall() -> None:
    losses = iter([1.0, 1.2, 1.2, 1.2])
    _, _, driver = attached(threshold=Bisection(0.1, plateau=1), patience=1)
    assert driver.after_epoch(lambda: (next(losses), 0.1))
    assert driver.after_epoch(lambda: (next(losses), 0.1))
    assert driver.worker.zeros == 0
    assert next(losses) == 1.2, "asked once"


def test_an_exception_in_the_search_leaves_the_weights_as_they_were() -> None:
    model, optimizer, driver = attached(threshold=Bisection(0.1, plateau=1))
    train(model, optimizer, 1)
    calls: Iterator[int] = iter(range(9))

    def validate() -> tuple[float, float]:
        if next(calls) == 4:
            raise KeyError
        return 1.0, 0.1

    _ = driver.after_epoch(validate)
    before = state_of(model)
    with pytest.raises(KeyError):
        _ = driver.after_epoch(validate)
    assert same(state_of(model), before)
    assert driver.worker.zeros == 0


def test_searches_never_bring_a_zero_back() -> None:
    model, optimizer, driver = attached(threshold=Bisection(0.5, plateau=1), patience=9)
    start = weights(model)
    dead = {name: torch.zeros_like(value, dtype=torch.bool) for name, value in start.items()}
    for epoch in range(8):
        train(model, optimizer, 1, epoch)
        _ = driver.after_epoch(fallen_squares(model, start))
        now = {name: p.detach() == 0 for name, p in model.named_parameters()}
        assert all(bool(now[name][dead[name]].all()) for name in now)
        dead = now
    assert driver.worker.zeros > 100


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("given_value", "text"),
    [
        ((math.nan, 0.1), r"must give numbers, got loss nan, error 0\.1"),
        ((1.0, math.nan), r"must give numbers, got loss 1\.0, error nan"),
        (0.3, r"validate must give \(loss, error\), got 0\.3"),
        ((1.0, 0.1, 2.0), r"validate must give \(loss, error\), got \(1\.0"),
    ],
)
def test_a_validation_that_gives_no_two_numbers_is_refused(given_value: Any, text: str) -> None:
    _, _, driver = attached()
    with pytest.raises(ValueError, match=f"^Thresholding: .*{text}"):
        _ = driver.after_epoch(lambda: given_value)
    assert driver.worker.checks == ()


def test_between_epochs_it_must_still_be_attached() -> None:
    model, _, driver = attached()
    with driver:
        pass
    before = state_of(model)
    with pytest.raises(ValueError, match="Thresholding is detached and acts no more"):
        _ = driver.after_epoch(good)
    assert same(state_of(model), before)


def test_wrappers_and_scalars_do_not_matter() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.scale = nn.Linear(4, 3), nn.Parameter(torch.tensor(1e-4))

        @override
        def forward(self, x: Tensor) -> Tensor:
            return self.body(x) * self.scale

    model = Scaled()
    optimizer = SGD(model.parameters(), 1e-6)
    driver = attach(Thresholding(0.5, 1e-3), optimizer, nn.DataParallel(model))
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    _ = driver.after_epoch(good)
    assert model.scale.item() == 0
    state = driver.state_dict()
    assert set(state["kept"]["tensors"]) == {"body.weight", "body.bias", "scale"}
    driver.load_state_dict(state)
    driver.finish()


REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "target": ({"target_error": -0.1}, ValueError, r"target_error must be >= 0 .*got -0\.1"),
    "nan": ({"threshold": math.nan}, ValueError, "threshold must be >= 0 and finite, got nan"),
    "negative": ({"threshold": -1e-3}, ValueError, r"threshold must be >= 0 .*got -0\.001"),
    "every": ({"every": 0}, ValueError, "every must be >= 1, got 0"),
    "both": ({"every": 5, "threshold": Bisection()}, ValueError, "every is for a fixed threshold"),
    "after": ({"after": -1}, ValueError, "after must be >= 0, got -1"),
    "patience": ({"patience": 0}, ValueError, "patience must be >= 1, got 0"),
    "where": ({"where": "0"}, TypeError, "where must be a tuple of name patterns, got '0'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_impossible_option_is_refused_in_one_line(case: str) -> None:
    options, kind, text = REFUSED[case]
    with pytest.raises(kind, match=f"^Thresholding: .*{text}") as refused:
        _ = Thresholding(**{"target_error": 0.1, **options})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"tolerance": -0.1}, r"tolerance must be >= 0 and finite, got -0\.1"),
        ({"plateau": 0}, "plateau must be >= 1, got 0"),
        ({"evaluations": 0}, "evaluations must be >= 1, got 0"),
    ],
)
def test_an_impossible_search_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"^Bisection: {text}"):
        _ = Bisection(**options)


@pytest.mark.parametrize("best", [-2.0, 2.0])
def test_the_tolerance_is_a_share_of_the_losss_size_also_below_zero(best: float) -> None:
    for rise, falls in ((0.025, True), (0.2, False)):
        model = nn.Linear(4, 4)
        optimizer = SGD(model.parameters(), 1e-9)
        options = Bisection(tolerance=0.05, plateau=1, evaluations=10)
        driver = attach(Thresholding(1.0, options), optimizer, model)

        def validate(model: nn.Module = model, rise: float = rise) -> tuple[float, float]:
            gone = any(bool((one == 0).any()) for one in model.parameters())
            return best + rise * abs(best) * gone, 0.1

        for _ in range(3):
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
            _ = driver.after_epoch(validate)
        assert (driver.worker.zeros > 0) == falls
