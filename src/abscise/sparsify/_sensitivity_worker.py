"""SensitivityWorker: measures what is observed, and shrinks after each step what matters little."""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from abscise._errors import ModelError
from abscise.sparsify._measure import Measure, Measured
from abscise.sparsify._outputs import (
    Mean,
    Outputs,
    check_logits,
    check_target,
    looks_like_softmax,
    picked,
)
from abscise.sparsify._ranks import averaged, group_of
from abscise.sparsify._rerun import undisturbed
from abscise.sparsify._seen import ForwardWatch, Seen
from abscise.sparsify._sensitivity_state import State, read_state
from abscise.sparsify._shrunk import Rooms, Shrunk, check_share
from abscise.sparsify._sparsifier import Worker
from abscise.sparsify._weights import unwrapped


@dataclass(frozen=True, slots=True, eq=False)
class Observing:
    """How a sparsifier looks at a batch; see the arguments of `Sensitivity`."""

    who: str
    outputs: Outputs
    mean: Mean
    estimate: bool
    rescale: bool
    average: float
    every: int
    examples: int | None
    seed: int
    logits: Callable[[Any], Tensor] | None


class SensitivityWorker(Worker):
    """Sensitivities, their average, and the step after which they act."""

    def __init__(
        self,
        observing: Observing,
        model: nn.Module,
        shrunk: tuple[Shrunk, ...],
        measure: Measure,
        schedule: Callable[[int], float],
        bound: list["SensitivityWorker"],
    ) -> None:
        """Made by `bind` of a sparsifier; changes nothing. While started, it is in `bound`."""
        self._observing = observing
        self._model = unwrapped(model)
        self._shrunk = shrunk
        self._measure = measure
        self._schedule = schedule
        self._bound = bound
        self._ranks = group_of(model)
        self._watch = ForwardWatch(model, lambda: self.due)
        self._generator = Generator().manual_seed(observing.seed)
        self._state = State(generator=self._generator.get_state())
        self._rooms = Rooms(shrunk, rescale=observing.rescale)
        self._warned = False

    @property
    def step(self) -> int:
        """Steps done."""
        return self._state.step

    @property
    def strength(self) -> float:
        """Of the next step.

        Raises:
            ValueError: The schedule gives none in [0, 1).
        """
        strength = float(self._schedule(self._state.step + 1))
        check_share(f"{self._observing.who}: step {self._state.step + 1}", strength)
        return strength

    @property
    def due(self) -> bool:
        """Will the next batch that is observed be measured?"""
        state = self._state
        late = not state.sensitivities or state.step % self._observing.every == 0
        return late and not state.observed

    @property
    def sensitivities(self) -> dict[str, Tensor]:
        """Parameter name -> its averaged sensitivities, of its shape; not rescaled, and no copies.

        Empty before the first batch is observed.
        """
        held = self._state.sensitivities
        return {one.name: one.spread(held[one.key]) for one in self._shrunk if held}

    @override
    def start(self) -> None:
        self._watch.start()
        self._bound.append(self)

    @override
    def stop(self) -> None:
        self._watch.stop()
        self._bound.remove(self)

    @override
    def observe(self, logits: Tensor, target: Tensor | None = None) -> None:
        """Measure the sensitivities of this batch, where they are due; else only check it.

        The part of the model that leads to the logits is run once more. Gradients, buffers, modes,
        random numbers and hooks stay as they are, also when an exception is raised. Of several
        batches before one step (accumulated gradients), the first is measured.

        Args:
            logits: What the model has just returned, or made of it: `(examples, outputs, ...)`.
            target: The index of an output for each example, `(examples, ...)`; not read where all
                outputs count.

        Raises:
            TypeError: Logits or target are no tensors, or of the wrong kind.
            ValueError: Their shapes do not fit, the target is out of range, the logits do not
                require grad, or the forward pass was not that of the attached model.
            ModelError: A sensitivity is not finite; those before it are kept.
        """
        due, seen = self.due, self._watch.take()
        logits = check_logits(logits)
        specific = self._observing.outputs == Outputs.TARGET
        named = check_target(logits, target) if specific else None
        self._warn_of_softmax(logits)
        if due:
            if seen is None:
                message = (
                    "observe: no forward pass with gradients was seen since the last step: give "
                    "attach the model that you call, and observe before optimizer.step()"
                )
                raise ValueError(message)
            seen.check_unchanged()
            before = self._generator.get_state()
            try:
                measured = self._measured(seen, logits, named)
                self._take(averaged(measured, self._ranks))
            except BaseException:
                _ = self._generator.set_state(before)
                raise
        self._state.observed = True

    def _warn_of_softmax(self, logits: Tensor) -> None:
        if self._warned:
            return
        self._warned = True
        if looks_like_softmax(logits):
            message = (
                f"{self._observing.who}: the rows of the logits lie in [0, 1] and sum to 1, like "
                "those of a softmax: their derivatives cancel; observe the logits before it"
            )
            warnings.warn(message, stacklevel=4)

    def _measured(self, seen: Seen, logits: Tensor, target: Tensor | None) -> Measured:
        how, count = self._observing, len(logits)
        rows = None
        if how.examples is not None and how.examples < count:
            rows = torch.randperm(count, generator=self._generator)[: how.examples]
            target = None if target is None else target[rows.to(target.device)]
        shape = torch.Size((count if rows is None else len(rows), *logits.shape[1:]))
        draw = self._generator if how.estimate else None
        chosen = picked(shape, target, draw, alike=how.mean == Mean.BATCH)

        def logits_of(output: Any) -> Tensor:
            return self._logits_of(output, shape)

        with undisturbed(self._model, seen, count, rows) as rerun:
            return self._measure(rerun, chosen, logits_of)

    def _logits_of(self, output: Any, shape: torch.Size) -> Tensor:
        """The logits in what the model returned.

        Raises:
            TypeError: They are not there.
            ValueError: They have another shape than what was observed.
        """
        found = output if self._observing.logits is None else self._observing.logits(output)
        if not isinstance(found, Tensor):
            message = (
                f"observe: the model returns {type(found).__name__}: say where the logits are, "
                f"such as {self._observing.who}(..., logits=lambda output: output[0])"
            )
            raise TypeError(message)
        if found.shape != shape or not found.requires_grad:
            message = (
                f"observe: run again, the model gives logits of {tuple(found.shape)} instead of "
                f"{tuple(shape)}: observe what it returns, for inputs whose first dimension are "
                "the examples; logits=function repeats what was done to its output"
            )
            raise ValueError(message)
        return found

    def _take(self, measured: Measured) -> None:
        """Average them with those before.

        Raises:
            ModelError: One is not finite; nothing is changed.
        """
        bounds = _bounds(measured)
        for key, bound in bounds.items():
            if not math.isfinite(bound):
                message = (
                    f"observe: the sensitivity of {key} is not finite: look for NaN or infinity in "
                    "weights and inputs; nothing was changed"
                )
                raise ModelError(message)
        held, average = self._state.sensitivities, self._observing.average
        if not held:
            held.update({one.key: one.like() for one in self._shrunk})
            average = 0.0
        for key, part in measured.items():
            part.blend_(held[key], average)
        self._rooms.measured(held, bounds, average)

    @override
    def before_step(self, optimizer: Optimizer, *, fresh: bool) -> None:
        # A closure may observe within the step; where a scaler has found_inf, there is none.
        if fresh or getattr(optimizer, "found_inf", None) is not None:
            self._check_observed()
        _ = self.strength  # refuses before anything is changed

    @override
    def after_step(self, optimizer: Optimizer) -> None:
        self._check_observed()
        strength = self.strength
        if strength > 0:
            self._rooms.shrink_(self._state.sensitivities, strength)
        self._state.step += 1
        self._state.observed = False

    def _check_observed(self) -> None:
        if not self._state.observed:
            message = (
                f"{self._observing.who}: no observe(logits, target) since the last step: call it "
                "between the forward pass and backward()"
            )
            raise ValueError(message)

    @override
    def state_dict(self) -> dict[str, Any]:
        self._state.generator = self._generator.get_state()
        return self._state.as_dict()

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        likes = {one.key: one.like() for one in self._shrunk}
        read = read_state(state, likes)
        self._state = read
        self._rooms.read()
        _ = self._generator.set_state(read.generator)


def _bounds(measured: Measured) -> dict[str, float]:
    """What none of the sensitivities exceeds; not finite where one of them is not."""
    factors = [part.factors() for part in measured.values()]
    maxima = torch.stack([one.amax() for of in factors for one in of]).tolist()
    greatest = iter(maxima)
    return {
        key: part.bound([next(greatest) for _ in of])
        for (key, part), of in zip(measured.items(), factors, strict=True)
    }
