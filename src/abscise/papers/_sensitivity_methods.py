"""The methods of the sensitivity experiment: what each attaches to the same loop and start."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import nn
from torch.optim import Optimizer

import abscise
from abscise.papers._attaching import attaching
from abscise.papers._distillation import Distillation
from abscise.papers._pressure import Pressure, pressure_on
from abscise.papers._random_weights import RandomWeights
from abscise.penalties import TransformedL1
from abscise.sparsify import (
    DecoupledDecay,
    Lobster,
    Magnitude,
    Mean,
    Outputs,
    Proximal,
    Scope,
    Sensitivity,
    SeReNe,
    Sparsifier,
    Thresholding,
)
from abscise.train import Attach, Attachment, Augment

REFRESH, KEPT = 10, 0.9
"""Steps between two measurements of a sensitivity, and the share of the old ones that is kept."""

PRUNINGS = 50
"""Prunings of a course of magnitudes or lots, in each cycle."""

STEERED = 1e-4
"""Where a steered strength starts."""

Decay = Callable[[Pressure], Sparsifier[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Where a method is put to work.

    Args:
        threshold: Weights of a smaller magnitude become 0 after each epoch.
        growth: See `pressure_on`.
        factor: Times the pressure of the automatic rule.
        sparsity: Shares of the weights that are 0 after the first cycle and after the last one,
            by magnitudes or lots.
        steps: Of the whole run.
        cycles: Of learning rate and pressure.
        seed: Of the run.
    """

    threshold: float
    growth: float
    factor: float
    sparsity: tuple[float, float]
    steps: int
    cycles: int
    seed: int


Make = Callable[[Setting], tuple[Attach, ...]]


@dataclass(frozen=True, slots=True)
class Method:
    """One way from the dense network to a sparse one.

    Args:
        title: For tables and figures.
        about: In words, for a recorded run.
        make: What is attached, in this order.
        augment: Of the training images.
        pressed: Has it a strength? Else shares say what becomes 0.
    """

    title: str
    about: str
    make: Make
    augment: Augment = Augment.NONE
    pressed: bool = True


def methods() -> Mapping[str, Method]:
    """Name -> method, in the order of tables; the paper's first, the controls, then ours."""
    return MappingProxyType(
        {
            "sensitivity": Method(
                "sensitivity",
                "all outputs, mean of |.| over examples, rescaled per layer, threshold",
                _shrinking(lambda it: Sensitivity(it, rescale=True, **_OFTEN)),
            ),
            "sensitivity-raw": Method(
                "sensitivity, raw",
                "all outputs, mean of |.| over examples, not rescaled, threshold",
                _shrinking(lambda it: Sensitivity(it, **_OFTEN)),
            ),
            "sensitivity-batch": Method(
                "sensitivity, |mean|",
                "all outputs, |.| of the mean over the batch, rescaled per layer, threshold",
                _shrinking(lambda it: Sensitivity(it, rescale=True, mean=Mean.BATCH, **_OFTEN)),
            ),
            "sensitivity-specific": Method(
                "sensitivity, specific",
                "the target's output, mean of |.| over examples, rescaled per layer, threshold",
                _shrinking(
                    lambda it: Sensitivity(it, rescale=True, outputs=Outputs.TARGET, **_OFTEN)
                ),
            ),
            "sensitivity-estimate": Method(
                "sensitivity, one pass",
                "one output of each example drawn at random, rescaled per layer, threshold",
                _shrinking(lambda it: Sensitivity(it, rescale=True, estimate=True, **_OFTEN)),
            ),
            "serene": Method(
                "SeReNe",
                "sensitivity of units, rescaled per layer, threshold",
                _shrinking(lambda it: SeReNe(it, rescale=True, **_OFTEN)),
            ),
            "decay": Method(
                "S = 0",
                "decoupled decay of the same strength, the same threshold",
                _shrinking(DecoupledDecay),
            ),
            "lobster": Method("LOBSTER", "spared by |dL/dw|, threshold", _shrinking(Lobster)),
            "magnitude": Method(
                "magnitude", "smallest of all layers, cubic course", _magnitude, pressed=False
            ),
            "random": Method("random weights", "by lot, cubic course", _random, pressed=False),
            "sensitivity-distilled": Method(
                "sensitivity, distilled",
                "as sensitivity; half the loss is the distance to the dense network",
                _distilled(_shrinking(lambda it: Sensitivity(it, rescale=True, **_OFTEN))),
            ),
            "sensitivity-shifted": Method(
                "sensitivity, shifted",
                "as sensitivity, images shifted by up to 2 pixels",
                _shrinking(lambda it: Sensitivity(it, rescale=True, **_OFTEN)),
                Augment.SHIFT,
            ),
            "magnitude-distilled": Method(
                "magnitude, distilled",
                "as magnitude; half the loss is the distance to the dense network",
                _distilled(_magnitude),
                pressed=False,
            ),
            "magnitude-shifted": Method(
                "magnitude, shifted",
                "as magnitude, images shifted by up to 2 pixels",
                _magnitude,
                Augment.SHIFT,
                pressed=False,
            ),
            "ours": Method(
                "ours",
                "sensitivity shrinks what the smallest of all layers are chosen from, on a cubic "
                "course; half the loss is the distance to the dense network; images shifted",
                _distilled(_both),
                Augment.SHIFT,
            ),
            "sensitivity-taught": Method(
                "sensitivity, taught",
                "as sensitivity; begins with a teacher that was trained for longer on augmented "
                "images, and 0.9 of the loss is the distance to its outputs",
                _taught(_shrinking(lambda it: Sensitivity(it, rescale=True, **_OFTEN))),
            ),
            "decay-taught": Method(
                "S = 0, taught",
                "as the control without sensitivity; begins with a teacher and learns from it",
                _taught(_shrinking(DecoupledDecay)),
            ),
            "magnitude-taught": Method(
                "magnitude, taught",
                "as magnitude; begins with a teacher and learns from it",
                _taught(_magnitude),
                pressed=False,
            ),
            "regrown-taught": Method(
                "proximal, regrown, taught",
                "proximal transformed l1 steered to the last share of the magnitudes; what became "
                "0 may grow again until three quarters of the run; begins with a teacher and "
                "learns from it",
                _taught(_regrown),
                pressed=False,
            ),
        }
    )


_OFTEN: Mapping[str, Any] = MappingProxyType({"every": REFRESH, "average": KEPT})


def _shrinking(decay: Decay) -> Make:
    """A decay, under the pressure of the automatic rule, and the threshold."""

    def make(setting: Setting) -> tuple[Attach, ...]:
        def shrink(model: nn.Module, optimizer: Optimizer) -> Attachment:
            steps, cycles = setting.steps, setting.cycles
            pressure = pressure_on(model, setting.threshold, steps, cycles, setting.growth)
            return abscise.attach(decay(pressure.times(setting.factor)), optimizer, model)

        # Which state is kept, and when the run ends, is the frontier's business.
        never = setting.steps + 1
        return shrink, attaching(Thresholding(100.0, setting.threshold, patience=never))

    return make


def _magnitude(setting: Setting) -> tuple[Attach, ...]:
    """A cubic course in the first half of each cycle; in the second half the weights only heal."""
    return tuple(
        attaching(Magnitude(share, steps=half, after=after, every=every, scope=Scope.GLOBAL))
        for share, half, after, every in _courses(setting)
    )


def _random(setting: Setting) -> tuple[Attach, ...]:
    """The same courses; what is drawn in one cycle stays drawn in the next."""
    return tuple(
        attaching(RandomWeights(share, half, every, setting.seed, after))
        for share, half, after, every in _courses(setting)
    )


def _both(setting: Setting) -> tuple[Attach, ...]:
    """The sensitivity shrinks, and the courses of the magnitudes say how many fall."""
    shrink, _ = _shrinking(lambda it: Sensitivity(it, rescale=True, **_OFTEN))(setting)
    return shrink, *_magnitude(setting)


def _courses(setting: Setting) -> tuple[tuple[float, int, int, int], ...]:
    """Of each cycle: share, steps of the course, steps before it, steps between two prunings."""
    first, last = (1 - share for share in setting.sparsity)
    cycles, length = setting.cycles, setting.steps // setting.cycles
    half = max(1, length // 2)
    kept = (
        [last]
        if cycles == 1
        else [first * (last / first) ** (k / (cycles - 1)) for k in range(cycles)]
    )
    return tuple(
        (1 - share, half, cycle * length, max(1, half // PRUNINGS))
        for cycle, share in enumerate(kept)
    )


def _regrown(setting: Setting) -> tuple[Attach, ...]:
    """One budget over the whole run: weights fall and grow again until it is held."""
    by = max(1, 3 * setting.steps // 4)
    penalty = TransformedL1(1.0)
    share = setting.sparsity[1]
    return (attaching(Proximal(penalty, STEERED, target_sparsity=share, target_by=by)),)


def _distilled(make: Make, share: float = 0.5, warmth: float = 2.0) -> Make:
    """The same, with what the run begins with as teacher."""

    def teach(model: nn.Module, _optimizer: Optimizer) -> Attachment:
        return Distillation(model, share, warmth)

    return lambda setting: (teach, *make(setting))


def _taught(make: Make) -> Make:
    """The same, with a teacher so much better that its outputs say more than the labels."""
    return _distilled(make, share=0.9, warmth=3.0)
