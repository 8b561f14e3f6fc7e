"""A network that shrinks while `fit` trains it: resumed, it is the uninterrupted one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

import abscise
from abscise._errors import RecipeError
from abscise.implicit import Tracker
from abscise.penalties import GroupLasso
from abscise.shrinking import Shrink, ShrinkWorker
from abscise.sparsify import Attachment, Proximal
from abscise.train import (
    Attach,
    Checkpoints,
    Data,
    Recipe,
    Trained,
    build_model,
    data_for,
    fit,
    load_recipe,
)


def recipe(**changes: Any) -> Recipe:
    small = {"epochs": 2, "limit": 320, "widths": [8, 8], "hidden": [16], "report_every": 20}
    return load_recipe("digits-adam-l2", {**small, **changes})


class StopError(Exception):
    """Ends a run from inside."""


def run(
    data: Data, folder: Path, *, stop_at: int = 0, resume: bool = False
) -> tuple[Trained, list[Attachment[ShrinkWorker]]]:
    made: list[Attachment[ShrinkWorker]] = []
    inputs = data.train.inputs[:4]

    def penalty(model: nn.Module, optimizer: Optimizer) -> Attachment[Any]:
        units = abscise.find_units(model, inputs)
        sparsifier = Proximal(GroupLasso(), 2.0, groups=units, metric="plain", heal_at=35)
        return abscise.attach(sparsifier, optimizer, model)

    def tracker(model: nn.Module, optimizer: Optimizer) -> Tracker:
        return Tracker(model, inputs, optimizer, every=5)

    def shrinking(model: nn.Module, optimizer: Optimizer) -> Attachment[ShrinkWorker]:
        def stop(shrink: Shrink) -> None:
            if shrink.step == stop_at:
                raise StopError

        options = abscise.ShrinkWhileTraining(
            inputs, every=10, patience=1, snap=1e-6, observer=stop
        )
        made.append(abscise.attach(options, optimizer, model))
        return made[0]

    checkpoints = Checkpoints(folder, every=4, resume=resume)
    parts: list[Attach] = [penalty, tracker, shrinking]
    return fit(recipe(), data=data, checkpoints=checkpoints, attachments=parts), made


def test_a_resumed_run_that_shrinks_equals_the_uninterrupted_one(tmp_path: Path) -> None:
    data = data_for(recipe())
    whole, (attachment,) = run(data, tmp_path / "whole")
    shrinks = attachment.worker.shrinks
    assert len(shrinks) > 1
    with pytest.raises(StopError):
        _ = run(data, tmp_path / "parts", stop_at=shrinks[1].step)
    resumed, (other,) = run(data, tmp_path / "parts", resume=True)
    assert shrinks[0].step < resumed.resumed_at < shrinks[1].step
    assert str(resumed.model) == str(whole.model) != str(build_model(recipe()))
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name])
    assert other.worker.plan == attachment.worker.plan
    fresh = build_model(recipe())
    rebuilt = abscise.apply(attachment.worker.plan, fresh, structure_only=True)
    _ = rebuilt.load_state_dict(whole.model.state_dict())


def test_a_compiled_run_refuses_what_shrinks() -> None:
    compiled = recipe(compile=True)
    data = data_for(compiled)

    def shrinking(model: nn.Module, optimizer: Optimizer) -> Attachment[ShrinkWorker]:
        options = abscise.ShrinkWhileTraining(data.train.inputs[:4])
        return abscise.attach(options, optimizer, model)

    with pytest.raises(RecipeError, match="compile must be false where parameters shrink"):
        _ = fit(compiled, data=data, attachments=[shrinking])
