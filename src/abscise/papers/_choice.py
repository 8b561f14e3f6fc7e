"""Choice: which of an experiment's tasks are wanted; every word of it is checked."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from abscise._errors import RecipeError
from abscise.papers._task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A part of an experiment; an empty field chooses everything of its kind.

    Args:
        quick: A small sweep that shows in a minute or two that everything works; its figures mean
            nothing.
        datasets: Names.
        networks: Names.
        methods: Names.
        seeds: Instead of the experiment's own.
        strengths: Instead of the experiment's own grid, for every method that has one.
        epochs: Instead of the experiment's own; 0: those.
        limit: At most so many tasks, the first ones; 0: all.
    """

    quick: bool = False
    datasets: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    strengths: tuple[float, ...] = ()
    epochs: int = 0
    limit: int = 0

    def __post_init__(self) -> None:
        for name, values in (("seeds", self.seeds), ("strengths", self.strengths)):
            if any(not 0 <= value < float("inf") for value in values):
                message = f"{name} must be >= 0 and finite, got {list(values)}"
                raise RecipeError(message)
            if len(set(values)) < len(values):
                message = f"{name} must be different, got {list(values)}"
                raise RecipeError(message)
        if self.epochs < 0 or self.limit < 0:
            message = f"epochs and limit must be >= 0, got {self.epochs} and {self.limit}"
            raise RecipeError(message)

    def has(self, task: Task) -> bool:
        """Is `task`, of a finished run, among what is chosen? `quick` and `limit` have no say."""
        pairs = (
            (task.dataset, self.datasets),
            (task.network, self.networks),
            (task.method, self.methods),
            (task.seed, self.seeds),
            (task.strength, self.strengths),
            (task.epochs, (self.epochs,) if self.epochs else ()),
        )
        return all(not wanted or value in wanted for value, wanted in pairs)


def chosen_names(wanted: tuple[str, ...], known: Iterable[str], what: str) -> tuple[str, ...]:
    """The names in `wanted`, in the order of `known`; all of these where nothing is wanted.

    Raises:
        RecipeError: A name is not known; the text names the nearest one, and all.
    """
    names = tuple(known)
    for name in wanted:
        if name not in names:
            raise RecipeError(unknown_name(name, names, what))
    return tuple(name for name in names if not wanted or name in wanted)


def unknown_name(name: str, known: Iterable[str], what: str) -> str:
    """The line that says that there is no `what` of this name."""
    names = tuple(known)
    nearest = get_close_matches(name, names, n=1)
    hint = f" (did you mean {nearest[0]}?)" if nearest else ""
    return f"no {what} {name!r}{hint}: one of {', '.join(names)}"
