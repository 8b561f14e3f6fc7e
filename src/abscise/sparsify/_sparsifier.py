"""What a sparsifier is, and its worker: options here, what happens around each step there."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, Generic, Self, TypeVar

from torch import Tensor, nn
from torch.optim import Optimizer

from abscise._units import Axis

Removed = Mapping[Axis, Collection[int]]

Validate = Callable[[], tuple[float, float]]
"""Gives (loss, error) of the model as it is now, on the validation set, in eval mode."""


class Worker(ABC):
    """A sparsifier bound to one optimizer and one model: what happens around each step."""

    takes_closure: bool = True
    """Whether it works where `optimizer.step(closure)` computes the gradients within the step."""

    reshapes: ClassVar[bool] = False
    """Does it change the shapes of parameters? Then load its state before the model's."""

    def start(self) -> None:  # noqa: B027 - not all need it
        """Called once it is attached: the moment for hooks on the model."""

    def stop(self) -> None:  # noqa: B027 - not all need it
        """Called when it is detached: the model is as it was before `start`."""

    def observe(self, logits: Tensor, target: Tensor | None = None) -> None:  # noqa: B027
        """Called by loops between the forward pass and `backward()`; by default nothing happens."""

    def before_step(self, optimizer: Optimizer, *, fresh: bool) -> None:  # noqa: B027
        """Called before every `optimizer.step()`; by default nothing happens.

        Args:
            optimizer: That will step.
            fresh: Are the gradients there that it will use? Not with a closure, nor where a
                gradient scaler has still to judge them.
        """

    @abstractmethod
    def after_step(self, optimizer: Optimizer) -> None:
        """Called after every `optimizer.step()` that changed the weights."""

    @property
    def stopped(self) -> bool:
        """Whether it asks for the end of training."""
        return False

    def after_epoch(self, validate: Validate) -> bool:
        """Called at the end of an epoch; whether to go on. By default nothing happens."""
        del validate
        return not self.stopped

    def finish(self) -> None:  # noqa: B027 - not all need it
        """Called after training; by default nothing happens."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers, texts, and lists and dictionaries of them; tensors are not copied."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave.

        Raises:
            ValueError: A key is missing, unknown or of an impossible value; nothing is changed.
        """


W_co = TypeVar("W_co", bound=Worker, covariant=True)


class Sparsifier(ABC, Generic[W_co]):
    """What happens around `optimizer.step()`, as options; `attach` puts it to work."""

    __slots__ = ()

    @abstractmethod
    def bind(self, optimizer: Optimizer, model: nn.Module) -> W_co:
        """The worker for these weights; changes nothing.

        Raises:
            ValueError: The options do not fit the model or the optimizer.
        """

    def without(self, removed: Removed) -> Self:
        """The same options for a model that has lost these indices of its parameters.

        Raises:
            ValueError: It has none.
        """
        del removed
        message = (
            f"{type(self).__name__} cannot follow units that are removed while training: detach it "
            "first, or remove them after the training"
        )
        raise ValueError(message)

    def state_without(self, state: dict[str, Any], removed: Removed) -> dict[str, Any]:
        """The state of a worker, for the worker of `without`.

        Raises:
            ValueError: Something in it cannot be cut.
        """
        del removed
        return state
