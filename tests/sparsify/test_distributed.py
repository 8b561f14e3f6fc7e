"""`Proximal` in several processes: ranks see different data and end with the same weights."""

import multiprocessing

import pytest
import safetensors.torch
import torch
from torch import Tensor

from support.distributed import CASES, LIMIT_S, RANKS, run_rank

pytestmark = pytest.mark.slow

Ends = dict[str, list[dict[str, Tensor]]]


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    """Name of the case -> what each rank ended with. A file is the meeting point, not a port."""
    folder = tmp_path_factory.mktemp("ranks")
    new = multiprocessing.get_context("spawn").Process
    meeting = f"file://{folder / 'meeting'}"
    ranks = [new(target=run_rank, args=(rank, meeting, str(folder))) for rank in range(RANKS)]
    try:
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join(LIMIT_S)
        assert [rank.exitcode for rank in ranks] == [0] * RANKS
    finally:
        for rank in ranks:
            rank.kill()
            rank.join()
    return {
        name: [
            safetensors.torch.load_file(folder / f"{name}-{rank}.safetensors")
            for rank in range(RANKS)
        ]
        for name in (*CASES, "alone")
    }


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


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
