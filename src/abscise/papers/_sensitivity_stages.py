"""The stages of the sensitivity experiment: data sets, networks, their figures and settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from abscise.train import Augment

CONTROLS = (
    "sensitivity",
    "decay",
    "magnitude",
    "sensitivity-raw",
    "lobster",
    "sensitivity-batch",
    "random",
)
"""The paper's method and what it is compared with."""

VARIANTS = ("sensitivity-specific", "sensitivity-estimate", "serene")

IDEAS = (
    "ours",
    "sensitivity-distilled",
    "sensitivity-shifted",
    "magnitude-distilled",
    "magnitude-shifted",
    "sensitivity-taught",
    "decay-taught",
    "magnitude-taught",
    "regrown-taught",
)


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of another work, as we recall it.

    Args:
        error: Test error in percent.
        compression: Parameters / non-zero parameters.
        of: Whose.
        target: Whether a state is shipped that has at most this error on the validation part.
    """

    error: float
    compression: float
    of: str
    target: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One data set with the network that learns it.

    Args:
        dataset: As a recipe names it.
        network: As a recipe names it.
        figures: What others report, by rising error.
        rungs: Errors on the validation part in percent, rising: for each the sparsest state is
            kept. Those of the targets are among them.
        methods: Which take part with every seed; others only when they are asked for.
        seeds: Which runs are made.
        once: Methods that take part with the first seed only.
        dense_epochs: Passes over the training part for the dense network.
        taught_epochs: The same for the teacher.
        taught_augment: Of the images that the teacher is trained on.
        epochs: From there on.
        cycles: Of learning rate and pressure: a longer run has longer ones.
        learning_rate: With which the dense network and each cycle begin.
        momentum: Of SGD.
        weight_decay: Of the dense network's SGD; there is none afterwards.
        threshold: Weights of a smaller magnitude become 0 after each epoch.
        growth: Of the pressure, from the first cycle to the last.
        sparsity: Shares of the weights that are 0 after the first cycle and after the last one,
            by magnitudes or lots.
        batch_size: Examples of a step.
        extra: More fields of the recipe, such as shape and classes of a set of the user's.
        asked: Whether it takes part only when its data set or its network is named.
    """

    dataset: str
    network: str
    figures: tuple[Figure, ...]
    rungs: tuple[float, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    once: tuple[str, ...] = ()
    dense_epochs: int = 8
    taught_epochs: int = 40
    taught_augment: Augment = Augment.SHIFT
    epochs: int = 10
    cycles: int = 2
    learning_rate: float = 0.03
    momentum: float = 0.9
    weight_decay: float = 5e-4
    threshold: float = 2e-2
    growth: float = 4.0
    sparsity: tuple[float, float] = (0.966, 0.992)
    batch_size: int = 100
    extra: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    asked: bool = False

    def __post_init__(self) -> None:
        for target in self.targets:
            if target.error not in self.rungs:
                message = f"{self.dataset}: the target {target.error} must be one of the rungs"
                raise ValueError(message)

    @property
    def targets(self) -> tuple[Figure, ...]:
        """The figures to reach."""
        return tuple(figure for figure in self.figures if figure.target)

    @property
    def title(self) -> str:
        """Data set and network."""
        return f"{self.dataset}, {self.network}"


STAGES = (
    Stage(
        dataset="mnist",
        network="lenet300",
        figures=(
            Figure(1.60, 12.2, "Han et al. 2015"),
            Figure(1.65, 27.9, "sensitivity, unspecific", target=True),
            Figure(1.92, 68.0, "sparse variational dropout"),
            Figure(1.95, 103.0, "sensitivity, unspecific", target=True),
            Figure(1.96, 80.0, "sensitivity, specific"),
            Figure(1.99, 56.0, "dynamic network surgery"),
        ),
        rungs=(1.5, 1.6, 1.65, 1.7, 1.8, 1.9, 1.95, 2.0, 2.1, 2.2, 2.4, 2.6, 3.0, 4.0, 6.0),
        methods=("dense", *CONTROLS),
        once=("ours", "teacher", *VARIANTS, *IDEAS[1:]),
    ),
    Stage(
        dataset="mnist",
        network="lenet5",
        figures=(
            Figure(0.75, 280.0, "sparse variational dropout"),
            Figure(0.77, 11.9, "Han et al. 2015"),
            Figure(0.78, 51.0, "sensitivity, specific", target=True),
            Figure(0.80, 42.0, "sensitivity, unspecific"),
            Figure(0.91, 111.0, "dynamic network surgery", target=True),
            Figure(0.97, 200.0, "soft weight sharing"),
        ),
        rungs=(
            0.6,
            0.65,
            0.7,
            0.75,
            0.78,
            0.8,
            0.85,
            0.91,
            0.95,
            1.0,
            1.1,
            1.2,
            1.4,
            1.7,
            2.0,
            3.0,
        ),
        methods=("dense", "sensitivity", "decay"),
        seeds=(0,),
        once=("magnitude-shifted", "teacher", "sensitivity-taught", "magnitude-taught"),
        dense_epochs=4,
        taught_epochs=24,
        epochs=12,
        sparsity=(0.982, 0.9935),
    ),
    Stage(
        dataset="fashion_mnist",
        network="lenet5",
        figures=(
            Figure(8.5, 12.0, "sensitivity, specific"),
            Figure(8.5, 21.0, "sensitivity, unspecific", target=True),
        ),
        rungs=(7.5, 8.0, 8.25, 8.5, 8.75, 9.0, 9.5, 10.0, 11.0, 12.0, 14.0),
        methods=("dense", "sensitivity", "decay"),
        seeds=(0,),
        once=("teacher", "magnitude-taught"),
        dense_epochs=6,
        epochs=12,
        taught_epochs=24,
        taught_augment=Augment.CROP_FLIP,
        sparsity=(0.9, 0.96),
    ),
    # Nobody has run it here. The loop holds a data set as one tensor, so that the whole of this one
    # needs a machine of its own.
    Stage(
        dataset="ILSVRC/imagenet-1k",
        network="abscise.papers._original_vgg:OriginalVGG16",
        figures=(
            Figure(29.3, 12.0, "sensitivity, specific", target=True),
            Figure(30.9, 14.0, "sensitivity, unspecific", target=True),
        ),
        rungs=(28.0, 29.3, 30.0, 30.9, 32.0, 35.0, 40.0, 50.0),
        methods=("dense", "sensitivity-estimate", "decay", "magnitude"),
        seeds=(0,),
        dense_epochs=60,
        epochs=20,
        learning_rate=0.01,
        threshold=1e-3,
        sparsity=(0.85, 0.93),
        extra=MappingProxyType(
            {"shape": [3, 224, 224], "classes": 1000, "inputs": ["image"], "label": "label"}
        ),
        asked=True,
    ),
)
"""In the order in which they are run."""
