"""Everything of a run that has a state of its own, in one dictionary for the checkpoint."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from abscise._errors import StoreError
from abscise._importing import one_line
from abscise.train._randomness import random_state, set_random_state


@runtime_checkable
class Attachment(Protocol):
    """Something that works beside the loop; what it remembers is part of every checkpoint.

    One that changes the shapes of parameters says so by `reshapes = True`: its state is loaded
    before that of the network. One that has `observe(logits, labels)` is called with every batch,
    before its backward pass. One that is `AfterEpochs` is called at the end of every epoch, and may
    end the run. A context manager is entered before the first step and left after the last.
    """

    def state_dict(self) -> Mapping[str, Any]:
        """Tensors, numbers, texts, and lists, tuples and dictionaries of them."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> object:
        """Go on from what `state_dict` gave."""
        ...


@runtime_checkable
class AfterEpochs(Protocol):
    """An attachment that acts between epochs, such as `abscise.sparsify.Thresholding`."""

    @property
    def stopped(self) -> bool:
        """Whether the run is to end; part of its state, so that a resumed run ends, too."""
        ...

    def after_epoch(self, validate: Callable[[], tuple[float, float]], /) -> object:
        """Act; `validate` gives loss and error on the validation part as they are now."""
        ...

    def finish(self) -> object:
        """Called when the run has ended, before the test set is read."""
        ...


Attach = Callable[[nn.Module, Optimizer], Attachment]
"""Makes an attachment, once the network and its optimizer are there."""


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What has a state of its own.

    Args:
        model: The network; buffers that its state dict leaves out are kept, too.
        optimizer: Its optimizer.
        precision: What scales the loss in 16-mixed; others have no state.
        generator: Of the augmentation.
        attachments: In the order in which they were given.
    """

    model: nn.Module
    optimizer: Optimizer
    precision: Attachment
    generator: Generator
    attachments: Sequence[Attachment]

    def state(self) -> dict[str, object]:
        """The state of all parts and of the global generators; tensors are not copied."""
        return {
            "model": self.model.state_dict(),
            "buffers": self._other_buffers(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.precision.state_dict(),
            "augment": self.generator.get_state(),
            "random": random_state(),
            "attachments": [
                {"kind": type(part).__name__, "state": part.state_dict()}
                for part in self.attachments
            ],
        }

    def load(self, state: Mapping[str, Any], where: str) -> None:
        """Go on from what `state` gave.

        Raises:
            StoreError: It belongs to another network, optimizer or other attachments.
        """
        try:
            kinds = [str(part["kind"]) for part in state["attachments"]]
            present = [type(part).__name__ for part in self.attachments]
            if kinds != present:
                message = f"{where}: this run has the attachments {kinds}, given are {present}"
                raise StoreError(message)
            # One that changes shapes gives the network those that its weights have.
            pairs = list(zip(self.attachments, state["attachments"], strict=True))
            for part, held in sorted(pairs, key=lambda pair: not reshapes(pair[0])):
                _ = part.load_state_dict(held["state"])
            _ = self.model.load_state_dict(state["model"])
            for name, buffer in self._other_buffers().items():
                _ = buffer.copy_(state["buffers"][name])
            self.optimizer.load_state_dict(state["optimizer"])
            _lay_out_(self.optimizer)
            _ = self.precision.load_state_dict(state["precision"])
            _ = self.generator.set_state(state["augment"])
            set_random_state(state["random"])
        except (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            message = f"{where}: the state does not fit ({one_line(error)})"
            raise StoreError(message) from error

    def _other_buffers(self) -> dict[str, Tensor]:
        kept = self.model.state_dict()
        return {name: value for name, value in self.model.named_buffers() if name not in kept}


def reshapes(part: Attachment) -> bool:
    """Does it change the shapes of parameters while training?"""
    return bool(getattr(part, "reshapes", False))


def _lay_out_(optimizer: Optimizer) -> None:
    """Lay the optimizer's loaded tensors out in memory as their parameters are, in place.

    Fused kernels walk parameter and moments by raw index: a moment of another shape is read past
    its end, and one of other strides (channels_last, a transposed matrix) belongs to other weights.

    Raises:
        ValueError: A tensor has not the shape of its parameter, or a step count is none.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for index, weight in enumerate(weights):
        held = optimizer.state.get(weight, {})
        for key, value in held.items():
            if not isinstance(value, Tensor):
                continue
            wanted = () if key == "step" else tuple(weight.shape)
            if tuple(value.shape) != wanted or not value.is_floating_point():
                found = f"{list(value.shape)} of {value.dtype}"
                message = (
                    f"the optimizer's {key} of parameter {index} must be floats of shape "
                    f"{list(wanted)}, got {found}"
                )
                raise ValueError(message)
            if key != "step":
                held[key] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def attach_all(
    given: Sequence[Attachment | Attach],
    model: nn.Module,
    optimizer: Optimizer,
    stack: ExitStack,
) -> list[Attachment]:
    """Make those that are to be made, and enter those that are context managers."""
    made: list[Attachment] = []
    for one in given:
        # A class that makes attachments has their methods, too.
        ready = isinstance(one, Attachment) and not isinstance(one, type)
        part: object = one if ready else cast("Attach", one)(model, optimizer)
        if not isinstance(part, Attachment):
            message = f"an attachment needs state_dict and load_state_dict: {type(part).__name__}"
            raise TypeError(message)
        made.append(part)
        if isinstance(part, AbstractContextManager):
            stack.enter_context(part)
    return made


def watchers(parts: Sequence[Attachment]) -> list[Callable[[Tensor, Tensor], object]]:
    """The `observe` of the attachments that have one."""
    found = [getattr(part, "observe", None) for part in parts]
    return [observe for observe in found if observe is not None]


def between_epochs(parts: Sequence[Attachment]) -> list[AfterEpochs]:
    """The attachments that act between epochs."""
    return [part for part in parts if isinstance(part, AfterEpochs)]


def any_stopped(parts: Sequence[AfterEpochs]) -> bool:
    """Does one of them ask for the end of the run?"""
    return any(part.stopped for part in parts)
