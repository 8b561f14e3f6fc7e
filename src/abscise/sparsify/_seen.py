"""ForwardWatch: what a model was called with, held by reference until it is observed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from abscise.sparsify._weights import unwrapped

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """One forward pass of a model.

    Args:
        args: What it was called with.
        kwargs: Likewise.
        random: The states of the generators before it: device -> state.
        norms: Id of each batch norm that took the statistics of its batch -> what it read, call by
            call.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    random: Mapping[torch.device, Tensor]
    norms: dict[int, list[Tensor]] = field(default_factory=dict)


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
        self._handles: list[RemovableHandle] = []
        self._devices = {p.device for p in model.parameters() if p.device.type in ("cpu", "cuda")}

    def start(self) -> None:
        """Hook the model."""
        self._handles = [self._model.register_forward_pre_hook(self._root, with_kwargs=True)]
        if hasattr(self._model, "_orig_mod"):  # of torch.compile: its inside cannot be hooked
            return
        norms = [one for one in unwrapped(self._model).modules() if isinstance(one, NORMS)]
        self._handles += [one.register_forward_pre_hook(self._norm) for one in norms]

    def stop(self) -> None:
        """The model has the hooks it had before `start`, and nothing is held."""
        self._seen = None
        while self._handles:
            self._handles.pop().remove()

    def take(self) -> Seen | None:
        """The last forward pass with gradients since the last call, which is then forgotten."""
        seen, self._seen = self._seen, None
        return seen

    def _root(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.is_grad_enabled() and self._wanted():
            self._seen = Seen(args, kwargs, {one: _state(one) for one in self._devices})

    def _norm(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if self._seen is not None and torch.is_grad_enabled() and takes_batch(module):
            self._seen.norms.setdefault(id(module), []).append(args[0].detach())


def _state(device: torch.device) -> Tensor:
    if device.type == "cpu":
        return torch.get_rng_state()
    return torch.cuda.get_rng_state(device)
