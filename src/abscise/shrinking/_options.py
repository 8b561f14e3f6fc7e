"""ShrinkWhileTraining: the options, and for which models and optimizers they can be had."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer
from typing_extensions import override

from abscise._inputs import ExampleInputs
from abscise.compaction import Average, averaged_module, averaged_names, selected_weights
from abscise.shrinking._in_place import check_states
from abscise.shrinking._optimizers import check_known
from abscise.shrinking._record import Shrink
from abscise.shrinking._worker import ShrinkWorker
from abscise.sparsify import Sparsifier


@dataclass(frozen=True, slots=True, eq=False)
class ShrinkWhileTraining(Sparsifier[ShrinkWorker]):
    """Every few steps, take away the units that are dead for training, in place.

    The model, its Parameters and the optimizer stay the same objects, so schedulers, scalers and
    other attachments go on; each state of the optimizer is cut as its parameter is. Looks happen
    after a step of the optimizer, so accumulated gradients have been used.

    A unit is dead for training where its output is 0 and neither that nor its zeros can change:
    every gradient to it is 0 for every input, and so is its momentum. No optimizer gets there by
    itself (after Adam with L2, weights stall at 1e-37); `snap` sets what is small to 0, which is
    measured and reported.

    Args:
        example_inputs: A tensor, a tuple, a dict of keyword arguments, or `abscise.Inputs`, on the
            model's device. Kept.
        every: Steps between two looks.
        patience: Looks in a row at which a unit must be at 0, or below `snap`.
        snap: Units of which no writing weight is larger are set to 0, momentum included, if that
            makes them dead for training. 0.0: only units that are exactly 0 and at rest.
        at_least: Units that must have died before any are removed: each removal captures the model
            again, which takes as long as some training steps.
        keep: Name patterns of what must not be touched.
        ema: A running average of the weights that follows: a module, such as `AveragedModel`, or a
            dictionary of tensors by name.
        observer: Is called with every `Shrink`; `print` will do.

    Raises:
        ValueError: A number is out of range.
    """

    example_inputs: ExampleInputs
    every: int = 500
    patience: int = 2
    snap: float = 0.0
    at_least: int = 1
    keep: tuple[str, ...] = ()
    ema: Average | None = None
    observer: Callable[[Shrink], object] | None = None

    def __post_init__(self) -> None:
        for name in ("every", "patience", "at_least"):
            if getattr(self, name) < 1:
                message = f"ShrinkWhileTraining: {name} must be >= 1, got {getattr(self, name)}"
                raise ValueError(message)
        if not (math.isfinite(self.snap) and self.snap >= 0):
            message = f"ShrinkWhileTraining: snap must be a finite number >= 0, got {self.snap}"
            raise ValueError(message)

    @override
    def bind(self, optimizer: Optimizer, model: nn.Module) -> ShrinkWorker:
        """The worker; captures the model once.

        Raises:
            ValueError: Another optimizer, a wrapped model, or one that cannot be followed.
            InputError, CaptureError, ModelError: The model cannot be captured, or a parameter or
                state cannot be cut.
        """
        check_known(optimizer)
        _check_model(model)
        check_states(model, optimizer)
        if isinstance(self.ema, nn.Module):
            _ = averaged_module(self.ema, model)
        elif self.ema is not None:
            _ = averaged_names(self.ema, model)
        return ShrinkWorker(self, optimizer, model)


def _check_model(model: nn.Module) -> None:
    """Refuse what removal in place would break.

    Raises:
        ValueError: The text says what to do instead.
    """
    reason = _reason(model)
    if reason is not None:
        message = f"ShrinkWhileTraining: {reason}"
        raise ValueError(message)


def _reason(model: nn.Module) -> str | None:
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if distributed and torch.distributed.get_world_size() > 1:
        return (
            "several processes train this model, and all would have to remove the same units at "
            "the same step, which their buckets of gradients do not allow; use compact(..., "
            "optimizer=) between two runs"
        )
    if selected_weights(model):
        names = ", ".join(selected_weights(model))
        return f"{names} reads a selection of its inputs already; shrink the model before compact"
    reasons = (_reason_of(name or "the model", it) for name, it in model.named_modules())
    return next((reason for reason in reasons if reason is not None), None)


def _reason_of(name: str, module: nn.Module) -> str | None:
    kind = type(module).__name__
    if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
        return f"{name} is compiled for its sizes; attach to the model without torch.compile"
    if kind in {"DistributedDataParallel", "FullyShardedDataParallel", "DataParallel"}:
        return f"{kind} keeps copies of the weights; attach to a model that is not wrapped"
    if isinstance(module, (nn.AlphaDropout, nn.FeatureAlphaDropout)):
        return f"{name}: {kind} makes other numbers of 0 while training; use another dropout"
    return None
