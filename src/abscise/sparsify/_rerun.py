"""rerun: a forward pass once more, on some of its examples, that leaves no trace in the model."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from abscise._inputs import map_tensors, tensors_in
from abscise.sparsify._seen import (
    NORMS,
    Seen,
    read_of,
    rewind,
    state_of,
    takes_batch,
    versions_of,
    watches_on,
)

Statistics = tuple[Tensor, Tensor]


class Edge(NamedTuple):
    """One output of one call of a module, as it was before anything changed it in place.

    Args:
        place: Which of the tensors that the module returned.
        shape: Of it.
        at: Where its gradient is taken.
    """

    place: int
    shape: torch.Size
    at: GradientEdge


class Call(NamedTuple):
    """One call of a module.

    Args:
        args: What it was called with.
        kwargs: Likewise.
        edges: Its outputs that require grad.
        versions: Of the tensors it was called with, by which changes in place are seen.
        statistics: Of a batch norm: mean and variance that it normalised with.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    edges: tuple[Edge, ...]
    versions: tuple[int, ...]
    statistics: Statistics | None

    def unchanged(self) -> bool:
        """Are its inputs still what it read?"""
        return self.versions == versions_of(self.args, self.kwargs)


Calls = dict[int, list[Call]]
"""Id of a module -> its calls, in order."""


@dataclass(frozen=True, slots=True, eq=False)
class Rerun:
    """A model that may be run again on what it has seen; made by `undisturbed`.

    Args:
        model: Without wrappers.
        seen: Its forward pass.
        examples: How many examples that had; a tensor with so many rows is taken for a batch.
        rows: Those that are run again; None: all.
        norms: Batch norms that took the statistics of their batch.
    """

    model: nn.Module
    seen: Seen
    examples: int
    rows: Tensor | None
    norms: tuple[nn.Module, ...]

    def run(self, recorded: Iterable[nn.Module]) -> tuple[Any, Calls]:
        """What the model returns, and the calls of `recorded` modules. The same at every call."""
        calls: Calls = {}
        counts: dict[int, int] = {}

        def record(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            calls.setdefault(id(module), []).append(_call(module, args, kwargs, output))

        def hold(module: nn.Module, args: Any, kwargs: Any) -> None:
            place = counts[id(module)] = counts.get(id(module), -1) + 1
            before = self.seen.norms.get(id(module), [])
            read = before[place] if place < len(before) else read_of(args, kwargs).detach()
            module.running_mean, module.running_var = _statistics(read)

        rewind(self.seen.random)
        handles = [one.register_forward_pre_hook(hold, with_kwargs=True) for one in self.norms]
        try:
            handles += [one.register_forward_hook(record, with_kwargs=True) for one in recorded]
            args, kwargs = map_tensors((self.seen.args, dict(self.seen.kwargs)), self._chosen)
            return self.model(*args, **kwargs), calls
        finally:
            for handle in handles:
                handle.remove()

    def _chosen(self, tensor: Tensor) -> Tensor:
        """The chosen rows of a batch; half precision becomes that of the weights."""
        found = tensor.detach()
        if found.dtype in (torch.float16, torch.bfloat16):
            found = found.to(next(self.model.parameters()).dtype)
        if self.rows is None or found.ndim == 0 or found.shape[0] != self.examples:
            return found
        return found.index_select(0, self.rows.to(found.device))


@contextmanager
def undisturbed(
    model: nn.Module, seen: Seen, examples: int, rows: Tensor | None
) -> Iterator[Rerun]:
    """Inside, the model may be run again: gradients on, autocast off, batch statistics held.

    Random numbers are those that the forward pass drew, so on the same examples dropout has the
    same masks. Afterwards, also after an exception, buffers, modes, random states and autocast are
    as they were. Nothing that watches the model sees these runs: of several sparsifiers on it, all
    observe what the user ran.
    """
    modules = list(model.modules())
    norms = tuple([one for one in modules if isinstance(one, NORMS) and takes_batch(one)])
    with ExitStack() as stack:
        if not torch.is_grad_enabled():
            stack.enter_context(torch.enable_grad())
        for kind in {device.type for device in seen.random}:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        for watch in watches_on(modules):
            stack.enter_context(watch.paused())
        stack.callback(rewind, {device: state_of(device) for device in seen.random})
        _keep_buffers(modules, stack)
        for norm in norms:
            if norm.training:
                stack.callback(setattr, norm, "training", norm.training)
                norm.training = False
        yield Rerun(model, seen, examples, rows, norms)


def _keep_buffers(modules: Iterable[nn.Module], stack: ExitStack) -> None:
    """Until the stack is left, the modules have copies of their buffers."""
    copies: dict[int, Tensor] = {}
    for module in modules:
        own = module._buffers  # noqa: SLF001 - most have none, and named_buffers takes its time
        for name, buffer in list(module.named_buffers(recurse=False)) if own else ():
            copy = copies.setdefault(id(buffer), buffer.clone())
            stack.callback(setattr, module, name, buffer)
            setattr(module, name, copy)
        if isinstance(module, NORMS) and module.running_mean is None:
            stack.callback(setattr, module, "running_mean", None)
            stack.callback(setattr, module, "running_var", None)


def _call(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Call:
    edges = [
        Edge(place, tensor.shape, get_gradient_edge(tensor))
        for place, tensor in enumerate(tensors_in(output))
        if tensor.requires_grad
    ]
    statistics = None
    if isinstance(module, NORMS) and module.running_mean is not None:
        assert module.running_var is not None
        statistics = (module.running_mean, module.running_var)
    return Call(args, kwargs, tuple(edges), versions_of(args, kwargs), statistics)


def _statistics(read: Tensor) -> Statistics:
    """Mean and variance of each channel; in two fast passes, which `var_mean` has not on a CPU."""
    others = [dim for dim in range(read.ndim) if dim != 1]
    values = read.float() if read.dtype in (torch.float16, torch.bfloat16) else read
    mean = values.mean(others)
    shape = [1, -1, *[1] * (read.ndim - 2)]
    return mean, (values - mean.view(shape)).square_().mean(others)
