"""Sensitivities in several processes: ranks see different data and shrink the same."""

import pytest
import torch
from torch.optim import SGD

from abscise import attach
from support.ranks import RANKS, Ends, ends_of
from support.sensitive_ranks import CASES, train_cases
from support.sparsifying import batch, same, small_network

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    return ends_of(train_cases, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("name", CASES)
def test_all_ranks_end_with_the_same_weights_and_sensitivities(ends: Ends, name: str) -> None:
    assert same(*ends[name])


def test_without_ddp_the_ranks_part_which_the_comparison_sees(ends: Ends) -> None:
    assert not same(*ends["alone"])


@pytest.mark.parametrize("name", ["exact", "batch mean", "units"])
def test_a_sensitivity_is_the_mean_of_those_of_the_ranks(ends: Ends, name: str) -> None:
    each = []
    for rank in range(RANKS):
        model = small_network()
        with attach(CASES[name](), SGD(model.parameters(), 0.1), model) as attachment:
            inputs, labels = batch(rank)
            attachment.observe(model(inputs), labels)
            each.append(attachment.worker.sensitivities)
    for key in each[0]:
        found = ends[name][0][f"first {key}"]
        torch.testing.assert_close(found, (each[0][key] + each[1][key]) / 2)
    assert any(not torch.allclose(each[0][key], each[1][key]) for key in each[0])
