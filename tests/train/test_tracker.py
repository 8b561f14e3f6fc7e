"""A tracker is an attachment of `fit`: it counts its steps, and goes on where the run went on."""

import json
from pathlib import Path

import pytest
from torch import nn
from torch.optim import Optimizer

from abscise.implicit import Activity, JsonLines, Look, Record, Sink, Tracker
from abscise.train import Checkpoints, Data, Recipe, data_for, fit, load_recipe


def recipe() -> Recipe:
    changes = {"epochs": 2, "limit": 320, "widths": [4, 4], "hidden": [8], "report_every": 20}
    return load_recipe("digits-adam-l2", changes)


class StopError(Exception):
    """Ends a run from inside."""


def run(data: Data, folder: Path, *, stop_at: int | None, resume: bool) -> None:
    def stop(record: Record | Activity) -> None:
        if record.step == stop_at:
            raise StopError

    def make(model: nn.Module, optimizer: Optimizer) -> Tracker:
        look = Look([data.validation.inputs], every=20)
        sinks: list[Sink] = [JsonLines(folder / "units.jsonl"), stop]
        return Tracker(model, data.train.inputs[:2], optimizer, every=5, look=look, sinks=sinks)

    checkpoints = Checkpoints(folder, every=12, resume=resume)
    _ = fit(recipe(), data=data, checkpoints=checkpoints, attachments=[make])


def lines(folder: Path) -> list[dict[str, object]]:
    found = [json.loads(line) for line in (folder / "units.jsonl").read_text().splitlines()]
    return [{key: value for key, value in it.items() if key != "wall_s"} for it in found]


def test_a_resumed_run_leaves_the_lines_of_an_uninterrupted_one(tmp_path: Path) -> None:
    data = data_for(recipe())
    run(data, tmp_path / "whole", stop_at=None, resume=False)
    with pytest.raises(StopError):
        run(data, tmp_path / "parts", stop_at=30, resume=False)
    run(data, tmp_path / "parts", stop_at=None, resume=True)
    whole = lines(tmp_path / "whole")
    assert [it["step"] for it in whole if it["kind"] == "weights"] == [
        5,
        10,
        15,
        20,
        25,
        30,
        35,
        40,
    ]
    assert [it["step"] for it in whole if it["kind"] == "activity"] == [20, 40]
    assert lines(tmp_path / "parts") == whole
