"""`abscise doctor`: whether and when units will die, for a recipe or for a model of one's own."""

import inspect
import json
import math
from dataclasses import replace
from typing import Any

import torch
from rich.console import Console
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from abscise.cli._options import DoctorOptions
from abscise.cli._settings import settings
from abscise.cli._source import build_model, read_inputs
from abscise.cli._usage import UsageError, naming_usage
from abscise.implicit import Diagnosis, diagnose, gradient_sizes
from abscise.report import diagnosis_view
from abscise.train import (
    Recipe,
    Schedule,
    Split,
    build_optimizer,
    data_for,
    facts_of,
    load_recipe,
    scheduler_of,
)
from abscise.train import build_model as build_network

_OWN = (
    *("model", "optimizer", "learning_rate", "weight_decay", "option", "batch_size"),
    *("schedule", "warmup"),
)
_RECIPE = ("control", "set")


def run_doctor(options: DoctorOptions, console: Console) -> bool:
    """Diagnose and print; the exit code says nothing about the verdict."""
    with naming_usage():
        found = _of_recipe(options) if options.recipe else _of_model(options)
    if options.format == "json":
        text = json.dumps(found.to_json(), indent=2, allow_nan=False)
        console.print(text, soft_wrap=True)
    else:
        console.print(diagnosis_view(found))
    return True


def _of_recipe(options: DoctorOptions) -> Diagnosis:
    """Network, optimizer, run and gradients as the recipe has them."""
    _refuse(options, _OWN, "belongs to a model of your own, not to a recipe: use --set")
    recipe = load_recipe(options.recipe, settings(options.set), control=options.control)
    with torch.random.fork_rng():
        _ = torch.manual_seed(recipe.seed)
        model = build_network(recipe)
    steps = options.steps
    found: dict[str, float] | float | None = options.gradient_rms
    if options.probe:
        train = data_for(recipe, options.data_root).train
        steps = steps or steps_of(recipe, train)
        if found is None:
            found = probed(recipe, model, train, options.probe)
    optimizer = build_optimizer(recipe, model)
    diagnosis = diagnose(
        model,
        optimizer,
        torch.zeros(2, *facts_of(recipe).shape),
        steps=steps,
        scheduler=scheduler_of(recipe, optimizer, steps) if steps else None,
        batch_size=recipe.batch_size,
        gradient_rms=found,
        threshold=options.threshold,
    )
    constant = recipe.schedule is Schedule.DROPS and not recipe.drops and not recipe.warmup
    if steps or constant:
        return diagnosis
    unread = "the recipe changes the learning rate, which does not count here: give --steps"
    return replace(diagnosis, findings=(unread, *diagnosis.findings))


def steps_of(recipe: Recipe, train: Split) -> int:
    """Optimizer steps of the recipe's run on these examples."""
    return max(1, recipe.epochs * (len(train) // recipe.batch_size))


def probed(recipe: Recipe, model: nn.Module, train: Split, batches: int) -> dict[str, float]:
    """Sizes of the gradients on so many batches of the recipe's, at most an epoch."""
    size, per_epoch = recipe.batch_size, len(train) // recipe.batch_size
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(recipe.seed))
    chosen = order.split(size)[: min(batches, per_epoch)]
    return gradient_sizes(model, ((train.inputs[it], train.labels[it]) for it in chosen))


def _of_model(options: DoctorOptions) -> Diagnosis:
    _refuse(options, _RECIPE, "changes a recipe, and none is given")
    if not options.model and not options.optimizer:
        message = "name a recipe, or --model, --input and --optimizer"
        raise UsageError(message)
    model = build_model(options.model, options, Console(stderr=True, markup=False))
    optimizer = _optimizer(model, options)
    return diagnose(
        model,
        optimizer,
        read_inputs(options),
        steps=options.steps,
        scheduler=_scheduler(optimizer, options),
        batch_size=options.batch_size,
        gradient_rms=options.gradient_rms,
        threshold=options.threshold,
    )


def _scheduler(optimizer: Optimizer, options: DoctorOptions) -> LRScheduler | None:
    """Up from 0 in a straight line, then down to 0, as far as it was asked for."""
    if not options.schedule and not options.warmup:
        return None
    if options.steps is None or options.warmup >= options.steps:
        message = f"--schedule and --warmup need --steps, more than {options.warmup} of warm-up"
        raise UsageError(message)
    warmup, rest = options.warmup, options.steps - options.warmup

    def share(step: int) -> float:
        if step < warmup:
            return step / warmup
        done = (step - warmup) / rest
        falls = {"cosine": (1 + math.cos(math.pi * done)) / 2, "linear": 1 - done}
        return falls[options.schedule] if options.schedule else 1.0

    return LambdaLR(optimizer, share)


def _optimizer(model: nn.Module, options: DoctorOptions) -> Optimizer:
    kinds = {
        name.lower(): kind
        for name, kind in vars(torch.optim).items()
        if isinstance(kind, type) and issubclass(kind, Optimizer) and kind is not Optimizer
    }
    if options.optimizer is None or options.optimizer.lower() not in kinds:
        message = f"--optimizer must be one of {', '.join(sorted(kinds))}, got {options.optimizer}"
        raise UsageError(message)
    kind = kinds[options.optimizer.lower()]
    named: dict[str, Any] = {
        "lr": options.learning_rate,
        "weight_decay": options.weight_decay,
        **{key: _number(value) for key, value in settings(options.option, "--option").items()},
    }
    arguments = {key: value for key, value in named.items() if value is not None}
    unknown = [key for key in arguments if key not in inspect.signature(kind).parameters]
    if unknown:
        message = f"{kind.__name__} has no argument {unknown[0]!r}"
        raise UsageError(message)
    try:
        return kind(model.parameters(), **arguments)
    except (TypeError, ValueError) as problem:
        message = f"{kind.__name__}: {' '.join(str(problem).split())}"
        raise UsageError(message) from problem


def _number(value: object) -> object:
    """What YAML leaves a text although it is a number: 1e-3."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _refuse(options: DoctorOptions, names: tuple[str, ...], why: str) -> None:
    for name in names:
        if getattr(options, name):
            message = f"--{name.replace('_', '-')} {why}"
            raise UsageError(message)
