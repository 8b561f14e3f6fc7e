"""Distillation: the loss becomes, in part, how far the network is from the one it began as."""

import copy
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import softmax
from torch.utils.hooks import RemovableHandle


class Distillation:
    """An attachment that mixes the gradient of a distance to a teacher into that of the loss.

    With it, a loop that minimises the cross-entropy CE minimises
    `(1 - share) * CE + share * warmth^2 * KL(teacher / warmth, student / warmth)`, the mean over
    the batch. The gradient at the logits is all that changes, so the loop knows nothing of it.

    Source: G. Hinton, O. Vinyals, J. Dean 2015, "Distilling the Knowledge in a Neural Network"
    (arXiv 1503.02531). Differs: the teacher is the dense network that the student starts from.

    Args:
        model: The student; as it is now it is the teacher, too.
        share: In [0, 1].
        warmth: The temperature, > 0.
    """

    def __init__(self, model: nn.Module, share: float = 0.5, warmth: float = 2.0) -> None:
        """Copy the teacher; nothing is hooked yet."""
        if not 0 <= share <= 1 or warmth <= 0:
            message = (
                f"Distillation: share must be in [0, 1] and warmth > 0, got {share} and {warmth}"
            )
            raise ValueError(message)
        self._model = model
        self._teacher = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
        self._share, self._warmth = share, warmth
        self._inputs: Tensor | None = None
        self._handle: RemovableHandle | None = None

    def __enter__(self) -> Self:
        """From now on the student's inputs are seen."""
        self._handle = self._model.register_forward_pre_hook(self._see)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """The student has the hooks it had."""
        if self._handle is not None:
            self._handle.remove()
        self._inputs = None

    def observe(self, logits: Tensor, _labels: Tensor) -> None:
        """Between the forward pass and `backward()`: change what flows into the logits.

        Raises:
            ValueError: No forward pass was seen.
        """
        if self._inputs is None:
            message = "Distillation: enter it, and call the student, before observe"
            raise ValueError(message)
        with torch.no_grad():
            wanted = softmax(self._teacher(self._inputs) / self._warmth, dim=1)
            given = softmax(logits.detach() / self._warmth, dim=1)
            # warmth^2 * KL has this gradient; 1 / warmth of it comes from the inner derivative.
            pull = (given - wanted).mul_(self._share * self._warmth / len(logits))
        self._inputs = None
        _ = logits.register_hook(lambda gradient: gradient * (1 - self._share) + pull)

    def state_dict(self) -> dict[str, Any]:
        """The teacher's weights, not copied."""
        return {"teacher": self._teacher.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """Go on with the teacher that `state_dict` gave.

        Raises:
            RuntimeError: It belongs to another network.
        """
        _ = self._teacher.load_state_dict(state["teacher"])

    def _see(self, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if torch.is_grad_enabled():
            self._inputs = inputs[0]
