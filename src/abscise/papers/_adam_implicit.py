"""The experiment of the paper on Adam, L2 and ReLU: which units die by themselves."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from typing_extensions import override

from abscise._errors import RecipeError
from abscise.papers._adam_implicit_tables import adam_implicit_outcome
from abscise.papers._adam_implicit_variants import MAIN, SETUPS, VARIANTS, Setup
from abscise.papers._bench import Bench
from abscise.papers._choice import Choice, chosen_names
from abscise.papers._experiment import Experiment
from abscise.papers._finished import Finished
from abscise.papers._flushing import flushing
from abscise.papers._implicit import ship_snapped
from abscise.papers._methods import methods
from abscise.papers._outcome import Outcome
from abscise.papers._places import chosen_places, place_of
from abscise.papers._task import Task
from abscise.train import Attach, Recipe, Run, recipe_from

SEEDS = (0, 1, 2)
QUICK_EPOCHS, QUICK_EXAMPLES = 10, 1000


class AdamImplicitExperiment(Experiment):
    """Dead units under Adam with L2 and ReLU, what takes them away again, and what else removes.

    Args:
        setups: Data sets with their networks.
    """

    __slots__ = ("_setups",)

    name: ClassVar[str] = "adam-implicit"
    title: ClassVar[str] = "Adam with L2 and ReLU loses units by itself"
    source: ClassVar[str] = (
        "A. Yaguchi, T. Suzuki, W. Asano, S. Nitta, Y. Sakata, A. Tanizawa 2018, Adam Induces "
        "Implicit Weight Sparsity in Rectifier Neural Networks, arXiv 1812.08119"
    )

    def __init__(self, setups: Sequence[Setup] = SETUPS) -> None:
        self._setups = tuple(setups)

    @override
    def tasks(self, choice: Choice) -> tuple[Task, ...]:
        """Seed by seed, first the paper's method and its controls, last the rest of its grid."""
        setups = chosen_places(choice, self._setups)
        wanted = chosen_names(choice.methods, VARIANTS, "method")
        tasks = tuple(
            task
            for seed in choice.seeds or (SEEDS[:1] if choice.quick else SEEDS)
            for setup in setups
            for task in _ordered(setup, wanted, seed, choice)
        )
        if not tasks:
            message = "none of the data sets chosen has a network or method chosen: leave one out"
            raise RecipeError(message)
        for task in tasks:
            _ = recipe_of(task, self.setup_of(task))  # what cannot be trained is refused before
        return tasks[: choice.limit] if choice.limit else tasks

    @override
    def run(self, task: Task, bench: Bench) -> Run:
        recipe = recipe_of(task, self.setup_of(task))
        variant = VARIANTS[task.method]
        attachments: tuple[Attach, ...] = ()
        if variant.penalty:
            data = bench.shelf.data(recipe)
            attachments = methods()[variant.penalty].attachments(task, recipe, data)
        with flushing():
            trained = bench.train(recipe, attachments)
        run = ship_snapped(bench, task, trained, variant.title)
        steps = recipe.epochs * (len(trained.data.train) // recipe.batch_size)
        return replace(run, notes={**(run.notes or {}), "steps": steps, "flushed": True})

    @override
    def outcome(self, finished: Sequence[Finished]) -> Outcome:
        for run in finished:
            _ = self.setup_of(run.task), chosen_names((run.task.method,), VARIANTS, "method")
        return adam_implicit_outcome(self.title, self.source, self._setups, finished)

    def setup_of(self, task: Task) -> Setup:
        """The setup that a task belongs to.

        Raises:
            RecipeError: There is none.
        """
        return place_of(task, self._setups, "setup")


def recipe_of(task: Task, setup: Setup) -> Recipe:
    """Adam at 1e-3, a tenth of it for the last quarter; variants differ in what they say.

    Raises:
        RecipeError: The budget cannot be had in whole epochs at the variant's batch size.
    """
    variant = VARIANTS[task.method]
    size = variant.batch_size or setup.batch_size
    epochs, rest = divmod(task.epochs * size, setup.batch_size)
    if rest or not epochs:
        message = (
            f"{task.method}: epochs times {size} must be a multiple of {setup.batch_size}, so that "
            f"all batch sizes have the same steps, got {task.epochs} epochs"
        )
        raise RecipeError(message)
    activation = {"activation": variant.activation} if variant.activation else {}
    return recipe_from(
        {
            "name": task.experiment,
            "data": task.dataset,
            "limit": task.limit,
            "model": setup.model,
            "model_args": {**setup.model_args, **activation},
            "optimizer": "adam",
            "learning_rate": 0.001,
            "weight_decay": (task.strength or 0.0) if variant.decays else 0.0,
            "epochs": epochs,
            "batch_size": size,
            "drops": [0.75],
            "report_every": 500,
            "seed": task.seed,
            **setup.recipe,
            **variant.recipe,
        }
    )


def _ordered(setup: Setup, names: Sequence[str], seed: int, choice: Choice) -> tuple[Task, ...]:
    """The tasks of one seed: the paper's method at other strengths comes after its controls."""
    found = [it for method in names for it in _tasks(setup, method, seed, choice)]
    return tuple(
        sorted(found, key=lambda it: it.method == MAIN and it.strength != found[0].strength)
    )


def _tasks(setup: Setup, method: str, seed: int, choice: Choice) -> tuple[Task, ...]:
    """The tasks of one variant, the setup's own strength first."""
    if method in setup.absent:
        return ()
    return tuple(
        Task(
            experiment=AdamImplicitExperiment.name,
            method=method,
            dataset=setup.dataset,
            network=setup.network,
            strength=strength,
            seed=seed,
            epochs=choice.epochs or (QUICK_EPOCHS if choice.quick else setup.epochs),
            limit=QUICK_EXAMPLES if choice.quick else setup.limit,
        )
        for strength in _strengths(setup, method, choice)
    )


def _strengths(setup: Setup, method: str, choice: Choice) -> tuple[float | None, ...]:
    if not VARIANTS[method].has_strength:
        return (None,)
    if choice.strengths:
        return choice.strengths
    if method not in setup.grids:
        return (setup.main,)
    values = setup.grids[method].values
    if method == MAIN:
        values = (setup.main, *(it for it in values if it != setup.main))
    return values[:1] if choice.quick else values
