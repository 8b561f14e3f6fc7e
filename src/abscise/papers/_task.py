"""Task: one run of an experiment as frozen data, with a key that stays the same for ever."""

import hashlib
from dataclasses import asdict, dataclass, fields

from abscise._errors import StoreError
from abscise._json import read_fields

MAX_SEED = 2**53
MAX_STRENGTH = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One run: what is trained on what, how strongly, with which seed, for how long.

    Args:
        experiment: The name of the experiment.
        method: What makes the network sparse, as the experiment names it.
        dataset: Which data.
        network: Which network, as a recipe names it.
        strength: The knob that is swept: what it means is the method's. None: there is none.
        seed: Of the weights, the order of the examples and whatever else is drawn.
        epochs: Passes over the training part.
        limit: Training examples at most; 0: all.
    """

    experiment: str
    method: str
    dataset: str
    network: str
    strength: float | None
    seed: int
    epochs: int
    limit: int = 0

    def __post_init__(self) -> None:
        if self.strength is not None and not 0 <= self.strength <= MAX_STRENGTH:
            message = f"a task's strength must be from 0 to {MAX_STRENGTH:g}, got {self.strength}"
            raise ValueError(message)
        for name, low in (("seed", 0), ("epochs", 1), ("limit", 0)):
            if getattr(self, name) < low:
                message = f"a task's {name} must be >= {low}, got {getattr(self, name)}"
                raise ValueError(message)

    @property
    def key(self) -> str:
        """What tells this run from all others, in words that can be read and compared.

        >>> Task(experiment="e", method="l1", dataset="mnist", network="lenet300",
        ...      strength=0.001, seed=0, epochs=3).key
        'e/l1/mnist/lenet300/strength=0.001/seed=0/epochs=3'
        """
        # + 0.0: -0.0 is the same run as 0.0
        strength = "none" if self.strength is None else repr(float(self.strength) + 0.0)
        parts = [
            self.experiment,
            self.method,
            self.dataset,
            self.network,
            f"strength={strength}",
            f"seed={self.seed}",
            f"epochs={self.epochs}",
        ]
        return "/".join([*parts, f"limit={self.limit}"] if self.limit else parts)

    @property
    def digest(self) -> str:
        """The key as the name of a folder."""
        return hashlib.sha256(self.key.encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """For people: method, data, strength and seed."""
        strength = "" if self.strength is None else f" at {self.strength:g}"
        return f"{self.method}{strength} on {self.dataset}, seed {self.seed}"

    def to_json(self) -> dict[str, object]:
        """Plain values; `task_from_json` reads them again."""
        return asdict(self)


def task_from_json(value: object, where: str) -> Task:
    """The task that `value` describes.

    Raises:
        StoreError: A field is missing, unknown, of the wrong type or out of range.
    """
    names = tuple(field.name for field in fields(Task))
    found = read_fields(value, names, f"{where}: task", StoreError)
    return Task(
        experiment=found.name("experiment"),
        method=found.name("method"),
        dataset=found.name("dataset"),
        network=found.name("network"),
        strength=found.optional("strength", lambda name: found.number(name, 0.0, MAX_STRENGTH)),
        seed=found.integer("seed", 0, MAX_SEED),
        epochs=found.integer("epochs", 1),
        limit=found.integer("limit"),
    )
