"""Choice: which parameters of a model a sparsifier acts on, by `where`, `exclude` and groups."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim import Optimizer

from abscise._units import UnitMap
from abscise.sparsify._groups import Groups, chosen_bunches
from abscise.sparsify._slices import Bunch
from abscise.sparsify._units import unit_bunches
from abscise.sparsify._weights import Weights, check_patterns, matches, weights_of


@dataclass(frozen=True, slots=True)
class Choice:
    """The patterns of a sparsifier.

    Args:
        who: The sparsifier, for errors.
        where: Name patterns of parameters or layers to act on.
        exclude: Name patterns of those to leave out, though `where` names them.
    """

    who: str
    where: tuple[str, ...]
    exclude: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_texts(self.who, "where", self.where)
        _check_texts(self.who, "exclude", self.exclude)

    def bunches(
        self,
        optimizer: Optimizer,
        model: nn.Module,
        groups: UnitMap | Groups,
        *,
        pinned: bool = False,
    ) -> list[Bunch]:
        """The groups that the optimizer trains, at least one bunch of them.

        Raises:
            ValueError: A pattern names nothing, the groups do not fit, or nothing is left.
        """
        weights = weights_of(model, optimizer)
        names = self.names(weights)
        if isinstance(groups, UnitMap):
            found = unit_bunches(weights, groups, set(names), pinned=pinned)
        else:
            found = chosen_bunches(weights, groups, names)
        if not found:
            message = (
                f"{self.who}: no parameter to act on: groups, where and exclude leave none that "
                "the optimizer trains"
            )
            raise ValueError(message)
        return found

    def names(self, weights: Weights) -> list[str]:
        """The parameters that the patterns leave, trained or not, each once.

        Raises:
            ValueError: A pattern names nothing.
        """
        check_patterns(weights, [p for p in self.where if p != "*"], "where")
        check_patterns(weights, self.exclude, "exclude")
        return [
            name
            for name in weights.once()
            if matches(name, self.where) and not matches(name, self.exclude)
        ]


def check_groups(who: str, value: object) -> None:
    """Refuse what is no way to group.

    Raises:
        TypeError: It is none.
    """
    if not isinstance(value, UnitMap | Groups | None):
        message = (
            f"{who}: groups must be a UnitMap, Rows(), Columns(), Filters(), Heads(n) or None, "
            f"got {value!r:.60}"
        )
        raise TypeError(message)


def rates_of(optimizer: Optimizer, parameters: Mapping[str, Tensor]) -> dict[str, float]:
    """The learning rate of each parameter now.

    Raises:
        ValueError: One is no longer in the optimizer.
    """
    rates = {
        id(parameter): float(group["lr"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    for name, parameter in parameters.items():
        if id(parameter) not in rates:
            message = f"{name} is no longer in the optimizer: detach, and attach again"
            raise ValueError(message)
    return {name: rates[id(parameter)] for name, parameter in parameters.items()}


def _check_texts(who: str, field: str, value: object) -> None:
    if isinstance(value, str) or not isinstance(value, tuple | list):
        message = f"{who}: {field} must be a tuple of name patterns, got {value!r}"
        raise TypeError(message)
