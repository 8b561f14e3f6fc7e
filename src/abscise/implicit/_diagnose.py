"""diagnose: read a network and its optimizer, and say whether and when units will die."""

import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from abscise._errors import ModelError
from abscise._inputs import ExampleInputs
from abscise.implicit._advice import findings_of, less_of, more_of
from abscise.implicit._diagnosis import Diagnosis, Part
from abscise.implicit._network import Kind, look_at, parameter_kinds, unit_weights
from abscise.implicit._part import describe_part
from abscise.implicit._rule import Rule
from abscise.implicit._scheduled import rules_of
from abscise.implicit._times import Question
from abscise.implicit._verdict import verdict_of

DEAD = 1e-3
"""Below it a weight counts as dead (Mehta et al. 2019, arXiv 1811.12495: |gamma| < 1e-3)."""


def diagnose(  # noqa: PLR0913 - what a user can know, all of it optional but the first two
    model: nn.Module,
    optimizer: Optimizer,
    example_inputs: ExampleInputs | None = None,
    *,
    activations: Iterable[str] = (),
    steps: int | None = None,
    batch_size: int | None = None,
    gradient_rms: float | Mapping[str, float] | None = None,
    threshold: float = DEAD,
    scheduler: LRScheduler | None = None,
    scheduler_every: int = 1,
) -> Diagnosis:
    """Say whether and when units of `model` will die under `optimizer`, with the numbers.

    Nothing is trained, and model and optimizer stay as they are. The times are those of a weight
    whose data gradient is gone, as behind a ReLU that never fires; that a unit gets there is up to
    the data. How long the optimizer remembers the gradients of before decides most: their size is
    read from its state after some steps of training, or given; otherwise it is unknown and said so.

    Args:
        model: The network, at any time of its training.
        optimizer: Of torch; with others, and with subclasses, what is not known is said.
        example_inputs: Run once, in eval mode, to see which activation functions are called, and
            what writes into them. Without them only modules are looked at.
        activations: Names of activations that neither shows, such as "relu".
        steps: Optimizer steps that the run still has: all of them, before the first.
        batch_size: Examples per step.
        gradient_rms: Size of the gradients of a single weight while its unit lives: one number, or
            one for each parameter name, as `gradient_sizes` gives; those that are left out are
            unknown. They count as having lasted for half the run.
        threshold: Below it a weight counts as dead.
        scheduler: Of the optimizer's learning rate, at the same step as the optimizer. A copy of it
            is run ahead, about 10 us for each step and group. Needs `steps`.
        scheduler_every: Optimizer steps between two of its steps: 1, or those of an epoch.

    Raises:
        ValueError: A number is out of range, `gradient_rms` names what the model does not have, or
            what the scheduler will do cannot be told.
        ModelError: The model has no parameters, or NaN or infinite ones.
        InputError: The example inputs do not run, or an activation is not known.
    """
    _check(steps, batch_size, threshold, gradient_rms, scheduler_every)
    _check_weights(model)
    network = look_at(model, example_inputs, activations)
    named = dict(model.named_parameters())
    sizes, source = _sizes(gradient_rms, named)
    layers = unit_weights(model, network)
    question = Question(steps, threshold, sizes, source, layers)
    names = {id(parameter): name for name, parameter in named.items()}
    kinds = parameter_kinds(model)
    rules = rules_of(optimizer, scheduler, steps, scheduler_every)
    parts = [
        part
        for index, rule in enumerate(rules)
        for part in _parts(index, rule, optimizer, (names, kinds), question)
    ]
    held = {id(it) for group in optimizer.param_groups for it in group["params"]}
    facts: dict[str, list[Any]] = {
        "missing": [name for name, it in named.items() if id(it) not in held],
        "foreign": [it for it in held if it not in names],
        "gone": [name for name, it in named.items() if name in layers and _below(it, threshold)],
        "fixed": [name for name, it in named.items() if not it.requires_grad],
        "driven": [it for it in optimizer.param_groups if scheduler is None and "initial_lr" in it],
    }
    name = type(optimizer).__name__
    driven = bool(facts["driven"])
    outcome, verdict = verdict_of(name, network, parts, rules, threshold, driven=driven)
    return Diagnosis(
        optimizer=name,
        network=network,
        parts=tuple(parts),
        steps=steps,
        scheduled=scheduler is not None,
        batch_size=batch_size,
        threshold=threshold,
        outcome=outcome,
        verdict=verdict,
        findings=findings_of(network, parts, rules, facts, steps),
        more=more_of(network, parts, rules, steps, batch_size, threshold),
        less=less_of(parts, rules) if outcome.deadly else (),
    )


def _below(tensor: Tensor, threshold: float) -> bool:
    return bool((tensor.detach().abs() < threshold).all())


def _parts(
    index: int,
    rule: Rule | None,
    optimizer: Optimizer,
    known: tuple[Mapping[int, str], Mapping[str, Kind]],
    question: Question,
) -> list[Part]:
    """The parameters of one group, by kind."""
    names, kinds = known
    found: dict[Kind, dict[str, Tensor]] = {}
    for parameter in optimizer.param_groups[index]["params"]:
        name = names.get(id(parameter))
        if name is not None and parameter.requires_grad and parameter.numel():
            found.setdefault(kinds[name], {})[name] = parameter
    return [
        describe_part(
            (index, kind),
            found[kind],
            rule,
            {name: optimizer.state.get(it, {}) for name, it in found[kind].items()},
            question,
        )
        for kind in Kind
        if kind in found
    ]


def _sizes(
    given: float | Mapping[str, float] | None, named: Mapping[str, Tensor]
) -> tuple[dict[str, float], str]:
    if given is None:
        return {}, ""
    if isinstance(given, Mapping):
        for name in given:
            if name not in named:
                near = get_close_matches(name, named, n=1)
                hint = f": did you mean {near[0]!r}?" if near else ""
                message = f"gradient_rms names {name!r}, which is no parameter of the model{hint}"
                raise ValueError(message)
        return dict(given), "measured"
    return dict.fromkeys(named, float(given)), "given"


def _check(
    steps: int | None,
    batch_size: int | None,
    threshold: float,
    gradient_rms: float | Mapping[str, float] | None,
    every: int,
) -> None:
    counts = (("steps", steps), ("batch_size", batch_size), ("scheduler_every", every))
    for name, count in counts:
        if count is not None and count < 1:
            message = f"{name} must be at least 1, got {count}"
            raise ValueError(message)
    if not 0 < threshold < math.inf:
        message = f"threshold must be > 0 and finite, got {threshold}"
        raise ValueError(message)
    sizes = gradient_rms.values() if isinstance(gradient_rms, Mapping) else (gradient_rms,)
    for size in sizes:
        if size is not None and not 0 <= size < math.inf:
            message = f"gradient_rms must be >= 0 and finite, got {size}"
            raise ValueError(message)


def _check_weights(model: nn.Module) -> None:
    parameters = dict(model.named_parameters())
    if not parameters:
        message = f"{type(model).__name__} has no parameters: nothing can die"
        raise ModelError(message)
    for name, parameter in parameters.items():
        if parameter.is_meta or isinstance(parameter, nn.UninitializedParameter):
            message = f"parameter {name} has no values yet: give it some, or run the model once"
            raise ModelError(message)
        if not bool(torch.isfinite(parameter).all()):
            message = f"parameter {name} has NaN or infinite values: train from a sound state"
            raise ModelError(message)
