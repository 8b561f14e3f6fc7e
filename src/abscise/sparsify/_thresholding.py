"""Thresholding: the second stage; what is small becomes 0, as long as the error allows it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from typing_extensions import override

from abscise._schedules import check_number, check_whole
from abscise.sparsify._bisection import Bisection, largest_threshold
from abscise.sparsify._choice import Choice
from abscise.sparsify._groups import EVERYTHING
from abscise.sparsify._kept import Check, Kept
from abscise.sparsify._masks import element_shapes, hold_, join_
from abscise.sparsify._slices import Bunch
from abscise.sparsify._sparsifier import Sparsifier, Validate, Worker
from abscise.sparsify._threshold_state import LOST, STILL, ThresholdState, read_threshold_state
from abscise.sparsify._weights import named_tensors


@dataclass(frozen=True, slots=True, eq=False)
class Thresholding(Sparsifier["ThresholdingWorker"]):
    """Weights below a threshold become 0 and stay 0; the sparsest state under the target is kept.

    It shrinks nothing: attach it beside `Lobster`, `DecoupledDecay` or another. After each epoch
    (or whatever else you check after) call `after_epoch` with a function that validates; it says
    whether to go on. `finish` brings the kept state back.

    ```python
    driver = abscise.attach(Thresholding(target_error=0.02), optimizer, model)
    for _ in range(epochs):
        train_one_epoch(model, optimizer)
        if not driver.after_epoch(lambda: validate(model)):  # (loss, error)
            break
    driver.finish()
    ```

    It stops when the target, once met, is missed in `patience` checks in a row; or when weights
    have fallen once, and `patience` times in a row none did.

    Args:
        target_error: What the kept state has at most, in the unit of your error.
        threshold: Weights of a smaller magnitude fall; or a `Bisection`, which looks for it.
        every: Steps between two fallings; None: in `after_epoch`. Not with a `Bisection`.
        after: Steps that pass before the first one.
        patience: See above.
        where: Name patterns of parameters or layers to act on; by default all that the optimizer
            trains, biases and norms too.
        exclude: Name patterns of those to leave out, though `where` names them.

    Source: the two stages: E. Tartaglione, S. Lepsøy, A. Fiandrotti, G. Francini 2018, "Learning
    Sparse Neural Networks via Sensitivity-Driven Regularization" (arXiv 1810.11764); the search:
    E. Tartaglione and others 2020 (arXiv 2011.09905). Ours searches over the ranks of the weights,
    where theirs halves an interval of thresholds, and takes the best loss since the last search.
    """

    target_error: float
    threshold: float | Bisection = 1e-2
    every: int | None = None
    after: int = 0
    patience: int = 10
    where: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_number("target_error", self.target_error)
        if not isinstance(self.threshold, Bisection):
            _check_number("threshold", self.threshold)
        elif self.every is not None:
            message = f"Thresholding: every is for a fixed threshold, got {self.every!r}: drop it"
            raise ValueError(message)
        least = (("every", self.every, 1), ("after", self.after, 0), ("patience", self.patience, 1))
        for name, value, limit in least:
            if value is not None:
                check_whole("Thresholding", value, name, limit)
        _ = self._choice

    @property
    def _choice(self) -> Choice:
        return Choice("Thresholding", self.where, self.exclude)

    @override
    def bind(self, optimizer: Optimizer, model: nn.Module) -> "ThresholdingWorker":
        return ThresholdingWorker(self, self._choice.bunches(optimizer, model, EVERYTHING), model)


class ThresholdingWorker(Worker):
    """The zeros, the checks so far, and the state that is kept."""

    def __init__(self, options: Thresholding, bunches: Sequence[Bunch], model: nn.Module) -> None:
        """Made by `Thresholding.bind`; changes nothing."""
        self._options = options
        self._pieces = [bunch.slices[0] for bunch in bunches]
        self._tensors = named_tensors(model)
        self._state = ThresholdState()

    @property
    def step(self) -> int:
        """Steps done."""
        return self._state.step

    @property
    def zeros(self) -> int:
        """How many weights are held at 0."""
        return sum(int(mask.sum()) for mask in self._state.masks.values())

    @property
    def sparsity(self) -> float:
        """The share of the weights that is held at 0."""
        return self.zeros / sum(piece.parameter.numel() for piece in self._pieces)

    @property
    def checks(self) -> tuple[Check, ...]:
        """All checks, the first first: errors beside zeros."""
        return tuple(self._state.checks)

    @property
    def kept(self) -> Check | None:
        """The check with most zeros, and of those the least error, that met the target."""
        return None if self._state.kept is None else self._state.kept.check

    @property
    def reason(self) -> str:
        """Why it has stopped; empty if it has not."""
        return self._state.stopped

    @property
    @override
    def stopped(self) -> bool:
        return bool(self._state.stopped)

    @override
    def after_step(self, optimizer: Optimizer) -> None:
        state, options = self._state, self._options
        with torch.no_grad():
            hold_(self._pieces, state.masks)
        state.step += 1
        by_step = options.every is not None and state.step % options.every == 0
        if by_step and self._begun and not state.stopped:
            assert not isinstance(options.threshold, Bisection)
            self._cut(options.threshold)

    @override
    def after_epoch(self, validate: Validate) -> bool:
        """Check; let weights fall where that is due; keep the state if it is the sparsest.

        Args:
            validate: Gives (loss, error) of the model as it is now. With a fixed threshold it is
                called once, with a `Bisection` up to `evaluations` times more. On several ranks it
                has to give the same everywhere.

        Returns:
            Whether to go on.

        Raises:
            ValueError: What it gives is NaN, or no pair of numbers.
        """
        if self._state.stopped:
            return False
        if isinstance(self._options.threshold, Bisection):
            check = self._searched(self._options.threshold, validate)
        else:
            check = self._fixed(self._options.threshold, validate)
        self._state.checks.append(check)
        self._judge(check)
        return not self._state.stopped

    @override
    def finish(self) -> None:
        """Bring the kept state back: all parameters and buffers, and what is held at 0.

        Where no check has met the target, which `kept` tells, nothing is changed. The optimizer's
        moments stay as they are.
        """
        if self._state.kept is not None:
            self._state.kept.restore_(self._tensors)
            self._state.masks = dict(self._state.kept.masks)

    @property
    def _begun(self) -> bool:
        return self._state.step >= self._options.after

    def _fixed(self, threshold: float, validate: Validate) -> Check:
        if self._begun and self._options.every is None:
            self._cut(threshold)
        loss, error = _checked(validate())
        self._count_still()
        return Check(self._state.step, loss, error, self.zeros, threshold if self._begun else 0.0)

    def _searched(self, how: Bisection, validate: Validate) -> Check:
        state = self._state
        loss, error = _checked(validate())
        state.waiting = 0 if loss < state.best else state.waiting + 1
        state.best = min(state.best, loss)
        if state.waiting < how.plateau or not self._begun:
            return Check(state.step, loss, error, self.zeros, 0.0)
        limit = (1 + math.copysign(how.tolerance, state.best)) * state.best
        threshold = 0.0
        if loss <= limit:
            threshold = largest_threshold(self._pieces, state.masks, how, limit, validate)
        before = self.zeros
        self._cut(threshold)
        self._count_still()
        if self.zeros > before:
            loss, error = _checked(validate())
        state.best, state.waiting = loss, 0
        return Check(state.step, loss, error, self.zeros, threshold)

    def _cut(self, threshold: float) -> None:
        """What is below the threshold falls."""
        if threshold > 0:
            with torch.no_grad():
                for piece in self._pieces:
                    small = piece.parameter.detach().view(piece.shape).abs() < threshold
                    join_(self._state.masks, {piece.name: small})
                hold_(self._pieces, self._state.masks)

    def _count_still(self) -> None:
        """Has anything fallen since this was asked before?"""
        state, zeros = self._state, self.zeros
        state.still = 0 if zeros > state.fallen or not zeros else state.still + 1
        state.fallen = zeros

    def _judge(self, check: Check) -> None:
        state, options = self._state, self._options
        if check.error <= options.target_error:
            state.lost = 0
            kept = self.kept
            if kept is None or (check.zeros, -check.error) > (kept.zeros, -kept.error):
                state.kept = Kept.of(check, self._tensors, state.masks)
        elif state.kept is not None:
            state.lost += 1
        if state.lost >= options.patience:
            state.stopped = LOST
        elif state.still >= options.patience:
            state.stopped = STILL

    @override
    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors, with those of the kept state; none is copied."""
        return self._state.as_dict()

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._state = read_threshold_state(state, self._tensors, element_shapes(self._pieces))


def _checked(values: object) -> tuple[float, float]:
    """A pair of numbers, neither of which is NaN.

    Raises:
        ValueError: It is none.
    """
    try:
        loss, error = (float(value) for value in values)  # type: ignore[attr-defined]
    except (TypeError, ValueError) as problem:
        message = f"Thresholding: validate must give (loss, error), got {values!r:.80}"
        raise ValueError(message) from problem
    if math.isnan(loss) or math.isnan(error):
        message = f"Thresholding: validate must give numbers, got loss {loss!r}, error {error!r}"
        raise ValueError(message)
    return loss, error


def _check_number(name: str, value: float) -> None:
    check_number("Thresholding", value, name)
    if not 0 <= value < math.inf:
        message = f"Thresholding: {name} must be >= 0 and finite, got {value!r}"
        raise ValueError(message)
