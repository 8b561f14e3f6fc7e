"""Penalty: mathematics on weights, as a value and a proximal map; what all penalties share."""

from abc import ABC, abstractmethod
from enum import StrEnum
from typing import ClassVar

import torch
from torch import Tensor

from abscise.penalties._checks import check_weights, read_step, widened


class Kind(StrEnum):
    """What a penalty looks at, and so what a caller must bring together before `prox`.

    ELEMENTWISE: one element at a time; any shape will do. RADIAL: the norm of a row, which is then
    scaled as a whole. ROW: all elements of a row.
    """

    ELEMENTWISE = "elementwise"
    RADIAL = "radial"
    ROW = "row"


class Penalty(ABC):
    """A function of weights that is small where they are sparse, at strength one.

    A strength s multiplies the whole penalty: after a gradient step with learning rate r, apply
    `prox(weights, r * s)`. `weights` is `(units, size)`, one row per unit; elementwise penalties
    take any shape. float16 and bfloat16 are computed in float32.

    NaN or infinity in the weights stays so, or becomes NaN, and touches no other row: a training
    that diverged is not hidden.
    """

    __slots__ = ()

    kind: ClassVar[Kind]
    convex: ClassVar[bool]
    """Whether `value` is convex; False also where that depends on the parameters."""
    takes_metric: ClassVar[bool]
    """Whether `step` may be a tensor: one step size per element, as adaptive optimizers have."""

    @property
    def exact(self) -> bool:
        """Whether `prox` is the exact minimiser; False for a published approximation."""
        return True

    def value(self, weights: Tensor) -> Tensor:
        """The penalty of `weights`: a scalar, float32 at least, 0 for weights without elements.

        It may be added to a loss; its gradient is then 0 for weights that are 0. `L0` and `NofM`
        have no gradient.
        """
        self._check(weights)
        x = widened(weights)
        return self._value(x) if x.numel() else x.sum()

    def prox(self, weights: Tensor, step: float | Tensor) -> Tensor:
        """New weights: argmin over y of sum (y - weights)^2 / (2 step) + value(y).

        Args:
            weights: `(units, size)`; left as they are.
            step: Learning rate times strength, in [0, 2^100]: a number, or a tensor of the weights'
                shape for a diagonal metric (checking it waits for the device). An element whose
                step is 0 stays as it is.

        Returns:
            A new tensor of the weights' shape and dtype, without gradient. Zeros are exactly 0.0,
            never -0.0.

        Raises:
            ValueError: The weights or the step are not as described, or the step is a tensor and
                this penalty has no exact map in a diagonal metric.
        """
        self._check(weights)
        with torch.no_grad():
            return self._map(weights, self._read_step(weights, step))

    def _check(self, weights: Tensor) -> None:
        check_weights(type(self).__name__, weights, rows=self.kind is not Kind.ELEMENTWISE)

    def _read_step(self, weights: Tensor, step: float | Tensor) -> Tensor:
        """The checked step: a scalar float64 tensor on the CPU, or of the weights' shape."""
        name = type(self).__name__
        steps = read_step(name, step, weights)
        if steps.shape and not self.takes_metric:
            message = (
                f"{name}: step must be a number, got a tensor: this penalty has no exact map in a "
                "diagonal metric; take the learning rate times the strength for all weights"
            )
            raise ValueError(message)
        return steps

    def _map(self, weights: Tensor, step: Tensor) -> Tensor:
        """`prox` of checked arguments."""
        if weights.numel() == 0 or (not step.shape and float(step) == 0):
            y = weights.clone()
        else:
            y = self._wide_map(weights, step).to(weights.dtype)
        return y.add_(0.0)  # -0.0 becomes 0.0

    def _wide_map(self, weights: Tensor, step: Tensor) -> Tensor:
        """A new tensor in the dtype of the computation, in which zeros may be -0.0."""
        x = widened(weights)
        if not step.shape:
            return self._prox(x, step)
        steps = step.to(x.dtype)
        y = self._prox(x, steps)
        if x.is_cpu and float(steps.amin()) > 0:
            return y
        return torch.where(steps == 0, x, y)

    @abstractmethod
    def _value(self, x: Tensor) -> Tensor:
        """The value of weights that have elements."""

    @abstractmethod
    def _prox(self, x: Tensor, step: Tensor) -> Tensor:
        """The map itself, as a new tensor; `step` is a scalar above 0, or has the shape of `x`."""
