"""The experiment on filter sparsity: which optimizers lose filters by themselves, and how many."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from typing_extensions import override

from abscise._errors import RecipeError
from abscise.papers._bench import Bench
from abscise.papers._choice import Choice, chosen_names
from abscise.papers._experiment import Experiment
from abscise.papers._filter_cuts import LEVELS
from abscise.papers._filter_facts import NOTE, facts_of_filters, facts_to_json
from abscise.papers._filter_methods import Method, methods
from abscise.papers._filter_stages import (
    NAMED,
    ROUNDS,
    SEEDS,
    SMALL,
    STAGES,
    TINY,
    Stage,
)
from abscise.papers._filter_tables import filter_outcome
from abscise.papers._finished import Finished
from abscise.papers._flushing import flushing
from abscise.papers._implicit import ship_snapped
from abscise.papers._layout import channels_first_, channels_last
from abscise.papers._outcome import Outcome
from abscise.papers._places import place_of
from abscise.papers._task import Task
from abscise.train import Recipe, Run, recipe_from

DROP = 250 / 325
QUICK_LIMIT, QUICK_LEVELS = 1000, (0.5,)


class FilterSparsityExperiment(Experiment):
    """Which filters go by themselves, for optimizers, L2 and WD, batch sizes and widths."""

    __slots__ = ("_rounds", "_stages")

    name: ClassVar[str] = "filter-sparsity"
    title: ClassVar[str] = "Filters that die by themselves, and what they are compared with"
    source: ClassVar[str] = (
        "D. Mehta, K. I. Kim, C. Theobalt 2019, On Implicit Filter Level Sparsity in Convolutional "
        "Neural Networks, arXiv 1811.12495"
    )

    def __init__(
        self,
        stages: Sequence[Stage] = STAGES,
        rounds: Sequence[Sequence[tuple[str, float]]] = ROUNDS,
    ) -> None:
        self._stages, self._rounds = tuple(stages), tuple(tuple(one) for one in rounds)

    @override
    def tasks(self, choice: Choice) -> tuple[Task, ...]:
        """Round by round; of each round one network after the other, seed by seed."""
        stages = self._chosen(choice)
        wanted = chosen_names(choice.methods, methods(), "method")
        rounds = [*self._rounds[:1]] if choice.quick else [*self._rounds]
        if choice.methods:
            rounds = [*self._rounds, NAMED]
        found = {
            task.key: task
            for runs in rounds
            for stage in stages
            for seed in choice.seeds or (SEEDS[:1] if choice.quick else SEEDS)
            for method, strength in _at(choice.strengths, runs)
            if method in wanted
            for task in [_task(stage, method, strength, seed, choice)]
        }
        tasks = tuple(found.values())
        if not tasks:
            message = "none of the methods chosen is among the first runs: leave out quick"
            raise RecipeError(message)
        return tasks[: choice.limit] if choice.limit else tasks

    @override
    def run(self, task: Task, bench: Bench) -> Run:
        method = methods()[task.method]
        recipe = recipe_of(task, self._stage_of(task), bench.device)
        attachments = (channels_last, *method.attachments(task.strength or 0.0))
        with flushing():
            trained = bench.train(recipe, attachments)
        levels = QUICK_LEVELS if task.limit == QUICK_LIMIT else LEVELS
        facts = facts_of_filters(trained.model, trained.data, method.rankings, levels)
        _ = channels_first_(trained.model)  # what is shipped lies as its user would lay it
        run = ship_snapped(bench, task, trained, method.about)
        return replace(run, notes={**(run.notes or {}), NOTE: facts_to_json(facts)})

    @override
    def outcome(self, finished: Sequence[Finished]) -> Outcome:
        for run in finished:
            _ = self._stage_of(run.task), chosen_names((run.task.method,), methods(), "method")
        return filter_outcome(self.title, self.source, self._stages, finished)

    def _chosen(self, choice: Choice) -> list[Stage]:
        """The stages that are wanted; large ones only by the name of their network.

        Raises:
            RecipeError: A name is not known, or no stage has the names chosen.
        """
        sets = chosen_names(
            choice.datasets, dict.fromkeys(it.dataset for it in self._stages), "data set"
        )
        nets = chosen_names(
            choice.networks, dict.fromkeys(it.network for it in self._stages), "network"
        )
        if choice.quick and not choice.networks:
            nets = tuple(it for it in nets if it == TINY) or nets[:1]
        named = choice.networks or (nets if choice.quick else ())
        found = [
            it
            for it in self._stages
            if it.dataset in sets
            and it.network in nets
            and (not it.asked or it.network in named or _by_set(it, choice))
        ]
        if not found:
            known = ", ".join(it.network for it in self._stages if it.dataset in sets)
            message = f"{', '.join(sets)}: there is no run with {', '.join(nets)}: use {known}"
            raise RecipeError(message)
        return found[:1] if choice.quick and not choice.networks else found

    def _stage_of(self, task: Task) -> Stage:
        """The stage that a task belongs to.

        Raises:
            RecipeError: There is none.
        """
        return place_of(task, self._stages, "stage")


def recipe_of(task: Task, stage: Stage, device: str = "cpu") -> Recipe:
    """As in the paper: batches of 40 and mirrored images, the rate down to a tenth for the end.

    On CUDA forward and backward run in bfloat16 and as captured graphs.
    """
    method: Method = methods()[task.method]
    fast: Mapping[str, object] = {"precision": "bf16-mixed", "compile": True}
    return recipe_from(
        {
            "name": task.experiment,
            "data": task.dataset,
            "limit": task.limit,
            "augment": stage.augment.value,
            "model": stage.model.value,
            "model_args": {"width": stage.width},
            **method.fields,
            "weight_decay": method.decay(task.strength or 0.0),
            "epochs": task.epochs,
            "batch_size": method.batch,
            "drops": [DROP],
            "report_every": 1000,
            "seed": task.seed,
            **(fast if torch.device(device).type == "cuda" else {}),
        }
    )


def _task(stage: Stage, method: str, strength: float, seed: int, choice: Choice) -> Task:
    return Task(
        experiment=FilterSparsityExperiment.name,
        method=method,
        dataset=stage.dataset,
        network=stage.network,
        strength=strength,
        seed=seed,
        epochs=choice.epochs or (1 if choice.quick else stage.epochs),
        limit=QUICK_LIMIT if choice.quick else stage.limit,
    )


def _at(
    strengths: tuple[float, ...], runs: Sequence[tuple[str, float]]
) -> Sequence[tuple[str, float]]:
    """The runs, or each of their methods at every one of `strengths`."""
    if not strengths:
        return runs
    return [(name, one) for name in dict.fromkeys(it for it, _ in runs) for one in strengths]


def _by_set(stage: Stage, choice: Choice) -> bool:
    """Is it the small network on a data set that was named?"""
    return stage.network == SMALL and stage.dataset in choice.datasets
