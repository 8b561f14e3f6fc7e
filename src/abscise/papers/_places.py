"""Places: a data set with the network that learns it; which take part, and which a task is of."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from abscise._errors import RecipeError
from abscise.papers._choice import Choice, chosen_names
from abscise.papers._task import Task


class Place(Protocol):
    """A data set with a network, as an experiment has them."""

    @property
    def dataset(self) -> str:
        """As a recipe names it."""
        ...

    @property
    def network(self) -> str:
        """As the tasks name it."""
        ...


class Offered(Place, Protocol):
    """A place of which some take part only when they are asked for."""

    @property
    def asked(self) -> bool:
        """Whether it takes part only when its data set or its network is named."""
        ...


P = TypeVar("P", bound=Place)
Q = TypeVar("Q", bound=Offered)


def place_of(task: Task, places: Sequence[P], what: str) -> P:
    """The one that a task belongs to.

    Raises:
        RecipeError: There is none; the text calls it `what`.
    """
    for place in places:
        if (place.dataset, place.network) == (task.dataset, task.network):
            return place
    message = f"{task.experiment}: no {what} for {task.dataset} with {task.network}"
    raise RecipeError(message)


def chosen_places(choice: Choice, places: Sequence[Q]) -> list[Q]:
    """Those that are chosen; of a quick choice that names none, the first.

    Raises:
        RecipeError: A data set or a network is not known.
    """
    sets = chosen_names(choice.datasets, dict.fromkeys(it.dataset for it in places), "data set")
    nets = chosen_names(choice.networks, dict.fromkeys(it.network for it in places), "network")
    named = {*choice.datasets, *choice.networks}
    found = [
        it
        for it in places
        if it.dataset in sets
        and it.network in nets
        and (not it.asked or named & {it.dataset, it.network})
    ]
    return found[:1] if choice.quick and not named else found
