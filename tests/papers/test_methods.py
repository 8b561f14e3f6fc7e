"""Every method makes a network smaller, on made data, and the smaller one is certified."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import SGD

import abscise
from abscise._errors import RecipeError
from abscise.papers import (
    Bench,
    Choice,
    Finished,
    Task,
    append_finished,
    experiment,
    read_finished,
)
from abscise.papers import _transformed_l1 as paper
from abscise.papers._grid import Geometric, Shares
from abscise.papers._methods import A, Setting, methods
from abscise.papers._random_units import RandomUnits
from abscise.papers._transformed_l1 import SETUPS, Setup, recipe_of
from abscise.penalties import CGES, IntegratedTransformedL1, Penalty
from abscise.sparsify import Proximal
from abscise.train import MLP
from support.papering import shelf_of

PAPER = experiment("transformed-l1")
PENDIGITS, DIGITS = SETUPS[0], next(it for it in SETUPS if it.dataset == "digits")
STRENGTHS = {
    "dense": None,
    "l1": 0.05,
    "group-lasso": 0.05,
    "sgl": 0.05,
    "cges": 0.1,
    "slimming": 1.0,
    "magnitude": 0.9,
    "integrated-tl1": 0.05,
    "integrated-tl1-exact": 0.05,
    "random-units": 0.5,
}
"""Strong enough to show in a few steps; the methods of the table, each of which needs a row."""


def task_of(method: str, strength: float | None, setup: Setup = PENDIGITS) -> Task:
    return Task(
        experiment=PAPER.name,
        method=method,
        dataset=setup.dataset,
        network=setup.network,
        strength=strength,
        seed=0,
        epochs=5 if method == "integrated-tl1-exact" else 30,
    )


def finished(task: Task, folder: Path) -> Finished:
    run = PAPER.run(task, Bench(shelf_of(task.dataset), folder / "run"))
    append_finished(folder / "lines.jsonl", run)
    (line,) = read_finished(folder / "lines.jsonl", PAPER.name)
    return line


def test_every_method_of_the_table_is_tried_here() -> None:
    assert list(STRENGTHS) == list(methods())


@pytest.mark.parametrize("method", [name for name in STRENGTHS if name != "slimming"])
def test_a_method_trains_and_ends_as_a_smaller_certified_model(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = replace(PENDIGITS, hidden=(12, 8))
    monkeypatch.setattr(paper, "SETUPS", (small,))
    run = finished(task_of(method, STRENGTHS[method]), tmp_path)
    assert run.certified
    assert run.error_percent < 70  # of ten classes
    shrunk = method != "dense"
    assert (run.nonzero < run.parameters) is shrunk
    assert run.parameters == 16 * 12 + 12 + 12 * 8 + 8 + 8 * 10 + 10
    if method == "random-units":
        assert run.units_removed == 10


def test_network_slimming_removes_channels_where_there_is_batch_norm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = replace(DIGITS, widths=(4, 8), hidden=(8,))
    monkeypatch.setattr(paper, "SETUPS", (small,))
    run = finished(task_of("slimming", STRENGTHS["slimming"], DIGITS), tmp_path)
    assert run.certified
    assert run.units_removed > 0


def test_network_slimming_says_why_it_is_not_run_without_batch_norm() -> None:
    with pytest.raises(RecipeError, match=r"slimming is not run on pendigits.*BatchNorm"):
        _ = PAPER.tasks(Choice(datasets=("pendigits",), methods=("slimming",)))


def test_every_stage_runs_or_explains_every_method() -> None:
    swept = {name for name, method in methods().items() if method.knob}
    for setup in SETUPS:
        assert set(setup.grids) | set(setup.absent) >= swept
        assert all(setup.absent.values())


def test_every_stage_is_a_recipe() -> None:
    for setup in SETUPS:
        recipe = recipe_of(task_of("dense", None, setup), setup)
        assert (recipe.learning_rate, recipe.batch_size, recipe.drop_factor) == (0.05, 100, 0.9)
        assert recipe.drops == tuple(part / 6 for part in range(1, 6))


def test_the_whole_sweep_has_three_seeds_and_goes_seed_by_seed() -> None:
    tasks = PAPER.tasks(Choice(datasets=("pendigits", "mnist"), networks=("mlp", "lenet300")))
    assert len({task.key for task in tasks}) == len(tasks)
    assert [task.seed for task in tasks] == sorted(task.seed for task in tasks)
    assert {task.seed for task in tasks} == {0, 1, 2}
    one = [task.strength for task in tasks if (task.method, task.seed) == ("l1", 0)]
    assert one == [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0005, 0.001, 0.002, 0.004, 0.008]


CHOICES: list[tuple[Choice, int]] = [
    (Choice(datasets=("pendigits",), methods=("dense",)), 3),
    (Choice(datasets=("pendigits",), methods=("dense", "l1"), seeds=(7,)), 7),
    (Choice(datasets=("mnist",), methods=("sgl",), strengths=(0.1,)), 6),
    (Choice(datasets=("mnist",), networks=("deepmnist",), methods=("l1",)), 15),
    (Choice(limit=5), 5),
    (Choice(quick=True), 9),
]


@pytest.mark.parametrize(("choice", "count"), CHOICES, ids=lambda it: str(it)[:60])
def test_a_choice_is_a_part_of_the_sweep(choice: Choice, count: int) -> None:
    tasks = PAPER.tasks(choice)
    assert len(tasks) == count
    if not (choice.quick or choice.seeds or choice.strengths):
        assert set(tasks) <= set(PAPER.tasks(Choice()))


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (Choice(datasets=("mnits",)), "no data set 'mnits'.*mean mnist"),
        (Choice(methods=("lasso",)), "no method 'lasso'.*group-lasso"),
        (Choice(networks=("resnet",)), "no network 'resnet'"),
        (Choice(datasets=("mnist",), networks=("vgg11",)), "none of the data sets chosen"),
    ],
    ids=str,
)
def test_a_choice_of_nothing_is_refused(choice: Choice, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        _ = PAPER.tasks(choice)


def test_grids_rise_from_their_lowest_and_refuse_what_does_not() -> None:
    assert Geometric(1e-3, 2.0, 3).values == (0.001, 0.002, 0.004)
    with pytest.raises(ValueError, match="ratio"):
        _ = Geometric(1e-3, 1.0, 3)
    with pytest.raises(ValueError, match="shares"):
        _ = Shares((0.5, 1.0))


def attached(method: str, **changes: object) -> Proximal:
    """The options that a method attaches to a network of two layers."""
    model = MLP(4, (6,), 3)
    units = abscise.find_units(model, torch.zeros(2, 4))
    setting = Setting(units=units, steps=60, seed=0, **changes)  # type: ignore[arg-type]
    make = methods()[method].make
    assert make is not None
    found = make(0.1, setting)(model, SGD(model.parameters(), 0.1))
    assert isinstance(found, abscise.Attachment)
    options = found.sparsifier
    assert isinstance(options, Proximal)
    return options


def penalties(options: Proximal) -> list[Penalty]:
    assert not isinstance(options.penalty, Penalty)
    return [options.penalty(depth, 4) for depth in range(1, 5)]


def test_the_integrated_penalty_is_that_of_the_authors_script() -> None:
    for name, exact in (("integrated-tl1", False), ("integrated-tl1-exact", True)):
        found = penalties(attached(name))
        shares = [it.mu for it in found if isinstance(it, IntegratedTransformedL1)]
        assert shares == pytest.approx([0.2, 0.4, 0.6, 0.8])
        assert all(it == IntegratedTransformedL1(it.mu, A, exact) for it in found)  # type: ignore[attr-defined]


def test_the_exclusive_share_grows_with_depth() -> None:
    assert penalties(attached("cges")) == [CGES(share / 5) for share in range(1, 5)]


def test_layers_get_their_factors() -> None:
    options = attached("integrated-tl1", factors=(1.0, 0.5))
    assert options.depth_factor is not None
    assert [options.depth_factor(depth, 2) for depth in (1, 2)] == [1.0, 0.5]
    assert attached("integrated-tl1").depth_factor is None


def test_random_units_are_zero_from_the_first_step_and_stay_so() -> None:
    torch.manual_seed(0)
    model = MLP(4, (6, 5), 3)
    units = abscise.find_units(model, torch.zeros(2, 4))
    optimizer = SGD(model.parameters(), 0.1, momentum=0.9)
    _ = RandomUnits(0.5, 1, units)(model, optimizer)

    def dead(name: str) -> int:
        layer = model.get_submodule(f"layers.{name}")
        assert isinstance(layer, nn.Linear)
        weights = torch.cat([layer.weight.detach(), layer.bias.detach()[:, None]], dim=1)
        return int((weights == 0).all(dim=1).sum())

    assert (dead("hidden1"), dead("hidden2")) == (3, 2)
    for _step in range(3):
        model(torch.randn(8, 4)).square().sum().backward()
        optimizer.step()
    assert (dead("hidden1"), dead("hidden2"), dead("classes")) == (3, 2, 0)


def test_the_lot_of_random_units_depends_on_its_seed_alone() -> None:
    model = MLP(4, (20,), 3)
    units = abscise.find_units(model, torch.zeros(2, 4))
    drawn = [RandomUnits(0.5, seed, units)._drawn() for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == 10
    assert len(RandomUnits(0.99, 1, units)._drawn()) == 19
    with pytest.raises(ValueError, match="share must be in"):
        _ = RandomUnits(1.0, 1, units)


@pytest.mark.slow
@pytest.mark.parametrize("index", [4, 5])
def test_the_large_networks_train_and_are_certified(index: int, tmp_path: Path) -> None:
    setup = SETUPS[index]
    task = replace(task_of("integrated-tl1", 0.05, setup), epochs=1)
    run = finished(task, tmp_path)
    assert run.nonzero < run.parameters
