"""attach: a sparsifier at work beside an optimizer, by torch's own step hooks."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Generic, Self

import torch
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer
from torch.utils.hooks import RemovableHandle

from abscise.sparsify._sparsifier import Removed, Sparsifier, Validate, W_co

_ATTACHED = "_abscise_attached"


class Attachment(Generic[W_co]):
    """A sparsifier at work. As a context manager it detaches at the end, exceptions included."""

    def __init__(self, sparsifier: Sparsifier[W_co], worker: W_co, optimizer: Optimizer) -> None:
        """Use `attach`."""
        self.sparsifier = sparsifier
        self.worker = worker
        self._optimizer = optimizer
        self._handles: list[RemovableHandle] = [
            # Where the step is compiled, they are called between two graphs.
            optimizer.register_step_pre_hook(torch.compiler.disable(self._before)),
            optimizer.register_step_post_hook(torch.compiler.disable(self._after)),
        ]
        self._armed = False
        vars(optimizer).setdefault(_ATTACHED, []).append(self)
        worker.start()

    @property
    def attached(self) -> bool:
        """Whether it still acts."""
        return bool(self._handles)

    @property
    def stopped(self) -> bool:
        """Whether it asks for the end of training, as `Thresholding` does."""
        return self.worker.stopped

    def after_epoch(self, validate: Validate) -> bool:
        """Call it at the end of each epoch; whether to go on.

        Args:
            validate: Gives (loss, error) of the model as it is now; a sparsifier that needs no
                validation does not call it.

        Raises:
            ValueError: It is detached, or `validate` gives what the sparsifier cannot use.
        """
        if not self.attached:
            message = f"{type(self.sparsifier).__name__} is detached and acts no more: attach it"
            raise ValueError(message)
        return self.worker.after_epoch(validate)

    def finish(self) -> None:
        """Call it after training: what a sparsifier has kept becomes the model's state."""
        self.worker.finish()

    def detach(self) -> None:
        """Act no more; optimizer and model have the hooks they had. A second call does nothing."""
        if self._handles:
            self.worker.stop()
        while self._handles:
            self._handles.pop().remove()
        others = [one for one in vars(self._optimizer).get(_ATTACHED, []) if one is not self]
        if others:
            vars(self._optimizer)[_ATTACHED] = others
        else:
            vars(self._optimizer).pop(_ATTACHED, None)

    @property
    def reshapes(self) -> bool:
        """Does it change the shapes of parameters? Then load its state before the model's."""
        return self.worker.reshapes

    def check_follows(self) -> None:
        """Refuse what `follow` would refuse whatever is removed.

        Raises:
            ValueError: The sparsifier cannot follow.
        """
        if type(self.sparsifier).without is Sparsifier.without:
            _ = self.sparsifier.without({})

    def follow(self, model: nn.Module, removed: Removed) -> Callable[[], None]:
        """Go on with a model whose parameters have just lost these indices.

        Returns:
            What takes it back, should the removal fail after all.

        Raises:
            ValueError: It cannot; nothing is changed.
        """
        before = self.sparsifier, self.worker
        sparsifier = self.sparsifier.without(removed)
        worker = sparsifier.bind(self._optimizer, model)
        worker.load_state_dict(sparsifier.state_without(self.worker.state_dict(), removed))
        self.sparsifier, self.worker = sparsifier, worker

        def take_back() -> None:
            self.sparsifier, self.worker = before

        return take_back

    def observe(self, logits: Tensor, target: Tensor | None = None) -> None:
        """Show the sparsifier a batch, between the forward pass and `backward()`.

        Only some look at it, such as `Sensitivity`; for the others nothing happens.
        """
        self.worker.observe(logits, target)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: plain values and tensors, no pickle; tensors are not copied."""
        return self.worker.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> None:
        """Go on from what `state_dict` gave.

        Raises:
            ValueError: A key is missing, unknown or of an impossible value; nothing is changed.
        """
        self.worker.load_state_dict(state_dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.detach()

    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        closure = _closure(args, kwargs)
        if closure is not None and not self.worker.takes_closure:
            message = (
                f"{type(self.sparsifier).__name__} acts on gradients before the step, so a closure "
                "that computes them within it is too late: call backward() before optimizer.step()"
            )
            with self._or_all_disarmed():
                raise ValueError(message)
        if not self._armed:  # see _after
            # Gradients that a closure will compute are not there yet; of those that overflowed
            # while they were scaled, GradScaler knows.
            fresh = closure is None and getattr(optimizer, "found_inf", None) is None
            with self._or_all_disarmed():
                self.worker.before_step(optimizer, fresh=fresh)
        self._armed = True

    def _after(self, optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        # An optimizer whose step calls that of its base class runs the hooks twice; act once.
        if not self._armed:
            return
        self._armed = False
        # A fused optimizer is called even for a step that GradScaler skips: it looks itself.
        skipped = getattr(optimizer, "found_inf", None)
        if skipped is None or not bool(skipped):
            with self._or_all_disarmed():
                self.worker.after_step(optimizer)

    @contextmanager
    def _or_all_disarmed(self) -> Iterator[None]:
        """Where one refuses, the step has ended for all: the next one begins anew."""
        try:
            yield
        except BaseException:
            for one in attachments_of(self._optimizer):
                one._armed = False  # noqa: SLF001 - of its own class
            raise


def _closure(args: Any, kwargs: Any) -> object:
    """What `optimizer.step` was called with; torch hands the hook the optimizer, too."""
    given = [one for one in args if not isinstance(one, Optimizer)]
    return given[0] if given else kwargs.get("closure")


def attach(
    sparsifier: Sparsifier[W_co], optimizer: Optimizer, model: nn.Module
) -> Attachment[W_co]:
    """Put a sparsifier to work: from now on it acts at every `optimizer.step()`.

    It counts optimizer steps, not batches, so gradients may be accumulated; the learning rates are
    read at every step. Several sparsifiers act in the order in which they were attached.

    Args:
        sparsifier: What to do, such as `Proximal`.
        optimizer: Of `torch.optim`, or one with its step hooks. It must hold the parameters that
            the sparsifier acts on.
        model: The module that owns the parameters, wrapped (DDP, `torch.compile`) or not.

    Raises:
        TypeError: `sparsifier` is none, or LBFGS, which takes many steps in one, is the optimizer.
        ValueError: It is already attached to this optimizer, or its options do not fit the model.
    """
    given: object = sparsifier
    if not isinstance(given, Sparsifier):
        message = (
            f"attach needs a sparsifier, such as Proximal(...), got {type(sparsifier).__name__}"
        )
        raise TypeError(message)
    if isinstance(optimizer, LBFGS):
        message = (
            "LBFGS searches along lines and has no learning rate that a sparsifier could take: "
            "use SGD or Adam"
        )
        raise TypeError(message)
    if any(one.sparsifier is sparsifier for one in vars(optimizer).get(_ATTACHED, [])):
        message = (
            f"{type(sparsifier).__name__} is already attached to this optimizer: "
            "call detach() first, or make another one"
        )
        raise ValueError(message)
    return Attachment(sparsifier, sparsifier.bind(optimizer, model), optimizer)


def attachments_of(optimizer: Optimizer) -> list[Attachment[Any]]:
    """What is attached to an optimizer, in the order in which it acts."""
    return list(vars(optimizer).get(_ATTACHED, []))
