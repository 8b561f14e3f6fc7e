"""The sensitivity experiment: one start for all methods, one reading of the test set, one line."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from abscise._errors import RecipeError
from abscise.papers import (
    Bench,
    Choice,
    Place,
    Shelf,
    Task,
    append_finished,
    read_finished,
    run_tasks,
)
from abscise.papers import _sensitivity as room
from abscise.papers._original_vgg import OriginalVGG16
from abscise.papers._sensitivity import (
    SensitivityExperiment,
    setting_of,
    sparse_recipe,
    start_recipe,
)
from abscise.papers._sensitivity_methods import methods
from abscise.papers._sensitivity_names import is_taught
from abscise.papers._sensitivity_stages import CONTROLS, IDEAS, STAGES, Figure, Stage
from abscise.papers._shipping import errors_on
from abscise.papers._starts import Start, start_of
from abscise.train import Augment, Data, Interrupted, Progress, Run, Split, build_model
from support.papering import made_data

STAGE = Stage(
    dataset="digits",
    network="mlp",
    figures=(Figure(50.0, 2.0, "made", target=True),),
    rungs=(2.0, 10.0, 50.0, 95.0),
    methods=("dense", *CONTROLS, *IDEAS),
    seeds=(0,),
    dense_epochs=2,
    epochs=6,
    cycles=2,
    learning_rate=0.05,
    threshold=0.03,
    sparsity=(0.6, 0.8),
    growth=3.0,
    batch_size=25,
    extra={"hidden": [16]},
)
PAPER = SensitivityExperiment((STAGE,))
EVERY = tuple(methods())


def task_of(method: str, seed: int = 0) -> Task:
    return PAPER.tasks(Choice(methods=(method,), seeds=(seed,)))[0]


def bench_in(folder: Path, method: str = "any", data: Data | None = None) -> Bench:
    held = made_data("digits") if data is None else data
    return Bench(Shelf(None, {("digits", 0): held}), folder / "running" / method)


def line_of(run: Run) -> Mapping[str, Any]:
    """The recorded line without the time that it took."""
    return json.loads(json.dumps(asdict(replace(run, wall_s=None))))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the dense network is trained once for all tests of this file."""
    return tmp_path_factory.mktemp("sensitivity")


@pytest.mark.parametrize("method", ["dense", "teacher", *EVERY])
def test_every_method_makes_a_line_that_can_be_read_and_told(method: str, place: Path) -> None:
    lines = place / f"{method}.jsonl"
    data = Shelf(None, {("digits", 0): made_data("digits")})
    run = PAPER.run(task_of(method), Bench(data, place / "running" / method))
    append_finished(lines, run)
    finished = read_finished(lines, PAPER.name)
    assert finished[0].task == task_of(method)
    outcome = PAPER.outcome(finished)
    named = [row[0] for row in outcome.tables[0].rows]
    assert run.notes is not None
    if method in ("dense", "teacher"):
        assert run.nonzero == run.parameters
    else:
        assert named[0] == methods()[method].title
        assert 0 < finished[0].nonzero < finished[0].parameters
        assert len(run.notes["looks"]) == 6  # type: ignore[arg-type]


def test_all_methods_start_from_the_same_dense_network_and_the_taught_from_their_teacher(
    place: Path,
) -> None:
    seen: dict[str, dict[str, Tensor]] = {}
    for method in EVERY:
        start = start_of(start_recipe(task_of(method), STAGE), bench_in(place, f"start-{method}"))
        seen[method] = dict(start.tensors)
    first, teacher = seen["sensitivity"], seen["sensitivity-taught"]
    for method, other in seen.items():
        expected = teacher if is_taught(method) else first
        assert all(torch.equal(expected[name], other[name]) for name in first)
    assert not all(torch.equal(first[name], teacher[name]) for name in first)
    elsewhere = start_of(start_recipe(task_of("decay", seed=1), STAGE), bench_in(place, "other"))
    assert not all(torch.equal(first[name], elsewhere.tensors[name]) for name in first)


def test_the_first_step_begins_at_the_weights_of_the_dense_network(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[dict[str, Tensor]] = []
    put = Start.__call__

    def looking(self: Start, model: nn.Module, optimizer: Optimizer) -> object:
        made = put(self, model, optimizer)
        began.append({name: one.clone() for name, one in model.state_dict().items()})
        return made

    monkeypatch.setattr(Start, "__call__", looking)
    for method in ("sensitivity", "decay"):
        _ = PAPER.run(task_of(method), bench_in(place, f"begins-{method}"))
    start = start_of(start_recipe(task_of("decay"), STAGE), bench_in(place, "again"))
    for weights in began:
        assert all(torch.equal(weights[name], start.tensors[name]) for name in weights)


def test_the_test_set_is_read_once_at_the_end_and_only_for_what_is_kept(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = made_data("digits")
    nothing = Split(torch.full_like(data.test.inputs, float("nan")), data.test.labels)
    order: list[str] = []
    train, read = Bench.train, errors_on

    def training(self: Bench, *args: Any) -> Any:
        assert not torch.equal(self.shelf.data(args[0]).test.inputs, data.test.inputs)
        order.append("train")
        return train(self, *args)

    def reading(models: Any, part: Split) -> list[float]:
        order.append("test" if part is data.test else "validation")
        return read(models, part)

    monkeypatch.setattr(Bench, "train", training)
    monkeypatch.setattr(room, "errors_on", reading)
    _ = PAPER.run(task_of("decay"), bench_in(place, "read", data))
    assert order == ["train", "train", "test"]
    # Where the test set cannot be learned from, training and choice are the same.
    blind = replace(data, test=nothing)
    one = PAPER.run(task_of("decay"), bench_in(place, "read-1", data))
    two = PAPER.run(task_of("decay"), bench_in(place, "read-2", blind))
    assert one.notes is not None
    assert two.notes is not None
    assert one.notes["looks"] == two.notes["looks"]
    assert one.error_percent != two.error_percent


def test_methods_differ_in_nothing_but_what_they_attach_and_the_images() -> None:
    own = sparse_recipe(task_of("sensitivity"), STAGE)
    for method in EVERY:
        task = task_of(method)
        recipe = replace(sparse_recipe(task, STAGE), augment=Augment.NONE)
        assert recipe == own
        assert setting_of(task, STAGE, 400) == setting_of(task_of("sensitivity"), STAGE, 400)
    plain = [name for name in CONTROLS if methods()[name].augment is Augment.NONE]
    assert plain == list(CONTROLS)


def test_a_method_is_asked_for_other_strengths_if_they_change_what_it_does(place: Path) -> None:
    start = start_of(start_recipe(task_of("decay"), STAGE), bench_in(place, "asked"))
    for method in EVERY:
        asked = PAPER.tasks(Choice(methods=(method,), strengths=(1.0, 2.0)))
        told = []
        for factor in (1.0, 2.0):
            setting = replace(setting_of(asked[0], STAGE, 400), factor=factor)
            model = _network(start)
            optimizer = torch.optim.SGD(model.parameters(), 0.1)
            made = [attach(model, optimizer) for attach in methods()[method].make(setting)]
            workers = [getattr(one, "worker", None) for one in made]
            told.append([getattr(one, "strength", None) for one in workers])
        changes = told[0] != told[1]
        assert [task.strength for task in asked] == ([1.0, 2.0] if changes else [None])
    assert methods()["sensitivity"].pressed
    assert not methods()["magnitude"].pressed


def test_the_control_without_sensitivity_shrinks_by_the_same_strengths(place: Path) -> None:
    start = start_of(start_recipe(task_of("decay"), STAGE), bench_in(place, "strength"))
    strengths = {}
    for method in ("sensitivity", "sensitivity-raw", "decay", "lobster", "serene"):
        model = _network(start)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        made = methods()[method].make(setting_of(task_of(method), STAGE, 400))
        attachment: Any = made[0](model, optimizer)
        strengths[method] = attachment.worker.strength
        attachment.detach()
    assert len(set(strengths.values())) == 1
    assert strengths["decay"] > 0


def test_a_run_that_was_stopped_and_gone_on_with_gives_the_same_line(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_of("sensitivity-distilled")
    whole = PAPER.run(task, bench_in(place, "whole"))

    def stop(progress: Progress) -> None:
        if progress.epoch == 2 and not stopped:
            stopped.append(progress.step)
            raise KeyboardInterrupt

    stopped: list[int] = []
    recipe = room.sparse_recipe
    monkeypatch.setattr(room, "sparse_recipe", lambda *it: replace(recipe(*it), report_every=3))
    bench = replace(bench_in(place, "stopped"), observer=stop)
    with pytest.raises((KeyboardInterrupt, Interrupted)):
        _ = PAPER.run(task, bench)
    assert stopped
    again = PAPER.run(task, bench)
    assert _without(line_of(again)) == _without(line_of(whole))
    other = PAPER.run(task_of("sensitivity"), bench_in(place, "other-method"))
    assert _without(line_of(other)) != _without(line_of(whole))


def _without(line: Mapping[str, Any]) -> dict[str, Any]:
    """Without what may differ: how often it was reported."""
    recipe = {key: value for key, value in line["recipe"].items() if key != "report_every"}
    return {**line, "recipe": recipe}


def _network(start: Start) -> nn.Module:
    model = build_model(start.trained.recipe)
    _ = model.load_state_dict(start.tensors)
    return model


def test_a_run_that_began_with_another_dense_network_is_not_gone_on_with(place: Path) -> None:
    start = start_of(start_recipe(task_of("decay"), STAGE), bench_in(place, "begun"))
    model = _network(start)
    begun = start(model, torch.optim.SGD(model.parameters(), 0.1))
    begun.load_state_dict(begun.state_dict())
    with pytest.raises(ValueError, match="began with the dense network another"):
        begun.load_state_dict({"digest": "another"})


def test_finished_runs_are_not_done_again_and_the_dense_network_is_trained_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    train = Bench.train

    def training(self: Bench, *args: Any) -> Any:
        found = train(self, *args)
        trained.append(found.resumed_at)
        return found

    monkeypatch.setattr(Bench, "train", training)
    monkeypatch.setattr("abscise.papers._bench.data_for", lambda *_: made_data("digits"))
    tasks = PAPER.tasks(Choice(methods=("dense", "decay", "lobster")))
    where = Place(tmp_path / "lines.jsonl")
    tally = run_tasks(PAPER, tasks, where, lambda _: None)
    assert (tally.finished, tally.failed) == (3, ())
    dense_steps = 2 * (400 // STAGE.batch_size)
    assert trained == [0, dense_steps, 0, dense_steps, 0]
    assert run_tasks(PAPER, tasks, where, lambda _: None).before == 3
    starts = {run.notes["start"] for run in read_finished(where.lines, PAPER.name)}
    assert len(starts) == 1


def test_the_tasks_of_a_cut_short_experiment_have_every_method_of_a_seed_first() -> None:
    tasks = SensitivityExperiment().tasks(Choice())
    first = tuple(task.method for task in tasks[: 1 + len(CONTROLS)])
    assert first == ("dense", *CONTROLS)
    assert {task.seed for task in tasks[: len(first)]} == {0}
    own = [task.method for task in tasks if task.network == "lenet300"]
    assert set(own) == {"dense", "teacher", *EVERY}
    assert len({task.key for task in tasks}) == len(tasks)


def image_net() -> Data:
    """Eight images of the shape of ImageNet's, of its first two classes."""
    inputs = torch.randn(8, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1] * 4)
    parts = (slice(0, 4), slice(4, 6), slice(6, 8))
    return Data(
        f"{__name__}:image_net", 1000, *(Split(inputs[it].clone(), labels[it]) for it in parts)
    )


def test_the_stage_of_image_net_runs_on_images_of_its_shape(tmp_path: Path) -> None:
    (large,) = (stage for stage in STAGES if stage.asked)
    tiny = replace(
        large,
        dataset=f"{__name__}:image_net",
        rungs=(29.3, 30.9, 100.0),
        figures=(replace(large.figures[0], error=100.0),),
        dense_epochs=1,
        epochs=4,
        cycles=1,
        threshold=0.05,
        batch_size=1,
        asked=False,
        extra={
            **{key: value for key, value in large.extra.items() if key in {"shape", "classes"}},
            "model_args": {"width": 0.02},
        },
    )
    paper = SensitivityExperiment((tiny,))
    key = (tiny.dataset, 0)
    # A fifth of the rule's strength: the rule's leaves nothing of so small a network.
    task = paper.tasks(Choice(methods=("sensitivity-estimate",), strengths=(0.2,)))[0]
    run = paper.run(task, Bench(Shelf(None, {key: image_net()}), tmp_path / "running" / "one"))
    assert run.parameters is not None
    assert run.nonzero is not None
    assert 0 < run.nonzero < run.parameters
    assert run.macs is not None


def test_what_has_to_be_asked_for_is_not_run_without() -> None:
    paper = SensitivityExperiment()
    (large,) = (stage.dataset for stage in STAGES if stage.asked)
    assert large not in {task.dataset for task in paper.tasks(Choice())}
    assert {task.dataset for task in paper.tasks(Choice(datasets=(large,)))} == {large}


def test_the_published_vgg_has_as_many_parameters_as_it_is_known_for() -> None:
    with torch.device("meta"):
        model = OriginalVGG16()
    assert sum(weight.numel() for weight in model.parameters()) == 138_357_544
    with pytest.raises(ValueError, match="side must be a multiple of 32"):
        _ = OriginalVGG16(100)


def test_what_is_chosen_has_to_be_there() -> None:
    with pytest.raises(RecipeError, match="no method 'sensitivty'"):
        _ = PAPER.tasks(Choice(methods=("sensitivty",)))
    with pytest.raises(RecipeError, match="leave one out"):
        _ = SensitivityExperiment().tasks(
            Choice(datasets=("fashion_mnist",), networks=("lenet300",))
        )


def test_a_target_has_to_be_a_rung() -> None:
    for stage in STAGES:
        assert {target.error for target in stage.targets} <= set(stage.rungs)
    with pytest.raises(ValueError, match="must be one of the rungs"):
        _ = replace(STAGE, rungs=(1.0, 2.0))
