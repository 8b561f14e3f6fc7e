"""The adam-implicit experiment: its tasks, a run that ends certified, and what is told of runs."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from abscise._errors import RecipeError
from abscise._subnormal import count_subnormal
from abscise.papers import (
    Bench,
    Choice,
    Finished,
    Shelf,
    Task,
    append_finished,
    read_finished,
)
from abscise.papers import _adam_implicit as room
from abscise.papers._adam_implicit import QUICK_EXAMPLES, AdamImplicitExperiment, recipe_of
from abscise.papers._adam_implicit_variants import MAIN, PLAIN, SETUPS, VARIANTS, Group, Setup
from abscise.papers._grid import Shares
from abscise.papers._implicit import implicit_of
from abscise.train import Progress, Run, build_model
from support.papering import made_data

PAPER = AdamImplicitExperiment()
LENET = SETUPS[0]
TINY = Setup(
    dataset="digits",
    network="tiny",
    model="mlp",
    epochs=20,
    batch_size=20,
    main=1e-2,
    grids={
        MAIN: Shares((1e-3, 1e-2)),
        "l1": Shares((0.2,)),
        "group-lasso": Shares((0.05,)),
        "sgl": Shares((0.05,)),
        "random-units": Shares((0.5,)),
    },
    absent=("leaky-relu", "leaky-relu-0.1", "leaky-relu-0.3", "elu", "gelu", "tanh"),
    recipe={"hidden": [12]},
)
SMALL = AdamImplicitExperiment((TINY,))


def bench_in(folder: Path) -> Bench:
    return Bench(Shelf(None, {("digits", 0): made_data("digits")}), folder)


def task_of(method: str) -> Task:
    return SMALL.tasks(Choice(methods=(method,), seeds=(0,)))[0]


def line_of(run: Run) -> Mapping[str, Any]:
    """The recorded line without the time that it took."""
    return json.loads(json.dumps(asdict(replace(run, wall_s=None))))


def recorded(run: Run, folder: Path) -> Finished:
    append_finished(folder / "lines.jsonl", run)
    return read_finished(folder / "lines.jsonl", PAPER.name)[-1]


def test_the_tasks_of_a_seed_are_all_variants_with_the_papers_method_first() -> None:
    tasks = PAPER.tasks(Choice())
    share = len(tasks) // 3
    assert [task.seed for task in tasks] == [0] * share + [1] * share + [2] * share
    assert (tasks[0].method, tasks[0].strength) == (MAIN, LENET.main)
    assert {task.method for task in tasks} == set(VARIANTS) - set(LENET.absent)
    assert {task.strength for task in tasks if task.method == MAIN} == {
        1e-5,
        3e-5,
        1e-4,
        3e-4,
        1e-3,
    }
    order = list(dict.fromkeys(task.method for task in tasks))
    assert order == [name for name in VARIANTS if name not in LENET.absent]
    cut_short = {task.method for task in tasks[:5]}
    assert cut_short == {MAIN} | {name for name, it in VARIANTS.items() if it.control}


def test_keys_are_unique_and_stable() -> None:
    setups = [(it.dataset, it.network) for it in SETUPS]
    tasks = [
        task
        for dataset, network in setups
        for task in PAPER.tasks(Choice(datasets=(dataset,), networks=(network,)))
    ]
    keys = [task.key for task in tasks]
    assert len(set(keys)) == len(keys)
    assert keys[0] == "adam-implicit/adam-l2/mnist/lenet300/strength=0.001/seed=0/epochs=20"
    assert (
        "adam-implicit/adam/cifar10/basicnet-quarter/strength=none/seed=0/epochs=160/limit=10000"
        in keys
    )


def test_what_takes_hours_has_to_be_asked_for() -> None:
    assert {task.network for task in PAPER.tasks(Choice())} == {"lenet300"}
    assert {task.network for task in PAPER.tasks(Choice(networks=("lenet5",)))} == {"lenet5"}
    by_data = {task.network for task in PAPER.tasks(Choice(datasets=("cifar10",)))}
    assert by_data == {"basicnet", "basicnet-quarter"}


def test_a_quick_run_is_of_few_examples_and_one_strength_each() -> None:
    tasks = PAPER.tasks(Choice(quick=True))
    assert {(task.network, task.limit, task.seed) for task in tasks} == {
        ("lenet300", QUICK_EXAMPLES, 0)
    }
    assert len({task.method for task in tasks}) == len(tasks)


def test_strengths_take_the_place_of_every_grid_and_only_of_grids() -> None:
    tasks = PAPER.tasks(Choice(strengths=(0.5,), seeds=(7,)))
    assert {task.strength for task in tasks} == {0.5, None}
    assert {task.method for task in tasks if task.strength is None} == {PLAIN, "sgd"}


@pytest.mark.parametrize("setup", SETUPS, ids=lambda it: f"{it.dataset}-{it.network}")
def test_all_variants_have_the_same_steps_data_and_seed(setup: Setup) -> None:
    examples = setup.limit or {"mnist": 55_000, "cifar10": 45_000}[setup.dataset]
    tasks = PAPER.tasks(Choice(datasets=(setup.dataset,), networks=(setup.network,), seeds=(3,)))
    recipes = [recipe_of(task, setup) for task in tasks]
    assert {it.epochs * (examples // it.batch_size) for it in recipes} == {
        setup.epochs * (examples // setup.batch_size)
    }
    shared = {(it.data, it.limit, it.seed, it.drops, it.model, it.augment) for it in recipes}
    assert len(shared) == 1


def test_batch_sizes_that_cannot_have_the_same_steps_are_refused() -> None:
    with pytest.raises(RecipeError, match="epochs times 20 must be a multiple of 100") as no:
        _ = PAPER.tasks(Choice(methods=("batch-20",), epochs=3))
    assert "\n" not in str(no.value)
    assert PAPER.tasks(Choice(methods=(MAIN,), epochs=3))[0].epochs == 3


def test_a_control_differs_from_the_papers_method_in_one_thing() -> None:
    def recipe(method: str) -> dict[str, object]:
        task = PAPER.tasks(Choice(methods=(method,)))[0]
        return recipe_of(task, LENET).as_dict()

    main = recipe(MAIN)
    differing = {
        method: {key: value for key, value in recipe(method).items() if value != main[key]}
        for method, variant in VARIANTS.items()
        if variant.control
    }
    assert differing == {
        "adam": {"weight_decay": 0.0},
        "adamw": {"optimizer": "adamw"},
        "amsgrad-l2": {"amsgrad": True},
        "adam-l2-eps": {"eps": 1e-3},
    }
    for method, variant in VARIANTS.items():
        if variant.group is Group.ACTIVATION:
            assert {key: it for key, it in recipe(method).items() if it != main[key]} == {
                "model_args": {"activation": variant.activation}
            }
            assert variant.activation.replace(":", "-") == method


def test_a_setup_that_names_what_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="no variant 'adan'"):
        _ = replace(TINY, absent=("adan",))
    with pytest.raises(ValueError, match="main must be in the grid, got 5"):
        _ = replace(TINY, main=5.0)
    with pytest.raises(RecipeError, match="no method 'adam-l1'"):
        _ = PAPER.tasks(Choice(methods=("adam-l1",)))
    with pytest.raises(RecipeError, match="leave one out"):
        _ = PAPER.tasks(Choice(methods=("batch-100",), datasets=("mnist",)))
    elsewhere = replace(task_of(MAIN), network="lenet9")
    with pytest.raises(RecipeError, match="no setup for digits with lenet9"):
        _ = SMALL.setup_of(elsewhere)


@pytest.mark.parametrize("method", ["batch-50", "l1", "random-units"])
def test_every_kind_of_run_ends_certified_and_can_be_told(method: str, tmp_path: Path) -> None:
    run = recorded(SMALL.run(task_of(method), bench_in(tmp_path / "run")), tmp_path)
    assert run.certified
    assert run.notes["steps"] == 400
    assert implicit_of(run).dead.units == run.units == 12
    if method in {"l1", "random-units"}:
        assert run.units_removed > 0
    told = SMALL.outcome([run])
    assert told.details[0].rows[0][0] == VARIANTS[method].title


def test_a_run_that_was_stopped_and_gone_on_with_gives_the_same_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of
    monkeypatch.setattr(room, "recipe_of", lambda *it: replace(recipe(*it), report_every=7))
    whole = SMALL.run(task_of(MAIN), bench_in(tmp_path / "whole"))

    def stop(progress: Progress) -> None:
        if progress.step >= 150 and not stopped:
            stopped.append(progress.step)
            assert count_subnormal(torch.full((4,), 4e-39) * 0.5) == 0  # flushed while it trains
            raise KeyboardInterrupt

    stopped: list[int] = []
    bench = replace(bench_in(tmp_path / "stopped"), observer=stop)
    with pytest.raises(KeyboardInterrupt):
        _ = SMALL.run(task_of(MAIN), bench)
    assert stopped
    assert count_subnormal(torch.full((4,), 4e-39) * 0.5) == 4
    again = SMALL.run(task_of(MAIN), bench)
    assert line_of(again) == line_of(whole)
    other = SMALL.run(task_of("sgd-l2"), bench_in(tmp_path / "other"))
    assert line_of(other) != line_of(whole)


def test_every_setup_makes_its_network_with_every_activation() -> None:
    leaky = dict.fromkeys(("leaky-relu", "leaky-relu-0.1", "leaky-relu-0.3"), "LeakyReLU")
    wanted = {MAIN: "ReLU", **leaky, "elu": "ELU", "gelu": "GELU", "tanh": "Tanh"}
    assert set(wanted) == {MAIN} | {
        it for it, one in VARIANTS.items() if one.group is Group.ACTIVATION
    }
    for setup in SETUPS:
        small = replace(setup, model_args={"width": 0.1} if setup.model == "basicnet" else {})
        for method, kind in wanted.items():
            task = PAPER.tasks(
                Choice(datasets=(setup.dataset,), networks=(setup.network,), methods=(method,))
            )[0]
            kinds = {type(it).__name__ for it in build_model(recipe_of(task, small)).modules()}
            assert kinds & set(wanted.values()) == {kind}
