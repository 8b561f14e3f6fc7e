"""The experiment on sensitivity-driven regularization: from one dense network, many ways down."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

from torch import nn
from torch.optim import Optimizer
from typing_extensions import override

from abscise._errors import RecipeError
from abscise.papers._bench import Bench
from abscise.papers._choice import Choice, chosen_names
from abscise.papers._experiment import Experiment
from abscise.papers._finished import Finished
from abscise.papers._frontier import Frontier
from abscise.papers._outcome import Outcome
from abscise.papers._places import chosen_places, place_of
from abscise.papers._sensitivity_methods import Setting, methods
from abscise.papers._sensitivity_names import DENSE, STARTS, TEACHER, is_taught
from abscise.papers._sensitivity_stages import STAGES, Stage
from abscise.papers._sensitivity_tables import sensitivity_outcome
from abscise.papers._shipping import errors_on, line_of, ship_state, with_state
from abscise.papers._starts import Start, sealed, start_of
from abscise.papers._task import Task
from abscise.train import Attach, Augment, Recipe, Run, recipe_from

ABOUT = {DENSE: "what all methods start from", TEACHER: "what the taught methods start from"}

QUICK = 8
"""Epochs of a quick run: of 1,000 examples, so that there are steps enough for a decay."""


class SensitivityExperiment(Experiment):
    """Error against compression, for the paper's method, its controls, and ideas of ours."""

    __slots__ = ("_stages",)

    name: ClassVar[str] = "sensitivity"
    title: ClassVar[str] = "Sensitivity-driven regularization, and what it is compared with"
    source: ClassVar[str] = (
        "E. Tartaglione, S. Lepsoy, A. Fiandrotti, G. Francini 2018, Learning Sparse Neural "
        "Networks via Sensitivity-Driven Regularization, arXiv 1810.11764"
    )

    def __init__(self, stages: Sequence[Stage] = STAGES) -> None:
        self._stages = tuple(stages)

    @override
    def tasks(self, choice: Choice) -> tuple[Task, ...]:
        """Stage by stage and seed by seed, so that what is cut short has every method."""
        stages = chosen_places(choice, self._stages)
        wanted = chosen_names(choice.methods, (*STARTS, *methods()), "method")
        tasks = tuple(
            task
            for stage in stages
            for seed, names in _rounds(stage, choice)
            for method in (wanted if choice.methods else names)
            for task in _tasks(stage, method, seed, choice)
        )
        if not tasks:
            message = "none of the data sets chosen has a network or method chosen: leave one out"
            raise RecipeError(message)
        return tasks[: choice.limit] if choice.limit else tasks

    @override
    def run(self, task: Task, bench: Bench) -> Run:
        stage = self._stage_of(task)
        start = start_of(start_recipe(task, stage), bench)
        if task.method in STARTS:
            return _start_run(task, start, bench)
        return _sparse_run(task, stage, start, bench)

    @override
    def outcome(self, finished: Sequence[Finished]) -> Outcome:
        titles = {name: name for name in STARTS} | {
            name: method.title for name, method in methods().items()
        }
        return sensitivity_outcome(self.title, self.source, titles, self._stages, finished)

    def _stage_of(self, task: Task) -> Stage:
        """The stage that a task belongs to.

        Raises:
            RecipeError: There is none.
        """
        return place_of(task, self._stages, "stage")


def start_recipe(task: Task, stage: Stage) -> Recipe:
    """How what a run begins with is trained: the dense network, or for taught methods the teacher.

    Nothing else in it depends on the method.
    """
    taught = task.method == TEACHER or is_taught(task.method)
    epochs = stage.taught_epochs if taught else stage.dense_epochs
    augment = stage.taught_augment if taught else Augment.NONE
    epochs = min(epochs, task.epochs) if task.limit else epochs
    return _recipe(task, stage, epochs, cycles=1, decay=stage.weight_decay, augment=augment)


def sparse_recipe(task: Task, stage: Stage) -> Recipe:
    """How the network is trained on; methods differ in the augmentation only."""
    augment = methods()[task.method].augment
    return _recipe(task, stage, task.epochs, cycles=stage.cycles, augment=augment)


def setting_of(task: Task, stage: Stage, examples: int) -> Setting:
    """Where a method is put to work: the same for all methods."""
    return Setting(
        threshold=stage.threshold,
        growth=stage.growth,
        factor=1.0 if task.strength is None else task.strength,
        sparsity=stage.sparsity,
        steps=task.epochs * (examples // stage.batch_size),
        cycles=stage.cycles,
        seed=task.seed,
    )


@dataclass(slots=True)
class _Watched:
    """The frontier of a run, once `fit` has made it."""

    stage: Stage
    patience: int
    frontier: Frontier | None = None

    def __call__(self, model: nn.Module, _optimizer: Optimizer) -> Frontier:
        self.frontier = Frontier(model, self.stage.rungs, self.patience)
        return self.frontier


def _sparse_run(task: Task, stage: Stage, start: Start, bench: Bench) -> Run:
    """Train on, keep the frontier; then read the test set, once, for what is kept."""
    recipe = sparse_recipe(task, stage)
    data = bench.shelf.data(recipe)
    method = methods()[task.method]
    watched = _Watched(stage, patience=2 * max(1, task.epochs // stage.cycles))
    made = method.make(setting_of(task, stage, len(data.train)))
    attachments: tuple[Attach, ...] = (start, *made, watched)
    trained = sealed(bench, recipe).train(recipe, attachments)
    assert watched.frontier is not None
    frontier = watched.frontier
    main = [look for target in stage.targets if (look := frontier.best_at(target.error))]
    chosen = {look.epoch: look for look in (main or [frontier.least])}
    # A copy of each kept state; those that are chosen also without their dead units.
    kept = {epoch: with_state(trained.model, state) for epoch, state in frontier.states.items()}
    shipped = {epoch: ship_state(kept[epoch], data, task.label) for epoch in chosen}
    models = [*kept.values(), *(it.model for it in shipped.values())]
    tested = errors_on(models, data.test)
    errors = dict(zip(kept, tested[: len(kept)], strict=True))
    smaller = dict(zip(shipped, tested[len(kept) :], strict=True))
    look = next(reversed(chosen.values()))
    notes = {
        "about": method.about,
        "start": start.digest,
        "epochs_done": len(frontier.looks),
        "looks": [list(asdict(one).values()) for one in frontier.looks],
        "rungs": _rungs(frontier, errors),
        "shipped": [
            {**shipped[epoch].figures(), "epoch": epoch, "test": smaller[epoch]}
            for epoch in shipped
        ],
    }
    found = shipped[look.epoch]
    return line_of(
        task, trained, found, validation=look.error, test=smaller[look.epoch], notes=notes
    )


def _rungs(frontier: Frontier, errors: Mapping[int, float]) -> list[dict[str, object]]:
    """Each rung that was reached, what was kept for it, and its error on the test set."""
    return [
        {
            "rung": rung,
            "epoch": look.epoch,
            "validation": look.error,
            "nonzero": look.nonzero,
            "test": errors[look.epoch],
        }
        for rung, look in zip(frontier.rungs, frontier.best, strict=True)
        if look is not None
    ]


def _start_run(task: Task, start: Start, bench: Bench) -> Run:
    trained = start.trained
    data = bench.shelf.data(trained.recipe)
    found = ship_state(with_state(trained.model, start.tensors), data, task.label)
    validation, test = (errors_on([found.model], part)[0] for part in (data.validation, data.test))
    notes = {"about": ABOUT[task.method], "start": start.digest}
    return line_of(task, trained, found, validation=validation, test=test, notes=notes)


def _rounds(stage: Stage, choice: Choice) -> list[tuple[int, tuple[str, ...]]]:
    """Seeds, and the methods that take part with each; what takes part once comes last."""
    seeds = choice.seeds or (stage.seeds[:1] if choice.quick else stage.seeds)
    rounds = [(seed, stage.methods) for seed in seeds]
    return rounds if choice.methods or not stage.once else [*rounds, (seeds[0], stage.once)]


def _tasks(stage: Stage, method: str, seed: int, choice: Choice) -> tuple[Task, ...]:
    free: tuple[float | None, ...] = (None,)
    pressed = method not in STARTS and methods()[method].pressed
    strengths = choice.strengths or free if pressed else free
    return tuple(
        Task(
            experiment=SensitivityExperiment.name,
            method=method,
            dataset=stage.dataset,
            network=stage.network,
            strength=strength,
            seed=seed,
            epochs=choice.epochs or (QUICK if choice.quick else stage.epochs),
            limit=1000 if choice.quick else 0,
        )
        for strength in strengths
    )


def _recipe(
    task: Task,
    stage: Stage,
    epochs: int,
    *,
    cycles: int,
    decay: float = 0.0,
    augment: Augment = Augment.NONE,
) -> Recipe:
    return recipe_from(
        {
            "name": task.experiment,
            "data": task.dataset,
            "limit": task.limit,
            "model": task.network,
            **stage.extra,
            "optimizer": "sgd",
            "learning_rate": stage.learning_rate,
            "momentum": stage.momentum,
            "weight_decay": decay,
            "schedule": "cosine",
            "cycles": cycles,
            "epochs": epochs,
            "batch_size": stage.batch_size,
            "report_every": 500,
            "augment": augment.value,
            "seed": task.seed,
        }
    )
