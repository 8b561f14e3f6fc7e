"""Sensitivity: weights that hardly move the outputs shrink; the options, checked."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from abscise._schedules import Constant, check_number, check_whole
from abscise.sparsify._choice import Choice
from abscise.sparsify._measure import BatchMean, ExampleMean, Measure
from abscise.sparsify._outputs import Mean, Outputs
from abscise.sparsify._sensitivity_worker import Observing, SensitivityWorker
from abscise.sparsify._shrunk import Shrunk, check_share
from abscise.sparsify._sparsifier import Sparsifier
from abscise.sparsify._weights import (
    check_dtype,
    is_direction,
    unwrapped,
    weights_of,
)


@dataclass(frozen=True, slots=True, eq=False)
class ByOutputs(Sparsifier[SensitivityWorker]):
    """What `Sensitivity` and `SeReNe` have in common: a measure of the outputs' derivatives.

    After each optimizer step: `w <- w - strength * w * max(0, 1 - S)`. The arguments are explained
    at `Sensitivity`.
    """

    strength: float | Callable[[int], float]
    outputs: Outputs | str = Outputs.ALL
    estimate: bool = False
    rescale: bool = False
    average: float = 0.0
    every: int = 1
    examples: int | None = None
    where: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    logits: Callable[[Any], Tensor] | None = None
    chunk_bytes: int = 1 << 26
    seed: int = 0
    _bound: list[SensitivityWorker] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        who = type(self).__name__
        if not callable(self.strength):
            check_share(who, self.strength)
        if self.outputs not in tuple(Outputs):
            _refuse(who, "outputs", f"one of {', '.join(Outputs)}", self.outputs)
        check_number(who, self.average, "average")
        if not 0 <= self.average < 1:
            _refuse(who, "average", "in [0, 1)", self.average)
        self._check_counts(who)
        logits: object = self.logits
        if logits is not None and not callable(logits):
            message = (
                f"{who}: logits must be a function of what the model returns, got {logits!r:.60}"
            )
            raise TypeError(message)
        _ = self._choice

    def _check_counts(self, who: str) -> None:
        check_whole(who, self.every, "every", 1)
        check_whole(who, 1 if self.examples is None else self.examples, "examples", 1)
        check_whole(who, self.chunk_bytes, "chunk_bytes", 1)
        check_whole(who, self.seed, "seed", 0)
        for option in ("estimate", "rescale"):
            value = getattr(self, option)
            if not isinstance(value, bool):
                message = f"{who}: {option} must be True or False, got {value!r:.60}"
                raise TypeError(message)

    @property
    def _choice(self) -> Choice:
        return Choice(type(self).__name__, self.where, self.exclude)

    @property
    def sensitivities(self) -> dict[str, Tensor]:
        """Parameter name -> its averaged sensitivities, of its shape; see the worker.

        Raises:
            ValueError: It is not attached, or to several optimizers.
        """
        return self._worker.sensitivities

    def observe(self, logits: Tensor, target: Tensor | None = None) -> None:
        """Show a batch, between the forward pass and `backward()`; see `SensitivityWorker.observe`.

        Raises:
            TypeError: Logits or target are no tensors, or of the wrong kind.
            ValueError: They do not fit, or this is not attached, or to several optimizers.
            ModelError: A sensitivity is not finite.
        """
        self._worker.observe(logits, target)

    @property
    def _worker(self) -> SensitivityWorker:
        who = type(self).__name__
        if not self._bound:
            message = f"{who} is not attached: call attach(sparsifier, optimizer, model) first"
            raise ValueError(message)
        if len(self._bound) > 1:
            message = (
                f"{who} is attached to {len(self._bound)} optimizers: call observe of what attach "
                "returned for each, or make one sparsifier for each"
            )
            raise ValueError(message)
        return self._bound[0]

    @override
    def bind(self, optimizer: Optimizer, model: nn.Module) -> SensitivityWorker:
        who = type(self).__name__
        weights = weights_of(model, optimizer)
        tensors = weights.once()
        chosen = {
            name: tensors[name]
            for name in self._choice.names(weights)
            if weights.trains(name)
            and tensors[name].numel() > 0
            and not is_direction(weights, name)
        }
        shrunk, measure = self._measured(unwrapped(model), chosen)
        if not shrunk:
            message = (
                f"{who}: no parameter to act on: where and exclude leave none that the optimizer "
                "trains"
            )
            raise ValueError(message)
        for one in shrunk:
            check_dtype(one.name, one.parameter)
        strength = self.strength if callable(self.strength) else Constant(self.strength)
        return SensitivityWorker(self._observing(), model, shrunk, measure, strength, self._bound)

    def _observing(self) -> Observing:
        return Observing(
            type(self).__name__,
            Outputs(self.outputs),
            Mean.EXAMPLES,
            self.estimate,
            self.rescale,
            self.average,
            self.every,
            self.examples,
            self.seed,
            self.logits,
        )

    @abstractmethod
    def _measured(
        self, model: nn.Module, chosen: Mapping[str, Tensor]
    ) -> tuple[tuple[Shrunk, ...], Measure]:
        """What shrinks, and by what."""


@dataclass(frozen=True, slots=True, eq=False)
class Sensitivity(ByOutputs):
    """Weights that hardly move the outputs shrink: `w <- w - strength * w * max(0, 1 - S)`.

    `S(w) = mean over examples of sum_k alpha_k |dy_k / dw|`, y the logits: alpha is 1 / outputs for
    each output, or 1 for the target's alone. For networks of ReLUs this descends
    `1/2 sum w^2 max(0, 1 - S)` with S held. A weight shrinks by a constant factor at each step and
    never reaches 0 by itself: small ones are to be set to 0 (`snap_`).

    ```python
    sparsifier = Sensitivity(1e-4, rescale=True, estimate=True, examples=16, average=0.9)
    with abscise.attach(sparsifier, optimizer, model):
        for inputs, target in batches:
            optimizer.zero_grad()
            logits = model(inputs)
            sparsifier.observe(logits, target)
            cross_entropy(logits, target).backward()
            optimizer.step()
    ```

    Args:
        strength: In [0, 1), or a `Schedule`: a function of the step, which counts from 1. It is not
            multiplied by the learning rate. A weight that matters nothing falls from w0 to T in
            `ln(w0 / T) / strength` steps.
        outputs: See `Outputs`; or its value as text.
        estimate: One output of each example, drawn at random, instead of all of them: one backward
            pass, whose expectation is the exact sensitivity. Average it. (The target's output needs
            one pass anyway, unless there are several positions.)
        rescale: Divide each parameter's S by its greatest value, as the authors' later library
            does. Without it S is mostly so small that this is little else than weight decay.
        average: Of the sensitivities before, the share that is kept at each measurement, in [0, 1);
            averaged before `max(0, 1 - S)` and before S is rescaled, which would bias a noisy S.
        every: Steps from one measurement to the next; S is held between them.
        examples: How many of a batch are measured, drawn at random; None: all.
        where: Name patterns of parameters or layers to act on. By default all that the optimizer
            trains, biases and norms included.
        exclude: Name patterns of those to leave out, though `where` names them.
        logits: Where in the model's output the logits are, if it is not a tensor, or is changed
            before it is observed.
        chunk_bytes: About how much memory gradients of several outputs or examples may take at a
            time; one output and one example are always taken. Less is slower, and nothing else.
        seed: Of the examples and outputs drawn; torch's own generators are left alone.
        mean: See `Mean`; or its value as text. With `Mean.BATCH` and the target's output, it is the
            derivative of the mean of these outputs; the estimate draws one output for the batch.

    Parameters that the logits do not depend on have S = 0. Batch norm in training mode is taken as
    the affine map that it is for this batch: its statistics are held.

    Source: E. Tartaglione, S. Lepsoy, A. Fiandrotti, G. Francini 2018, "Learning Sparse Neural
    Networks via Sensitivity-Driven Regularization" (arXiv 1810.11764). Differs: S is an average
    over the examples of a batch; estimate, rescaling, averages, refreshes are ours or later ones.
    """

    mean: Mean | str = Mean.EXAMPLES

    @override
    def __post_init__(self) -> None:
        super(Sensitivity, self).__post_init__()
        if self.mean not in tuple(Mean):
            _refuse("Sensitivity", "mean", f"one of {', '.join(Mean)}", self.mean)

    @override
    def _observing(self) -> Observing:
        return replace(super(Sensitivity, self)._observing(), mean=Mean(self.mean))

    @override
    def _measured(
        self, model: nn.Module, chosen: Mapping[str, Tensor]
    ) -> tuple[tuple[Shrunk, ...], Measure]:
        shrunk = tuple(
            Shrunk(name, one, name, one.shape, one.shape, one.shape) for name, one in chosen.items()
        )
        if self.mean == Mean.BATCH:
            return shrunk, BatchMean(chosen, self.chunk_bytes)
        return shrunk, ExampleMean(model, chosen, self.chunk_bytes)


def _refuse(who: str, option: str, rule: str, value: object) -> None:
    message = f"{who}: {option} must be {rule}, got {value!r:.60}"
    raise ValueError(message)
