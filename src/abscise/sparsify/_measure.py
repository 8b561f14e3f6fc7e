"""Sensitivities of parameters, measured: by example or by batch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from abscise.sparsify._attribution import Attribution, Group, attribute, owners_of
from abscise.sparsify._backward import can_batch, chunks, gradients
from abscise.sparsify._gradients import Deltas, Host, example_gradients, outer_factors, rule_of
from abscise.sparsify._parts import Part, Product, Whole
from abscise.sparsify._rerun import Call, Calls, Rerun

CACHE_BYTES = 1 << 20
"""On a CPU, gradients of single examples are summed up before they leave the cache."""

LogitsOf = Callable[[Any], Tensor]
Measured = dict[str, Part]


class Measure(Protocol):
    """What a sensitivity is made of."""

    def __call__(self, rerun: Rerun, chosen: Tensor, logits_of: LogitsOf) -> Measured:
        """The mean over passes and examples; `chosen` is `(passes, examples)`."""
        ...


class ExampleMean:
    """E|.|: the mean over examples and passes of `|d output / d parameter|`."""

    def __init__(
        self, model: nn.Module, parameters: Mapping[str, Tensor], chunk_bytes: int
    ) -> None:
        """Nothing is run yet."""
        self._model = model
        self._parameters = parameters
        self._chunk_bytes = chunk_bytes
        modules = dict(model.named_modules())
        held = owners_of(model, parameters).values()
        self._owners = [modules[path] for path in dict.fromkeys(p for of in held for p, _ in of)]
        self._known: dict[tuple[int, ...], Attribution] = {}
        self._recorded: tuple[nn.Module, ...] = tuple(self._owners)

    def __call__(self, rerun: Rerun, chosen: Tensor, logits_of: LogitsOf) -> Measured:
        """See `Measure`."""
        logits, calls, source = self._attributed(rerun, logits_of)
        sums = [_summing(group, calls, self._chunk_bytes) for group in source.groups]
        edges = [edge for one in sums for call in one.calls for edge in call.edges]
        at = [edge.at for edge in edges]
        size = sum(edge.shape.numel() for edge in edges)
        single = list(source.single)
        for ahead in chunks(chosen, logits, size, self._chunk_bytes):
            found = iter(gradients(logits, at, ahead, batched=source.batched))
            for one in sums:
                deltas = [[next(found) for _ in call.edges] for call in one.calls]
                unproved = not one.group.certain and _any(deltas)
                if one.group.names[0] not in single and (unproved or not _added(one, deltas)):
                    single += one.group.names
            del found
        if len(single) > len(source.single):  # zeros have come to life, or dropout was switched on
            self._forget()
        parts: Measured = {}
        for one in sums:
            parts |= one.parts(chosen.numel())
        parts |= self._one_by_one(single, chosen, logits, source)
        return {  # what is not there, the logits do not depend on, or it has been frozen
            name: parts[name]
            if name in parts and value.requires_grad
            else Whole(torch.zeros_like(value))
            for name, value in self._parameters.items()
        }

    def _attributed(self, rerun: Rerun, logits_of: LogitsOf) -> tuple[Tensor, Calls, Attribution]:
        """A run, and where gradients come from when modules are called as often as in it."""
        output, calls = rerun.run(self._recorded)
        logits = logits_of(output)
        counts = tuple([len(calls.get(id(module), ())) for module in self._owners])
        source = self._known.get(counts)
        if source is None or not source.fits(calls, logits.shape[0]) or self._more(source, logits):
            output, calls = rerun.run(self._model.modules())
            logits = logits_of(output)
            source = attribute(self._model, logits, calls, self._parameters)
            self._learn(counts, source)
        return logits, calls, source

    def _more(self, source: Attribution, logits: Tensor) -> bool:
        """Do the logits depend on a parameter that was nowhere? If not, nothing is run."""
        if not source.others:
            return False
        at = [self._parameters[name] for name in source.others]
        zeros = torch.zeros_like(logits)[None]
        return any(one is not None for one in gradients(logits, at, zeros, batched=False))

    def _learn(self, counts: tuple[int, ...], source: Attribution) -> None:
        self._known[counts] = source
        known = [group for one in self._known.values() for group in one.groups]
        hosts = [host.module for group in known for host in group.hosts]
        recorded = {id(module): module for module in (*self._owners, *hosts)}
        self._recorded = tuple(recorded.values())

    def _forget(self) -> None:
        self._known.clear()
        self._recorded = tuple(self._owners)

    def _one_by_one(
        self, names: Sequence[str], chosen: Tensor, logits: Tensor, source: Attribution
    ) -> Measured:
        """By a backward pass for each example, as many at a time as fit."""
        if not names:
            return {}
        at = [self._parameters[name] for name in names]
        total = {name: torch.zeros_like(self._parameters[name]) for name in names}
        examples = torch.eye(chosen.shape[1], device=logits.device, dtype=logits.dtype)
        shape = (-1, *[1] * (logits.ndim - 1))
        batched = source.batched and can_batch(logits, at)
        size = 2 * logits.element_size() * (logits.numel() + sum(one.numel() for one in at))
        for ahead in chunks(chosen, logits, 0, 0):
            for some in examples.split(max(1, self._chunk_bytes // size)):
                alone = ahead * some.view(len(some), *shape)
                found = gradients(logits, at, alone, batched=batched)
                for value, each in zip(total.values(), found, strict=True):
                    if each is not None:
                        _ = value.add_(each.abs().sum(0), alpha=1 / chosen.numel())
        return {name: Whole(value) for name, value in total.items()}


class BatchMean:
    """|E.|: the absolute value of the derivatives' mean over the examples, averaged over passes."""

    def __init__(self, parameters: Mapping[str, Tensor], chunk_bytes: int) -> None:
        """Nothing is run yet."""
        self._parameters = parameters
        self._chunk_bytes = chunk_bytes

    def __call__(self, rerun: Rerun, chosen: Tensor, logits_of: LogitsOf) -> Measured:
        """See `Measure`."""
        output, _ = rerun.run(())
        logits = logits_of(output)
        at = list(self._parameters.values())
        total = {name: torch.zeros_like(value) for name, value in self._parameters.items()}
        batched = len(chosen) > 1 and can_batch(logits, at)
        size = sum(one.numel() for one in at)
        for ahead in chunks(chosen, logits, size, self._chunk_bytes):
            each = gradients(logits, at, ahead, batched=batched)
            for value, found in zip(total.values(), each, strict=True):
                if found is not None:
                    _ = value.add_(found.abs().sum(0))
        return {name: Whole(value.div_(chosen.numel())) for name, value in total.items()}


@dataclass(frozen=True, slots=True, eq=False)
class _Outer:
    """The gradients are outer products: one product of matrices instead of one for each example.

    Source: |a b| = |a| |b|, so a sum of |delta_i| |x_j| over examples is a product of matrices.
    """

    group: Group
    host: Host
    calls: tuple[Call, ...]
    factors: Tensor
    ahead: list[Tensor]
    plain: ClassVar[bool] = True

    def add(self, deltas: Sequence[Deltas]) -> None:
        """The sum over passes of the absolute values."""
        delta = deltas[0][0]
        if delta is None:
            return
        size = delta[0].abs() if delta.shape[0] == 1 else delta.abs().sum(0)
        size = size if size.ndim == 2 else size.flatten(1)
        self.ahead[:] = [self.ahead[0].add_(size) if self.ahead else size]

    def parts(self, count: int) -> Measured:
        """The mean over `count` examples and passes."""
        if not self.ahead:  # it was called, and no gradient arrived
            return {}
        mean = self.ahead[0].div_(count)
        groups = self.factors.shape[1]
        left = mean.view(mean.shape[0], groups, -1).permute(1, 2, 0)
        return {
            name: Whole(mean.sum(0))
            if leaf == "bias"
            else Product(left, self.factors.abs().transpose(0, 1))
            for name, leaf in self.host.leaves.items()
        }


@dataclass(frozen=True, slots=True, eq=False)
class _Pieces:
    """The gradients of some examples and passes at a time.

    Args:
        group: Of parameters.
        hosts: The module of each call.
        calls: Of all its hosts.
        chunk_bytes: For the gradients.
        sums: Of their sizes so far.
        plain: Has every call a formula?
    """

    group: Group
    hosts: tuple[Host, ...]
    calls: tuple[Call, ...]
    chunk_bytes: int
    sums: dict[str, Tensor]
    plain: bool

    def add(self, deltas: Sequence[Deltas]) -> None:
        """All examples and passes, piece by piece."""
        first = next((one for of in deltas for one in of if one is not None), None)
        if first is None:
            return
        for passes, rows in self._spans(first.shape[0], first.shape[1]):
            joined: dict[str, Tensor] = {}
            for host, call, of in zip(self.hosts, self.calls, deltas, strict=True):
                some = [None if one is None else one[passes] for one in of]
                for name, each in example_gradients(host, call, some, rows).items():
                    joined[name] = joined[name] + each if name in joined else each
            for name, each in joined.items():
                sizes = each.abs_() if self.plain else each.detach().abs()
                alone = sizes.shape[:2] == (1, 1)
                _ = self.sums[name].add_(sizes[0, 0] if alone else sizes.sum((0, 1)))

    def _spans(self, passes: int, examples: int) -> Iterator[tuple[slice, slice]]:
        one = sum(value.numel() * value.element_size() for value in self.sums.values())
        some = min(passes, max(1, self.chunk_bytes // one))
        rows = min(examples, max(1, self.chunk_bytes // (one * some)))
        for start in range(0, passes, some):
            for row in range(0, examples, rows):
                yield slice(start, start + some), slice(row, row + rows)

    def parts(self, count: int) -> Measured:
        """The mean over `count` examples and passes."""
        return {name: Whole(value.div_(count)) for name, value in self.sums.items()}


def _summing(group: Group, calls: Calls, chunk_bytes: int) -> _Outer | _Pieces:
    there = group.calls(calls)
    host, call = there[0]
    factors = outer_factors(host, call) if len(there) == 1 else None
    if factors is not None:
        return _Outer(group, host, (call,), factors, [])
    sums = {
        name: torch.zeros_like(host.module.get_parameter(leaf))
        for name, leaf in host.leaves.items()
    }
    quick = all(rule_of(*one) is not None for one in there)
    small = quick and next(iter(sums.values())).device.type == "cpu"
    bound = min(chunk_bytes, CACHE_BYTES) if small else chunk_bytes
    hosts, each = zip(*there, strict=True)
    return _Pieces(group, hosts, each, bound, sums, quick)


def _added(one: _Outer | _Pieces, deltas: Sequence[Deltas]) -> bool:
    """Could they be added? Not where a module that is run again has begun to draw numbers."""
    try:
        one.add(deltas)
    except torch.OutOfMemoryError:
        raise
    except Exception:
        if one.plain:
            raise
        return False
    return True


def _any(deltas: Sequence[Deltas]) -> bool:
    return any(one is not None and bool(one.any()) for of in deltas for one in of)
