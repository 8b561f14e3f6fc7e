"""Processes that train by DDP over gloo; what each ends with is written to a file.

A module of its own, for the processes import it by name.
"""

import multiprocessing
from collections.abc import Callable, Mapping
from pathlib import Path

import safetensors.torch
import torch
import torch.distributed as dist
from torch import Tensor

RANKS = 2
LIMIT_S = 200.0

Ends = dict[str, list[dict[str, Tensor]]]
"""Name of a case -> what each rank ended with."""
Train = Callable[[int], Mapping[str, dict[str, Tensor]]]
"""Rank -> name of a case -> what it ended with; a function that a process can import."""


def ends_of(train: Train, folder: Path) -> Ends:
    """Run `train` in every rank. A file is the meeting point, not a port."""
    new = multiprocessing.get_context("spawn").Process
    meeting = f"file://{folder / 'meeting'}"
    ranks = [new(target=_run, args=(train, rank, meeting, folder)) for rank in range(RANKS)]
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
    names = sorted(path.name for path in (folder / "0").iterdir())
    load = safetensors.torch.load_file
    return {
        Path(name).stem: [load(folder / str(rank) / name) for rank in range(RANKS)]
        for name in names
    }


def _run(train: Train, rank: int, meeting: str, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=RANKS)
    try:
        found = train(rank)
    finally:
        dist.destroy_process_group()
    (folder / str(rank)).mkdir()
    for name, tensors in found.items():
        safetensors.torch.save_file(tensors, folder / str(rank) / f"{name}.safetensors")
