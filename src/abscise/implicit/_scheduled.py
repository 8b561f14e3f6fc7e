"""The rules of an optimizer's groups, with the learning rates that a scheduler has still to set."""

import copy
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from abscise.implicit._rates import Rates, rates_from
from abscise.implicit._rule import Family, Rule, read_rule

_ROUNDING = 1e-9  # of a learning rate: torch's schedulers multiply it again and again


@dataclass(frozen=True, slots=True)
class _Ahead:
    """What a scheduler will set: a row for each of its steps, a column for each group.

    Args:
        rates: Learning rates.
        momenta: Momentum; 0 for groups without.
        steps: Steps of the optimizer.
    """

    rates: NDArray[np.float64]
    momenta: NDArray[np.float64]
    steps: int


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
        if every != 1:
            message = f"scheduler_every is {every}, and no scheduler is given"
            raise ValueError(message)
        return tuple(rules)
    if steps is None:
        message = "scheduler needs steps: how many are still to come"
        raise ValueError(message)
    known: dict[tuple[bytes, float], Rates] = {}
    ahead = _ahead(scheduler, optimizer, steps, every)
    return tuple(
        None if rule is None else _with(rule, ahead, group, every, known)
        for group, rule in enumerate(rules)
    )


def _with(
    rule: Rule, ahead: _Ahead, group: int, every: int, known: dict[tuple[bytes, float], Rates]
) -> Rule:
    """The rule at its largest learning rate; groups that go up and down together share `known`."""
    rates = ahead.rates[:, group]
    largest, end = float(rates.max()), float(rates[-1])
    if rule.family is not Family.ADAM and rule.momentum:
        # What momentum carries a push counts as a part of the learning rate.
        momenta = ahead.momenta[:, group]
        rule = replace(rule, momentum=float(momenta.mean()))
        rates = rates * (1 - rule.momentum) / (1 - momenta)
    if (rates == largest).all():
        return replace(rule, lr=largest)
    shares = rates / largest
    key = shares.tobytes(), end / largest
    if key not in known:
        known[key] = rates_from(np.repeat(shares, every)[: ahead.steps], end / largest)
    return replace(rule, lr=largest, rates=known[key])


def _ahead(scheduler: LRScheduler, optimizer: Optimizer, steps: int, every: int) -> _Ahead:
    """A copy of the scheduler, run to the end."""
    name = type(scheduler).__name__
    _check_kind(scheduler, optimizer)
    stand_in = SimpleNamespace(
        param_groups=[dict(_copied(group)) for group in optimizer.param_groups],
        defaults=optimizer.defaults,
        state={},
        step=optimizer.step,
    )
    try:
        copied = copy.deepcopy(scheduler, {id(optimizer): stand_in})
    except Exception as problem:
        message = f"scheduler ({name}) cannot be copied, to be run ahead: {_line(problem)}"
        raise ValueError(message) from problem
    count = math.ceil(steps / every)
    groups = stand_in.param_groups
    rates, momenta = np.empty((count, len(groups))), np.empty((count, len(groups)))
    decays = [group.get("weight_decay") for group in groups]
    for place in range(count):
        if place:
            _step(copied, place, count, every)
        rates[place] = [float(group["lr"]) for group in groups]
        momenta[place] = [float(group.get("momentum", 0.0)) for group in groups]
        if [group.get("weight_decay") for group in groups] != decays:
            message = f"scheduler ({name}) changes weight_decay, for which no law is known"
            raise ValueError(message)
    return _Ahead(_checked(rates, name), momenta, steps)


def _check_kind(scheduler: object, optimizer: Optimizer) -> None:
    name = type(scheduler).__name__
    if isinstance(scheduler, ReduceLROnPlateau):
        message = "ReduceLROnPlateau goes by figures of the run that nobody knows: leave it out"
        raise ValueError(message)  # noqa: TRY004 - as for all that cannot be told
    if not isinstance(scheduler, LRScheduler):
        message = f"scheduler must be of torch.optim.lr_scheduler, got {name}"
        raise ValueError(message)  # noqa: TRY004 - as for all that cannot be told
    if scheduler.optimizer is not optimizer:
        message = f"scheduler ({name}) belongs to another optimizer"
        raise ValueError(message)


def _checked(rates: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """The learning rates; a rounding error below 0 is 0."""
    rounded = (rates < 0) & (rates >= -_ROUNDING * np.nanmax(np.abs(rates)))
    rates = np.where(rounded, 0.0, rates)
    wrong = np.argwhere(~((rates >= 0) & np.isfinite(rates)))
    if len(wrong):
        place, group = wrong[0]
        rate = f"a learning rate of {rates[place, group]:g} at step {place}"
        message = f"scheduler ({name}) sets {rate}, for group {group}"
        raise ValueError(message)
    return rates


def _step(copied: LRScheduler, place: int, count: int, every: int) -> None:
    """One step of the scheduler, which warns that no step of an optimizer came before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            type(copied).step(copied)  # an instance may have a `step` that knows the original
        except Exception as problem:
            message = (
                f"scheduler ({type(copied).__name__}) ends at step {place} of {count} to come, "
                f"one for {every} of the optimizer: {_line(problem)}"
            )
            raise ValueError(message) from problem


def _line(problem: Exception) -> str:
    return " ".join(str(problem).split()) or type(problem).__name__


def _copied(group: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """A parameter group without its parameters; learning rates may be tensors, set in place."""
    for key, value in group.items():
        if key == "params":
            yield key, []
        else:
            yield key, value.clone() if isinstance(value, Tensor) else value
