"""The filter-sparsity experiment: its tasks, its recipes, and a run that ends certified."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
import torch
from torch import nn

from abscise._errors import RecipeError
from abscise.papers import (
    Bench,
    Choice,
    Finished,
    Shelf,
    Task,
    append_finished,
    read_finished,
    write_report,
)
from abscise.papers import _filter_sparsity as room
from abscise.papers._filter_cuts import Ranking
from abscise.papers._filter_facts import facts_of_run, filters_below
from abscise.papers._filter_methods import Method, is_control, methods
from abscise.papers._filter_sparsity import FilterSparsityExperiment, recipe_of
from abscise.papers._filter_stages import NAMED, ROUNDS, STAGES, Stage
from abscise.papers._implicit import implicit_of, unchanged
from abscise.train import ModelName, Progress, Run, Trained, build_model
from support.papering import made_data

PAPER = FilterSparsityExperiment()
TINY = Stage(
    dataset="cifar10",
    network="tiny",
    model=ModelName.BASICNET,
    width=0.05,
    epochs=9,
    asked=False,
)
SMALL = FilterSparsityExperiment((TINY,), ((("adam-l2", 0.05), ("adamw", 0.05)),))
LEVELS = (0.2, 0.5)


def bench_in(folder: Path, dataset: str = "cifar10") -> Bench:
    return Bench(Shelf(None, {(dataset, 0): made_data(dataset)}), folder)


def task_of(method: str = "adam-l2", seed: int = 0) -> Task:
    return SMALL.tasks(Choice(methods=(method,), seeds=(seed,)))[0]


def recorded(run: Run, folder: Path) -> Finished:
    append_finished(folder / "lines.jsonl", run)
    return read_finished(folder / "lines.jsonl", PAPER.name)[-1]


@pytest.fixture
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """At forty times the learning rate filters die within a hundred steps."""

    def hurried() -> Mapping[str, Method]:
        return MappingProxyType(
            {
                name: replace(one, fields={**one.fields, "learning_rate": 0.04})
                for name, one in methods().items()
            }
        )

    monkeypatch.setattr(room, "methods", hurried)
    monkeypatch.setattr(room, "LEVELS", LEVELS)


def test_the_most_telling_runs_come_first_with_all_their_seeds() -> None:
    tasks = PAPER.tasks(Choice())
    first = [(task.method, task.strength, task.seed) for task in tasks[: 3 * len(ROUNDS[0])]]
    assert first == [(*one, seed) for seed in (0, 1, 2) for one in ROUNDS[0]]
    assert (tasks[0].method, tasks[0].strength) == ("adam-l2", 1e-4)
    free = [it for it in STAGES if not it.asked]
    assert [it.dataset for it in free] == ["cifar10", "mnist"]
    assert len(tasks) == 3 * len(free) * sum(len(one) for one in ROUNDS)
    second = tasks[3 * len(ROUNDS[0]) : 2 * 3 * len(ROUNDS[0])]
    assert {it.dataset for it in tasks[: 3 * len(ROUNDS[0])]} == {"cifar10"}
    assert [(it.method, it.strength, it.seed) for it in second] == first
    assert {it.dataset for it in second} == {"mnist"}


def test_the_tasks_hold_every_optimizer_batch_size_and_control_of_the_paper() -> None:
    asked = {task.method for task in PAPER.tasks(Choice())}
    named = {task.method for task in PAPER.tasks(Choice(methods=tuple(methods())))}
    assert asked | {name for name, _ in NAMED} == named == set(methods())
    assert {methods()[name].batch for name in asked} == {20, 40, 80, 160}
    controls = {it.method for it in PAPER.tasks(Choice()) if is_control(it.method, it.strength)}
    assert controls == {"adam-l2", "adamw", "amsgrad-l2", "adam-l2-eps"}
    assert not is_control("adam-l2", 1e-4)
    assert not is_control("adam-wd", 1e-4)


def test_keys_are_unique_and_stable() -> None:
    nets = tuple(dict.fromkeys(stage.network for stage in STAGES))
    tasks = PAPER.tasks(Choice(networks=nets, methods=tuple(methods())))
    keys = [task.key for task in tasks]
    assert len(set(keys)) == len(keys) == 3 * len(STAGES) * (sum(map(len, ROUNDS)) + len(NAMED))
    assert keys[0] == (
        "filter-sparsity/adam-l2/cifar10/basicnet-quarter/strength=0.0001/seed=0/epochs=160"
        "/limit=10000"
    )
    assert "filter-sparsity/adam-l2/cifar100/vgg16/strength=0.0/seed=2/epochs=325" in keys


def test_large_networks_have_to_be_asked_for() -> None:
    assert {it.network for it in PAPER.tasks(Choice())} == {"basicnet-quarter"}
    assert {it.network for it in PAPER.tasks(Choice(networks=("vgg16",)))} == {"vgg16"}
    assert {it.dataset for it in PAPER.tasks(Choice(networks=("vgg16",)))} == {
        "cifar10",
        "cifar100",
    }
    small = PAPER.tasks(Choice(datasets=("cifar100",)))
    assert {(it.dataset, it.network) for it in small} == {("cifar100", "basicnet-quarter")}


def test_a_quick_sweep_is_of_the_smallest_network_and_few_examples() -> None:
    tasks = PAPER.tasks(Choice(quick=True))
    assert {(it.network, it.limit, it.epochs, it.seed) for it in tasks} == {
        ("basicnet-eighth", 1000, 1, 0)
    }
    assert [(it.method, it.strength) for it in tasks] == list(ROUNDS[0])


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (Choice(methods=("adam-l1",)), "no method 'adam-l1'.*did you mean adam-l2"),
        (Choice(networks=("vgg19",)), "no network 'vgg19'.*did you mean vgg16"),
        (Choice(datasets=("cifar",)), "no data set 'cifar'"),
        (
            Choice(datasets=("cifar100",), networks=("basicnet-eighth",)),
            "cifar100: there is no run with basicnet-eighth: use basicnet-quarter, basicnet, vgg16",
        ),
    ],
)
def test_what_is_not_there_is_said_in_a_line(choice: Choice, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        _ = PAPER.tasks(choice)


def test_the_small_runs_have_40000_steps_and_the_large_ones_those_of_the_paper() -> None:
    for stage in STAGES:
        examples = stage.limit or 45_000
        task = FilterSparsityExperiment((stage,)).tasks(Choice(networks=(stage.network,)))[0]
        recipe = recipe_of(task, stage)
        steps = recipe.epochs * (examples // recipe.batch_size)
        assert steps == (40_000 if stage.limit else 365_625)
        assert recipe.drops == (250 / 325,)
        assert recipe.augment == ("none" if stage.dataset == "mnist" else "flip")


def test_l2_is_in_the_gradient_and_wd_is_not() -> None:
    found = {}
    for method in methods():
        recipe = recipe_of(replace(task_of(), method=method, strength=2e-4), TINY)
        found[method] = (recipe.optimizer, recipe.weight_decay)
    assert found["adam-l2"] == found["adam-l2-batch20"] == found["adam-l2-eps"] == ("adam", 2e-4)
    assert found["adamw"] == ("adamw", 2e-4)
    assert found["adam-wd"] == ("adam", 0.0)
    assert found["slimming"] == ("sgd", 1e-4)
    assert {name for name, (_, decay) in found.items() if not decay} == {
        name for name in methods() if name.endswith("-wd")
    }


def test_wd_takes_its_share_of_every_weight_whatever_the_learning_rate() -> None:
    (attach,) = methods()["adam-wd"].attachments(0.01)
    for rate in (1e-3, 1e-1):
        model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        before = [weight.detach().clone() for weight in model.parameters()]
        optimizer = torch.optim.Adam(model.parameters(), rate)
        _ = attach(model, optimizer)
        for weight in model.parameters():
            weight.grad = torch.zeros_like(weight)
        _ = optimizer.step()
        for weight, was in zip(model.parameters(), before, strict=True):
            torch.testing.assert_close(weight.detach(), 0.99 * was)
    assert methods()["adam-l2"].attachments(0.01) == ()


def test_on_cuda_forward_and_backward_are_captured_and_in_bfloat16() -> None:
    task = task_of()
    plain, fast = recipe_of(task, TINY), recipe_of(task, TINY, "cuda:0")
    assert (plain.precision, plain.compile) == ("32-true", False)
    assert (fast.precision, fast.compile) == ("bf16-mixed", True)
    assert replace(fast, precision=plain.precision, compile=False) == plain


@pytest.mark.usefixtures("_hurried")
def test_a_run_loses_filters_and_ends_certified(tmp_path: Path) -> None:
    run = recorded(SMALL.run(task_of(), bench_in(tmp_path / "whole")), tmp_path)
    assert run.certified
    assert unchanged(run)
    assert 0 < sum(filters_below(run, 1e-3).values()) < facts_of_run(run).filters
    assert implicit_of(run).threshold > 0
    assert run.units_removed > 0
    assert [cut.share for cut in facts_of_run(run).cuts[Ranking.GAMMA]] == list(LEVELS)
    written = write_report(SMALL, [run], tmp_path / "report")
    assert {path.name for path in written} >= {"table.md", "pareto.svg", "bars.svg", "page.html"}
    assert "layer by layer" in (tmp_path / "report" / "page.html").read_text()


@pytest.mark.usefixtures("_hurried")
def test_a_run_that_was_stopped_ends_with_the_same_weights_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = room.recipe_of
    states: list[dict[str, torch.Tensor]] = []

    def noted(_bench: Bench, _task: Task, trained: Trained, _about: str) -> Run:
        states.append({name: value.clone() for name, value in trained.model.state_dict().items()})
        raise EndedError

    def stop(progress: Progress) -> None:
        if progress.step == 50:
            raise KeyboardInterrupt

    monkeypatch.setattr(room, "recipe_of", lambda *it: replace(made(*it), report_every=50))
    monkeypatch.setattr(room, "ship_snapped", noted)
    monkeypatch.setattr(room, "facts_of_filters", lambda *_: None)
    bench = bench_in(tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        _ = SMALL.run(task_of(), replace(bench, observer=stop))
    assert list((tmp_path / "parts").glob("checkpoint.*"))
    for task, on in (
        (task_of(), bench),
        (task_of(), bench_in(tmp_path / "whole")),
        (task_of(seed=1), bench_in(tmp_path / "other")),
    ):
        with pytest.raises(EndedError):
            _ = SMALL.run(task, on)
    resumed, whole, other = states
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert not all(torch.equal(whole[name], other[name]) for name in whole)


class EndedError(Exception):
    """A run that has been trained and is not shipped."""


@pytest.mark.usefixtures("_hurried")
def test_slimming_on_cifar100_works_on_data_of_its_shape(tmp_path: Path) -> None:
    stage = replace(TINY, dataset="cifar100", epochs=1)
    paper = FilterSparsityExperiment((stage,), ((("slimming", 1e-4),),))
    (task,) = paper.tasks(Choice(seeds=(0,)))
    run = recorded(paper.run(task, bench_in(tmp_path / "run", "cifar100")), tmp_path)
    of_ten = build_model(recipe_of(task_of(), TINY))
    assert run.parameters - sum(it.numel() for it in of_ten.parameters()) == 90 * (13 + 1)
    assert set(facts_of_run(run).cuts) == {Ranking.GAMMA}
    assert [layer.layer for layer in facts_of_run(run).layers] == [
        f"features.block{number}.conv" for number in range(1, 8)
    ]


@pytest.mark.slow
def test_vgg_loses_nothing_in_a_step_and_stays_as_it_is(tmp_path: Path) -> None:
    stage = replace(TINY, model=ModelName.VGG16, width=0.04, epochs=1)
    paper = FilterSparsityExperiment((stage,), ((("adam-wd", 1e-4),),))
    run = recorded(paper.run(paper.tasks(Choice())[0], bench_in(tmp_path / "run")), tmp_path)
    assert len(facts_of_run(run).layers) == 13
    assert unchanged(run)
    assert (run.nonzero, run.units_removed) == (run.parameters, 0)
