"""The rules of an optimizer's groups, with the learning rates that a scheduler has still to set."""

import copy
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from abscise.implicit._rates import Rates, rates_from
from abscise.implicit._rule import Rule, read_rule


def rules_of(
    optimizer: Optimizer, scheduler: LRScheduler | None, steps: int | None, every: int
) -> tuple[Rule | None, ...]:
    """The rule of each group; None where no law is known.

    Args:
        optimizer: Whose groups they are.
        scheduler: Of its learning rate; neither of the two is changed.
        steps: Optimizer steps that are still to come.
        every: Optimizer steps between two steps of the scheduler.

    Raises:
        ValueError: What the scheduler will do cannot be told.
    """
    rules = [read_rule(optimizer, group) for group in optimizer.param_groups]
    if scheduler is None:
        return tuple(rules)
    if steps is None:
        message = "scheduler needs steps: how many are still to come"
        raise ValueError(message)
    known: dict[bytes, Rates] = {}
    rates = _learning_rates(scheduler, optimizer, steps, every)
    found = zip(rules, rates.T, strict=True)
    return tuple(None if rule is None else _with(rule, its, every, known) for rule, its in found)


def _with(rule: Rule, rates: NDArray[np.float64], every: int, known: dict[bytes, Rates]) -> Rule:
    """The rule at its largest learning rate; groups that go up and down together share `known`."""
    largest = float(rates.max())
    if (rates == largest).all():
        return replace(rule, lr=largest)
    shares = rates / largest
    key = shares.tobytes()
    if key not in known:
        known[key] = rates_from(np.repeat(shares, every))
    return replace(rule, lr=largest, rates=known[key])


def _learning_rates(
    scheduler: LRScheduler, optimizer: Optimizer, steps: int, every: int
) -> NDArray[np.float64]:
    """One row for each step of the scheduler in the run, one column for each group."""
    if isinstance(scheduler, ReduceLROnPlateau):
        message = "ReduceLROnPlateau goes by figures of the run that nobody knows: leave it out"
        raise ValueError(message)  # noqa: TRY004 - the scheduler, not its type, is out of range
    if scheduler.optimizer is not optimizer:
        message = f"scheduler ({type(scheduler).__name__}) belongs to another optimizer"
        raise ValueError(message)
    stand_in = SimpleNamespace(
        param_groups=[dict(_copied(group)) for group in optimizer.param_groups],
        defaults=optimizer.defaults,
        state={},
        step=optimizer.step,
    )
    ahead = copy.deepcopy(scheduler, {id(optimizer): stand_in})
    rows = list(_rows(ahead, stand_in.param_groups, math.ceil(steps / every), every))
    return np.array(rows, dtype=np.float64)


def _rows(
    ahead: LRScheduler, groups: Sequence[Mapping[str, Any]], count: int, every: int
) -> Iterator[list[float]]:
    """The learning rates now, and after each of the scheduler's steps but the last."""
    name = type(ahead).__name__
    for place in range(count):
        if place:
            _step(ahead, place, count, every)
        rates = [float(group["lr"]) for group in groups]
        if not all(0 <= rate < math.inf for rate in rates):
            message = f"scheduler ({name}) sets a learning rate of {min(rates):g} at step {place}"
            raise ValueError(message)
        yield rates


def _step(ahead: LRScheduler, place: int, count: int, every: int) -> None:
    """One step of the scheduler, which warns that no step of an optimizer came before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ahead.step()
        except ValueError as problem:
            message = (
                f"scheduler ({type(ahead).__name__}) ends at step {place} of {count} to come, each "
                f"of {every} steps of the optimizer: {problem}"
            )
            raise ValueError(message) from problem


def _copied(group: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """A parameter group without its parameters; learning rates may be tensors, set in place."""
    for key, value in group.items():
        if key == "params":
            yield key, []
        else:
            yield key, value.clone() if isinstance(value, Tensor) else value
