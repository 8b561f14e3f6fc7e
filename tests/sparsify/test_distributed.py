"""`Proximal` in several processes: ranks see different data and end with the same weights."""

import pytest

from support.distributed import CASES, train_cases
from support.ranks import Ends, ends_of
from support.sparsifying import same

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    return ends_of(train_cases, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("name", CASES)
def test_all_ranks_end_with_the_same_weights_masks_and_strength(ends: Ends, name: str) -> None:
    first, second = ends[name]
    assert same(first, second)
    zeros = sum(int((weight == 0).sum()) for weight in first.values())
    assert zeros > 20


def test_without_ddp_the_ranks_part_which_the_comparison_sees(ends: Ends) -> None:
    first, second = ends["alone"]
    assert first.keys() == second.keys()
    assert not same(first, second)


def test_every_rank_heals_at_the_same_step_and_holds_the_same_zeros(ends: Ends) -> None:
    for state in ends["healing"]:
        assert state["numbers"][-1] == 1
        masks = {name: mask for name, mask in state.items() if name.startswith("mask of ")}
        assert sum(int(mask.sum()) for mask in masks.values()) > 20
        for name, mask in masks.items():
            assert not state[name.removeprefix("mask of ")][mask].any()


def test_every_rank_steers_to_the_same_strength(ends: Ends) -> None:
    for name, start in (("budget", 0.01), ("budget of units", 0.2)):
        strengths = [float(state["numbers"][0]) for state in ends[name]]
        assert strengths[0] == strengths[1] != start
