"""The experiment of the paper on transformed l1: every method, one loop, one budget, one sweep."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from typing_extensions import override

from abscise._errors import RecipeError
from abscise.papers._bench import Bench
from abscise.papers._choice import Choice, chosen_names
from abscise.papers._experiment import Experiment
from abscise.papers._finished import Finished
from abscise.papers._grid import Geometric, Grid, Shares
from abscise.papers._methods import methods
from abscise.papers._outcome import Outcome
from abscise.papers._places import place_of
from abscise.papers._sweep import sweep_outcome
from abscise.papers._task import Task
from abscise.train import Recipe, Run, recipe_from

SEEDS = (0, 1, 2)
DROPS = tuple(part / 6 for part in range(1, 6))
MAIN = "integrated-tl1"
NO_NORM = "it acts on the scales of BatchNorm, and the network has none"
TOO_DEAR = "its search costs several hundred times the composition's work at every step"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """One data set with the network that learns it.

    Args:
        dataset: As a recipe names it.
        network: As a recipe names it.
        epochs: Passes over the training part.
        grids: Method -> strengths, of every method that takes part and has a knob.
        absent: Method -> why it does not take part.
        widths: Of a conv.
        hidden: Of an mlp, or a conv.
        factors: c_l, one for each layer with weights; empty: 1.
    """

    dataset: str
    network: str
    epochs: int
    grids: Mapping[str, Grid]
    absent: Mapping[str, str]
    widths: tuple[int, ...] = ()
    hidden: tuple[int, ...] = ()
    factors: tuple[float, ...] = ()


class TransformedL1Experiment(Experiment):
    """Error against what is left, for every method under the same loop, budget and seeds."""

    __slots__ = ()

    name: ClassVar[str] = "transformed-l1"
    title: ClassVar[str] = "Transformed l1 with group sparsity, and what it is compared with"
    source: ClassVar[str] = (
        "R. Ma, J. Miao, L. Niu, P. Zhang 2019, Transformed l1 Regularization for Learning Sparse "
        "Deep Neural Networks, arXiv 1901.01021"
    )

    @override
    def tasks(self, choice: Choice) -> tuple[Task, ...]:
        """Seed by seed, so that a sweep that is cut short has every method on every set."""
        sets = chosen_names(choice.datasets, dict.fromkeys(it.dataset for it in SETUPS), "data set")
        nets = chosen_names(choice.networks, dict.fromkeys(it.network for it in SETUPS), "network")
        wanted = chosen_names(choice.methods, methods(), "method")
        setups = [it for it in SETUPS if it.dataset in sets and it.network in nets]
        if choice.quick and not (choice.datasets or choice.networks):
            setups = setups[:1]
        tasks = tuple(
            task
            for seed in choice.seeds or (SEEDS[:1] if choice.quick else SEEDS)
            for setup in setups
            for method in wanted
            for task in _sweep(setup, method, seed, choice)
        )
        if not tasks:
            raise RecipeError(_nothing(setups, wanted))
        return tasks[: choice.limit] if choice.limit else tasks

    @override
    def run(self, task: Task, bench: Bench) -> Run:
        setup = _setup_of(task)
        recipe = recipe_of(task, setup)
        data = bench.shelf.data(recipe)
        method = methods()[task.method]
        attachments = method.attachments(task, recipe, data, setup.factors)
        trained = bench.train(recipe, attachments)
        return bench.ship(task, trained, about=method.about)

    @override
    def outcome(self, finished: Sequence[Finished]) -> Outcome:
        titles = {name: method.title for name, method in methods().items()}
        return sweep_outcome(self.title, self.source, titles, MAIN, finished)


def recipe_of(task: Task, setup: Setup) -> Recipe:
    """SGD at .05 with momentum, times .9 after every sixth of the run, batches of 100."""
    return recipe_from(
        {
            "name": task.experiment,
            "data": task.dataset,
            "limit": task.limit,
            "model": task.network,
            "widths": list(setup.widths),
            "hidden": list(setup.hidden),
            "optimizer": "sgd",
            "learning_rate": 0.05,
            "momentum": 0.9,
            "epochs": task.epochs,
            "batch_size": 100,
            "drops": list(DROPS),
            "drop_factor": 0.9,
            "report_every": 500,
            "seed": task.seed,
        }
    )


def _sweep(setup: Setup, method: str, seed: int, choice: Choice) -> tuple[Task, ...]:
    """The tasks of one method, the weakest first."""
    if method in setup.absent:
        return ()
    grid: tuple[float | None, ...] = (None,)
    if methods()[method].knob:
        grid = choice.strengths or setup.grids[method].values
        if choice.quick and not choice.strengths:
            grid = grid[1:2]
    return tuple(
        Task(
            experiment=TransformedL1Experiment.name,
            method=method,
            dataset=setup.dataset,
            network=setup.network,
            strength=strength,
            seed=seed,
            epochs=choice.epochs or (1 if choice.quick else setup.epochs),
            limit=1000 if choice.quick else 0,
        )
        for strength in grid
    )


def _nothing(setups: Sequence[Setup], wanted: Sequence[str]) -> str:
    """Why there is nothing to do."""
    why = [
        f"{method} is not run on {setup.dataset} with {setup.network}: {setup.absent[method]}"
        for setup in setups
        for method in wanted
        if method in setup.absent
    ]
    return "; ".join(why) or "none of the data sets chosen has a network chosen: leave one out"


def _setup_of(task: Task) -> Setup:
    """The setup that a task belongs to.

    Raises:
        RecipeError: There is none.
    """
    return place_of(task, SETUPS, "setup")


def _grids(grids: dict[str, Grid]) -> Mapping[str, Grid]:
    return MappingProxyType(grids)


_WEIGHTS = Shares((0.5, 0.75, 0.9, 0.95, 0.98))
_UNITS = Shares((0.25, 0.5, 0.75, 0.9))
_LENET_GRIDS = _grids(
    {
        "l1": Geometric(5e-4, 2.0, 5),
        "group-lasso": Geometric(2.5e-4, 2.0, 4),
        "sgl": Geometric(2.5e-4, 2.0, 4),
        "cges": Geometric(7.5e-4, 2.0, 5),
        "magnitude": Shares((0.75, 0.9, 0.95, 0.98, 0.99)),
        MAIN: Geometric(2.5e-4, 2.0, 5),
        "random-units": _UNITS,
    }
)
_NO_LENET = MappingProxyType({"slimming": NO_NORM, "integrated-tl1-exact": TOO_DEAR})

SETUPS = (
    Setup(
        dataset="pendigits",
        network="mlp",
        hidden=(100, 50),
        epochs=20,
        grids=_grids(
            {
                "l1": Geometric(1e-3, 2.0, 6),
                "group-lasso": Geometric(1e-3, 2.0, 6),
                "sgl": Geometric(1e-3, 2.0, 6),
                "cges": Geometric(2e-3, 2.0, 6),
                "magnitude": _WEIGHTS,
                MAIN: Geometric(1e-3, 2.0, 6),
                "integrated-tl1-exact": Geometric(4e-3, 2.0, 2),
                "random-units": _UNITS,
            }
        ),
        absent=MappingProxyType({"slimming": NO_NORM}),
    ),
    Setup(dataset="mnist", network="lenet300", epochs=2, grids=_LENET_GRIDS, absent=_NO_LENET),
    Setup(
        dataset="fashion_mnist", network="lenet300", epochs=2, grids=_LENET_GRIDS, absent=_NO_LENET
    ),
    # A small network with BatchNorm; the authors' network with their c_l; a set of colour images.
    # The last two take hours on a CPU, and no pilot has tried their grids yet.
    Setup(
        dataset="digits",
        network="conv",
        widths=(16, 32, 64),
        hidden=(64,),
        epochs=60,
        grids=_grids(
            {
                "l1": Geometric(1e-3, 2.0, 4),
                "group-lasso": Geometric(1e-3, 2.0, 4),
                "sgl": Geometric(1e-3, 2.0, 4),
                "cges": Geometric(2e-3, 2.0, 4),
                "slimming": Geometric(0.04, 1.4, 4),
                "magnitude": Shares((0.75, 0.9, 0.95, 0.98)),
                MAIN: Geometric(2.5e-4, 2.0, 4),
                "random-units": _UNITS,
            }
        ),
        absent=MappingProxyType({"integrated-tl1-exact": TOO_DEAR}),
    ),
    Setup(
        dataset="mnist",
        network="deepmnist",
        epochs=10,
        grids=_LENET_GRIDS,
        absent=_NO_LENET,
        factors=(1.0, 1.0, 1 / 15, 1 / 144),
    ),
    Setup(
        dataset="cifar10",
        network="vgg11",
        epochs=60,
        grids=_grids({**_LENET_GRIDS, "slimming": Geometric(5e-4, 2.0, 4)}),
        absent=MappingProxyType({"integrated-tl1-exact": TOO_DEAR}),
    ),
)
"""Data sets with their networks, the cheap ones first.

A pilot with a seed that is not among `SEEDS` chose the grids of the first two networks, one for
each method: they go from where the error on the validation part is the dense network's to about
twice that. Fashion-MNIST has those of MNIST. Of the grids of digits it chose only slimming's
and the integrated method's.
"""
