"""ForwardWatch: what a model was called with, held by reference until it is observed."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from typing_extensions import override

from abscise._inputs import tensors_in
from abscise.sparsify._weights import unwrapped

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """One forward pass of a model.

    Args:
        args: What it was called with.
        kwargs: Likewise.
        random: The states of the generators before it: device -> state.
        versions: Of the tensors in them, by which changes in place are seen.
        norms: Id of each batch norm that took the statistics of its batch -> what it read, call by
            call.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    random: Mapping[torch.device, Tensor]
    versions: tuple[int, ...]
    norms: dict[int, list[Tensor]] = field(default_factory=dict)

    def check_unchanged(self) -> None:
        """Refuse inputs that are not any more what the model read.

        Raises:
            ValueError: Something was written into them.
        """
        if versions_of(self.args, self.kwargs) != self.versions:
            message = (
                "observe: the inputs were changed in place since the forward pass began, so that "
                "it cannot be run again on them: let the first operation on them make a copy "
                "(inplace=False), and observe before they are overwritten"
            )
            raise ValueError(message)


def versions_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[int, ...]:
    """How often each tensor that a module was called with was written to."""
    read = tensors_in(args[0] if len(args) == 1 else args)
    if kwargs:
        read += tensors_in(kwargs)
    # As autograd sees it; of what inference mode made it does not keep count.
    return tuple([0 if one.is_inference() else one._version for one in read])  # noqa: SLF001


def read_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """What a batch norm is called with, by place or by name."""
    found: Tensor = args[0] if args else kwargs["input"]
    return found


def takes_batch(norm: nn.Module) -> bool:
    """Does this batch norm normalise with the statistics of its batch?"""
    return norm.training or getattr(norm, "running_mean", None) is None


class ForwardWatch:
    """Pre-hooks on a model and on its batch norms, while started.

    Nothing is copied: the inputs of a batch norm are held by its backward pass, too. Inside a
    compiled model batch norms are not watched.
    """

    def __init__(self, model: nn.Module, wanted: Callable[[], bool]) -> None:
        """Watches nothing yet; `wanted` says whether the next forward pass will be observed."""
        self._model = model
        self._wanted = wanted
        self._seen: Seen | None = None
        self._paused = False
        self._handles: list[RemovableHandle] = []

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        """A copy of the model, or one read from a file, has hooks that do nothing."""
        return _asleep, ()

    def start(self) -> None:
        """Hook the model."""
        self._handles = [
            # Before hooks of the user's, which will run again.
            self._model.register_forward_pre_hook(self._root, with_kwargs=True, prepend=True)
        ]
        if hasattr(self._model, "_orig_mod"):  # of torch.compile: its inside cannot be hooked
            return
        norms = [one for one in unwrapped(self._model).modules() if isinstance(one, NORMS)]
        self._handles += [
            one.register_forward_pre_hook(self._norm, with_kwargs=True) for one in norms
        ]

    def stop(self) -> None:
        """The model has the hooks it had before `start`, and nothing is held."""
        self._seen = None
        while self._handles:
            self._handles.pop().remove()

    def take(self) -> Seen | None:
        """The last forward pass with gradients since the last call, which is then forgotten."""
        seen, self._seen = self._seen, None
        return seen

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside, forward passes are not seen."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def _root(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self._paused and torch.is_grad_enabled() and self._wanted():
            random = {one: state_of(one) for one in _devices(self._model)}
            self._seen = Seen(args, kwargs, random, versions_of(args, kwargs))

    def _norm(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._paused or self._seen is None:
            return
        if torch.is_grad_enabled() and takes_batch(module):
            self._seen.norms.setdefault(id(module), []).append(read_of(args, kwargs).detach())


def watches_on(modules: Iterable[nn.Module]) -> list[ForwardWatch]:
    """Those that would see a call of one of the modules, each once."""
    hooks = [hook for one in modules for hook in one._forward_pre_hooks.values()]  # noqa: SLF001
    owners = [getattr(hook, "__self__", None) for hook in hooks]
    return list(dict.fromkeys(one for one in owners if isinstance(one, ForwardWatch)))


def _asleep() -> ForwardWatch:
    return ForwardWatch(nn.Module(), lambda: False)


def state_of(device: torch.device) -> Tensor:
    """Where its generator is."""
    if device.type == "cpu":
        return torch.get_rng_state()
    return torch.cuda.get_rng_state(device)


def rewind(states: Mapping[torch.device, Tensor]) -> None:
    """Set generators to where they were."""
    for device, state in states.items():
        if device.type == "cpu":
            torch.set_rng_state(state)
        else:
            torch.cuda.set_rng_state(state, device)


def _devices(model: nn.Module) -> set[torch.device]:
    """Where a forward pass may draw numbers: on the CPU in any case, and beside its weights."""
    cpu = {torch.device("cpu")}
    if not torch.cuda.is_initialized():  # then no weight is on a GPU, and none is looked at
        return cpu
    return cpu | {p.device for p in model.parameters() if p.device.type == "cuda"}
