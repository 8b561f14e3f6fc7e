"""Dead units are counted as the papers do, snapped without a look at the test set, and removed."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typing_extensions import override

from abscise._errors import StoreError
from abscise._subnormal import count_subnormal
from abscise.papers import Bench, Finished, Shelf, append_finished, read_finished
from abscise.papers._dead import THRESHOLDS, count_dead
from abscise.papers._flushing import flushing
from abscise.papers._implicit import (
    NONE_BELOW,
    SNAPS,
    control_sentence,
    dead_share,
    implicit_of,
    ship_snapped,
    silent_share,
    snapped_copy,
    unchanged,
)
from abscise.papers._points import points_of
from abscise.train import MLP, Data, Split, Trained, accuracy, recipe_from
from support.papering import made_data, task_of

TASK = task_of(1e-3, dataset="digits", experiment="made")


def dying(bias: float = -1.0) -> nn.Module:
    """16 hidden units: 3 at 1e-30, 2 at 1e-9, 1 at 1e-5, 1 at 5e-3, the others alive.

    The constant of the small ones is relu(bias).
    """
    torch.manual_seed(0)
    model = MLP(64, (16,), 10)
    hidden = model.get_submodule("layers.hidden1")
    with torch.no_grad():
        for unit, size in enumerate((1e-30, 1e-30, 1e-30, 1e-9, 1e-9, 1e-5, 5e-3)):
            hidden.get_parameter("weight")[unit].fill_(size)
            hidden.get_parameter("bias")[unit] = bias
    return model.eval()


def trained(model: nn.Module, data: Data) -> Trained:
    recipe = recipe_from(
        {"name": "m", "data": "digits", "model": "mlp", "hidden": [16], "epochs": 1}
        | {"batch_size": 100, "seed": TASK.seed}
    )
    return Trained(recipe, model, accuracy(model, data.test), (), data, 1.0)


def shipped(folder: Path, model: nn.Module, data: Data | None = None) -> Finished:
    held = made_data("digits") if data is None else data
    bench = Bench(Shelf(None, {("digits", 0): held}), folder / "run")
    run = ship_snapped(bench, TASK, trained(model, held), "made")
    append_finished(folder / "lines.jsonl", run)
    (line,) = read_finished(folder / "lines.jsonl", "made")
    return line


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The line of the dying network, shipped once for all tests that only read it."""
    return shipped(tmp_path_factory.mktemp("implicit"), dying())


def test_units_are_counted_below_each_threshold_and_by_activation() -> None:
    data = made_data("digits")
    (layer,) = count_dead(dying(), data.train.inputs).layers
    assert (layer.layer, layer.units) == ("layers.hidden1", 16)
    assert dict(layer.below) == {1e-3: 6, 1e-6: 5, 1e-12: 3}
    assert tuple(layer.below) == THRESHOLDS
    assert layer.silent == 7


def test_a_small_unit_with_a_positive_bias_is_dead_by_weights_and_not_silent() -> None:
    found = count_dead(dying(bias=0.5), made_data("digits").train.inputs)
    assert (found.below(1e-3), found.silent, found.units) == (6, 0, 16)


class Twice(nn.Module):
    """A layer that runs twice, one unit of which has no incoming weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.again = nn.Linear(64, 8), nn.Linear(8, 8)
        self.classes = nn.Linear(8, 10)
        with torch.no_grad():
            _ = self.again.weight[0].fill_(1e-20)

    @override
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x.flatten(1)).relu()
        return self.classes(self.again(self.again(hidden).relu()).relu())


def test_a_layer_that_runs_twice_is_counted_once() -> None:
    found = count_dead(Twice().eval(), made_data("digits").train.inputs)
    assert [(it.layer, it.units, it.below[1e-12]) for it in found.layers] == [
        ("first", 8, 0),
        ("again", 8, 1),
    ]


def test_counting_leaves_the_network_as_it_was() -> None:
    model = dying()
    before = copy.deepcopy(model.state_dict())
    _ = count_dead(model, made_data("digits").train.inputs)
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())


def test_the_snap_is_at_the_largest_threshold_that_changes_no_prediction() -> None:
    model, data = dying(), made_data("digits")
    before = copy.deepcopy(model.state_dict())
    found = snapped_copy(model, data)
    assert (found.threshold, found.tried[0].snapped) == (SNAPS[0], 6)
    weight = found.model.get_parameter("layers.hidden1.weight")
    assert int((weight == 0).all(1).sum()) == 6
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())


def test_a_snap_that_changes_predictions_is_not_taken() -> None:
    model, data = dying(bias=0.0), made_data("digits")
    with torch.no_grad():  # the unit at 1e-5 is read so strongly that classes hang on it
        model.get_parameter("layers.classes.weight")[:, 5] = 1e7 * torch.randn(10)
    found = snapped_copy(model, data)
    assert [it.threshold for it in found.tried] == [1e-3, 1e-4, 1e-6]
    assert [it.snapped for it in found.tried] == [6, 6, 5]
    assert found.tried[0].changed == found.tried[1].changed > 0
    assert (found.threshold, found.tried[-1].changed) == (1e-6, 0)


def test_the_test_set_chooses_no_threshold(run: Finished, tmp_path: Path) -> None:
    data = made_data("digits")
    blind = replace(data, test=Split(torch.full_like(data.test.inputs, 1e3), data.test.labels))
    other = shipped(tmp_path, dying(), blind)
    assert implicit_of(run).tried == implicit_of(other).tried
    assert run.error_percent != other.error_percent


def test_what_is_shipped_has_lost_the_snapped_units_and_no_accuracy(run: Finished) -> None:
    assert run.certified
    assert (run.units, run.units_removed) == (16, 6)
    assert run.nonzero == 10 * 64 + 10 + 10 * 10 + 10
    assert unchanged(run)
    assert not unchanged(replace(run, error_percent=run.error_percent + 0.01))
    assert (dead_share(run, 1e-6), silent_share(run)) == (100 * 5 / 16, 100 * 7 / 16)
    assert implicit_of(run).error_before == run.error_percent


def changed(run: Finished, **notes: object) -> Finished:
    return replace(run, notes={**run.notes, **notes})


def test_edited_counts_are_refused_in_one_line(run: Finished) -> None:
    layer: Mapping[str, Any] = run.notes["dead"][0]  # type: ignore[index]
    wrong: dict[str, Mapping[str, object]] = {
        "silent must be an integer from 0 to 16, got 17": {"dead": [{**layer, "silent": 17}]},
        "below must be counts below 0.001, 1e-06, 1e-12": {"dead": [{**layer, "below": {}}]},
        "unknown fields": {"dead": [{**layer, "more": 1}]},
        "snap must be a number from 0 to 1, got 2": {"snap": 2},
        "error_before must be a number from 0 to 100, got -1": {"error_before": -1},
        "missing fields": {"tried": [{"threshold": 1e-3}]},
    }
    for said, notes in wrong.items():
        with pytest.raises(StoreError, match=said) as problem:
            _ = implicit_of(changed(run, **notes))
        assert "\n" not in str(problem.value)
        assert run.task.key in str(problem.value)
    bare = {name: it for name, it in run.notes.items() if name != "tried"}
    with pytest.raises(StoreError, match="notes must hold tried"):
        _ = implicit_of(replace(run, notes=bare))


def test_a_control_is_told_to_be_clean_or_not_or_to_say_nothing(run: Finished) -> None:
    layer: Mapping[str, Any] = run.notes["dead"][0]  # type: ignore[index]
    below = {**layer["below"], "1e-06": 0, "1e-12": 0}
    keeping = changed(run, dead=[{**layer, "below": below}])
    (((loses,),), ((keeps,),)) = (points_of([it]).values() for it in (run, keeping))
    titles = {"l1": "AdamW"}
    assert NONE_BELOW in THRESHOLDS
    head = "here: controls, which must show no unit below 1e-06: "
    clean = f"{head}none in one run (AdamW)"
    assert control_sentence("here", (keeps,), titles, loses) == f"{clean}."
    nothing = f"{clean}; it says nothing, as AdamW lost none."
    assert control_sentence("here", (keeps,), titles, keeps) == nothing
    alone = f"{clean}; it says nothing without a run that must lose some."
    assert control_sentence("here", (keeps,), titles, None) == alone
    guilty = f"{head}NOT met: AdamW has up to 5 of 16."
    assert control_sentence("here", (loses,), titles, loses) == guilty
    assert control_sentence("here", (), titles, loses) == ""


def subnormal() -> int:
    return count_subnormal(torch.full((4,), 4e-39) * 0.5)


def test_subnormal_numbers_are_flushed_inside_and_only_there() -> None:
    assert subnormal() == 4
    with flushing():
        assert subnormal() == 0
        with flushing():
            assert subnormal() == 0
        assert subnormal() == 0  # as it was before
    assert subnormal() == 4
    with pytest.raises(ZeroDivisionError), flushing():
        _ = 1 // 0
    assert subnormal() == 4


def test_units_are_counted_before_they_are_snapped(run: Finished) -> None:
    found = implicit_of(run).dead  # afterwards six would be exactly 0
    assert [found.below(threshold) for threshold in THRESHOLDS] == [6, 5, 3]
