"""Frontier: the sparsest state at each error that validation allows; resumed, it is the same."""

from collections.abc import Iterable
from functools import partial

import pytest
import torch
from torch import nn

from abscise.papers._frontier import Frontier, sparsest

RUNGS = (1.0, 2.0, 5.0)


def small() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(10, 10)


def _seen(error: float) -> tuple[float, float]:
    return 0.5, error / 100


def watched(model: nn.Module, looks: Iterable[tuple[float, int]], patience: int = 9) -> Frontier:
    """A frontier that has seen errors in percent at numbers of weights of the first kind."""
    frontier = Frontier(model, RUNGS, patience)
    weight, bias = model.parameters()
    for error, nonzero in looks:
        with torch.no_grad():
            bias.zero_()
            weight.fill_(error)
            weight.view(-1)[nonzero:] = 0
        frontier.after_epoch(partial(_seen, error))
    return frontier


def test_each_rung_keeps_the_sparsest_state_that_it_allows() -> None:
    frontier = watched(small(), [(0.9, 90), (1.5, 50), (1.8, 60), (4.0, 20), (7.0, 5)])
    assert [look and look.epoch for look in frontier.best] == [1, 2, 4]


def test_a_rung_that_nothing_reaches_keeps_nothing() -> None:
    frontier = watched(small(), [(1.5, 50)])
    assert frontier.best_at(1.0) is None
    assert frontier.best_at(2.0) is not None


def test_what_is_kept_is_a_copy_of_the_weights_of_that_epoch_and_nothing_else_is_kept() -> None:
    model = small()
    frontier = watched(model, [(0.9, 90), (1.5, 50), (1.4, 40), (9.0, 3)])
    assert sorted(frontier.states) == [1, 3]
    kept = frontier.states[3]["weight"]
    assert int(kept.count_nonzero()) == 40
    assert kept.view(-1)[0] == pytest.approx(1.4)
    assert not torch.equal(kept, model.weight)


def test_the_state_with_the_least_error_is_kept_even_if_no_rung_is_reached() -> None:
    frontier = watched(small(), [(9.0, 90), (8.0, 80), (8.5, 5)])
    assert frontier.best == (None, None, None)
    assert frontier.least.epoch == 2
    assert list(frontier.states) == [2]


def test_a_run_ends_when_the_highest_rung_is_lost_and_not_before_it_was_reached() -> None:
    assert not watched(small(), [(9.0, 90)] * 3, patience=2).stopped
    assert not watched(small(), [(4.0, 90), (9.0, 80)], patience=2).stopped
    assert not watched(small(), [(4.0, 90), (9.0, 80), (4.9, 70)], patience=2).stopped
    assert watched(small(), [(4.0, 90), (9.0, 80), (9.0, 70)], patience=2).stopped


def test_one_that_goes_on_from_a_state_sees_and_keeps_the_same() -> None:
    looks = [(0.9, 90), (1.5, 50), (4.0, 20)]
    model = small()
    whole = watched(model, looks)
    half = watched(small(), looks[:2])
    other = small()
    resumed = Frontier(other, RUNGS, 9)
    resumed.load_state_dict(half.state_dict())
    with torch.no_grad():
        other.weight.copy_(model.weight)
        other.bias.copy_(model.bias)
    resumed.after_epoch(lambda: (0.5, 0.04))
    assert resumed.looks == whole.looks
    assert {key: int(it["weight"].count_nonzero()) for key, it in resumed.states.items()} == {
        key: int(it["weight"].count_nonzero()) for key, it in whole.states.items()
    }


def test_a_state_of_other_rungs_or_of_another_network_is_refused() -> None:
    state = watched(small(), [(0.9, 90)]).state_dict()
    with pytest.raises(ValueError, match="of the rungs"):
        Frontier(small(), (1.0,), 9).load_state_dict(state)
    with pytest.raises(ValueError, match="own parameters"):
        Frontier(nn.Linear(3, 3), RUNGS, 9).load_state_dict(state)
    with pytest.raises(ValueError, match="of the epochs"):
        Frontier(small(), RUNGS, 9).load_state_dict(state | {"states": {}})
    with pytest.raises(ValueError, match="look 1 must hold"):
        Frontier(small(), RUNGS, 9).load_state_dict(state | {"looks": [{"epoch": 1}]})


def test_rungs_that_do_not_rise_and_errors_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="rungs must rise"):
        _ = Frontier(small(), (2.0, 1.0), 1)
    with pytest.raises(ValueError, match="patience must be >= 1"):
        _ = Frontier(small(), RUNGS, 0)
    with pytest.raises(ValueError, match="must give numbers"):
        Frontier(small(), RUNGS, 1).after_epoch(lambda: (float("nan"), 0.1))


def test_of_equally_sparse_states_the_one_with_the_least_error_is_taken() -> None:
    frontier = watched(small(), [(1.8, 50), (1.2, 50), (1.5, 50)])
    found = sparsest(frontier.looks, 2.0)
    assert found is not None
    assert found.epoch == 2
