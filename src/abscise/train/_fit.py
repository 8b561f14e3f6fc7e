"""The reference loop: read it from top to bottom, things happen in this order.

Nothing in it knows about sparsity. It is Adam, with the L2 term in the gradient, that makes units
die; compaction then only takes away what is dead.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from abscise.train._augment import augmented
from abscise.train._build import build_model
from abscise.train._course import Course, epoch_of
from abscise.train._data import Data
from abscise.train._evaluate import accuracy, loss_and_error
from abscise.train._fabric import log, make_fabric
from abscise.train._fitting import check_attachments, check_fit
from abscise.train._interrupt import Interrupted, interruptible
from abscise.train._keeper import Checkpoints, Keeper, keeping
from abscise.train._non_finite import check_weights, non_finite_error
from abscise.train._optimizers import build_optimizer
from abscise.train._parts import (
    Attach,
    Attachment,
    Parts,
    any_stopped,
    attach_all,
    between_epochs,
    watchers,
)
from abscise.train._progress import Observer, Progress, dying_units
from abscise.train._randomness import seeded
from abscise.train._recipe import Recipe
from abscise.train._recipe_data import data_for, limited
from abscise.train._schedule import rate_at
from abscise.train._trial import check_parameters, try_batch

if TYPE_CHECKING:
    from lightning_fabric.loggers.logger import Logger

LOOK_EVERY = 50  # steps between two looks at the loss, where looking makes the device wait


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A trained network and how it came about.

    Args:
        recipe: What was done.
        model: In eval mode, on the recipe's device.
        test_accuracy: Of `model`, in [0, 1]; the only figure for which the test set was read.
        history: What the observer saw, in order.
        data: What it was trained and tested on, on the CPU.
        wall_s: Seconds for the steps, their reports and checkpoints, without reading the data; of
            a resumed run, with those before.
        resumed_at: Steps that an earlier process had done.
    """

    recipe: Recipe
    model: nn.Module
    test_accuracy: float
    history: tuple[Progress, ...]
    data: Data
    wall_s: float
    resumed_at: int = 0


def fit(  # noqa: C901, PLR0912, PLR0915 - one function, so that the order of things can be read
    recipe: Recipe,
    *,
    data: Data | None = None,
    observer: Observer | None = None,
    checkpoints: Checkpoints | None = None,
    attachments: Sequence[Attachment | Attach] = (),
    loggers: Sequence["Logger"] = (),
) -> Trained:
    """Train the recipe's network. The caller's random state is left as it was.

    With `checkpoints` the run can be interrupted at any moment and resumed; on a CPU, with the same
    number of threads, a resumed run equals an uninterrupted one bit for bit.

    Args:
        recipe: What to do.
        data: From `load_data`; None loads the recipe's set.
        observer: Is called with a `Progress` every `report_every` steps and after the last.
        checkpoints: Where to keep the run; Ctrl-C or SIGTERM then ends it after its batch.
        attachments: What works beside the loop, or functions that make it from the network and its
            optimizer.
        loggers: Of lightning-fabric; get the figures of every report.

    Raises:
        DataError: The data is missing, does not fit the model, or is smaller than one batch.
        ModelError: The network cannot be trained on this data, or the loss became NaN or infinite;
            the text names the first layer concerned.
        StoreError: The checkpoint cannot be written, or does not belong to this run.
        Interrupted: The run was asked to stop, and saved a checkpoint.
    """
    data = limited(data_for(recipe) if data is None else data, recipe.limit)
    check_fit(recipe, data)
    fabric = make_fabric(recipe, loggers)
    device = fabric.device
    with seeded(recipe.seed), ExitStack() as stack:
        model = build_model(recipe)
        check_parameters(recipe, model)
        model = model.to(device).train()
        try_batch(recipe, model, data.train, data.classes, fabric.autocast)
        optimizer = build_optimizer(recipe, model)
        attached = attach_all(attachments, model, optimizer, stack)
        check_attachments(recipe, attached)
        observe, after_epochs = watchers(attached), between_epochs(attached)
        forward, stepper = fabric.setup(_compiled(model, recipe), optimizer)
        generator = torch.Generator(device).manual_seed(recipe.seed)
        # Small data lives on the device as one tensor: no workers, no copies.
        train, validation = data.train.to(device), data.validation.to(device)
        validate = partial(loss_and_error, model, validation)
        size = recipe.batch_size
        per_epoch = len(train) // size  # the rest that fills no batch waits for the next epoch
        steps = recipe.epochs * per_epoch
        course = Course.start(device)
        parts = Parts(model, optimizer, fabric.strategy.precision, generator, attached)
        keeper = None
        if checkpoints is not None:
            keeper = stack.enter_context(Keeper(checkpoints, recipe, data, steps))
            course = keeper.begin(parts, course)
        resumed_at = course.step
        asking = stack.enter_context(ExitStack())
        interrupt = asking.enter_context(interruptible(active=keeper is not None))
        started = time.perf_counter() - course.elapsed_s
        while course.step < steps and not any_stopped(after_epochs):
            place = course.step % per_epoch
            if place == 0:  # a new epoch: a new order, drawn on the CPU, the same for any device
                course.order = torch.randperm(len(train)).to(device)
                course.loss_sum.zero_()
            chosen = course.order[place * size : (place + 1) * size]
            inputs = augmented(train.inputs[chosen], recipe.augment, generator)
            labels = train.labels[chosen]
            course.step += 1
            # Large steps first; small ones at the end let go what only noise keeps from zero.
            rate = rate_at(recipe, course.step, steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            stepper.zero_grad()
            loss = torch.zeros((), device=device)
            parted = zip(*(it.chunk(recipe.accumulate) for it in (inputs, labels)), strict=True)
            for some, of_them in parted:
                logits = forward(some)
                for look in observe:
                    _ = look(logits, of_them)
                share = cross_entropy(logits, of_them) / recipe.accumulate
                fabric.backward(share)
                loss += share.detach()
            course.loss_sum += loss
            last = course.step == steps
            report = last or course.step % recipe.report_every == 0
            epoch_ends = keeper is not None and course.step % per_epoch == 0
            stop = interrupt.asked
            save = keeper is not None and (last or stop or keeper.due(course.step))
            look_now = device.type == "cpu" or course.step % LOOK_EVERY == 0
            # Before the update: afterwards every weight is NaN and nobody knows where it began. On
            # a GPU not at every step, but never past a report or a checkpoint.
            if (look_now or report or save or epoch_ends) and not course.loss_sum.isfinite():
                raise non_finite_error(model, inputs, course.step)
            if recipe.clip:
                fabric.clip_gradients(forward, stepper, max_norm=recipe.clip)
            stepper.step()
            if after_epochs and course.step % per_epoch == 0:
                check_weights(model, course.step)
                for part in after_epochs:  # weights may fall: reports and checkpoints come after it
                    _ = part.after_epoch(validate)
                ended = any_stopped(after_epochs)
                last, report, save = last or ended, report or ended, save or ended
            if save or last:  # a gradient can be NaN where the loss is not
                check_weights(model, course.step)
            wall_s = time.perf_counter() - started
            if report or epoch_ends:
                epoch = -(-course.step // per_epoch)
                chosen_by, layers = accuracy(model, validation), dying_units(model)
                seen = (course.step, steps, loss.item(), chosen_by, rate, layers, epoch)
                progress = Progress(*seen, recipe.epochs)
                if keeper is not None and epoch_ends:
                    mean = course.loss_sum.item() / per_epoch
                    course.epochs.append(epoch_of(progress, mean, wall_s))
                    keeper.write_epoch(course.epochs[-1])
                if report:
                    course.history.append(progress)
                    with keeping(keeper, parts, course, wall_s):
                        log(fabric, progress)
                        if observer is not None:
                            observer(progress)
            if keeper is not None and save:
                keeper.save(parts, course, wall_s)
            if keeper is not None and stop:
                raise Interrupted(keeper.folder, course.step, steps)
        asking.close()  # from here on Ctrl-C stops at once; what came before has to be answered
        if keeper is not None and interrupt.asked:
            raise Interrupted(keeper.folder, course.step, steps)
        for part in after_epochs:
            _ = part.finish()
        wall_s = time.perf_counter() - started
        # Nothing above has touched the test set; nothing below changes the model.
        test_accuracy = accuracy(model, data.test.to(device))
    history = tuple(course.history)
    return Trained(recipe, model.eval(), test_accuracy, history, data, wall_s, resumed_at)


def _compiled(model: nn.Module, recipe: Recipe) -> nn.Module:
    """The forward of `model` as compiled code where the recipe says so; the weights are shared."""
    if not recipe.compile:
        return model
    captured = torch.device(recipe.device).type == "cuda"
    # What torch calls a function here is a module that shares the weights.
    mode = "reduce-overhead" if captured else "default"
    return cast("nn.Module", torch.compile(model, mode=mode))
