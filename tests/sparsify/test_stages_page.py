"""The code of docs/stages.md runs as it stands."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Optimizer

import abscise
from support.sparsifying import batch, small_network, train

PAGE = Path(__file__).parents[2] / "docs" / "stages.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def validate(model: nn.Module) -> tuple[float, float]:
    _ = model.eval()
    with torch.no_grad():
        loss = cross_entropy(model(batch()[0]), batch()[1]).item()
    _ = model.train()
    return loss, 0.01


def train_one_epoch(model: nn.Module, optimizer: Optimizer) -> None:
    train(model, optimizer, 1)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_a_block_of_the_page_runs(block: str) -> None:
    model = small_network()
    names: dict[str, Any] = {
        "abscise": abscise,
        "model": model,
        "optimizer": SGD(model.parameters(), 0.1),
        "steps_per_epoch": 10,
        "train_one_epoch": train_one_epoch,
        "validate": validate,
    }
    for block_before in BLOCKS[: BLOCKS.index(block)]:
        names |= imports(block_before)
    small = block.replace('{"weight_decay": 0.0}', '{"epochs": 1, "limit": 200}')
    exec(compile(small, str(PAGE), "exec"), names)
    if "driver" in names:
        assert names["driver"].stopped
        assert names["driver"].worker.kept.zeros > 0
    if "strength" in names:
        assert 0 < names["strength"] < 1
    if "trained" in names:
        assert len(names["trained"].history) > 0


def imports(block: str) -> dict[str, Any]:
    """What a block imports, which the ones after it use."""
    names: dict[str, Any] = {}
    lines = [line for line in block.splitlines() if line.startswith("from ")]
    exec("\n".join(lines), names)
    return names


def test_there_are_blocks() -> None:
    assert len(BLOCKS) == 5
