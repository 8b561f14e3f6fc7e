"""Which calls of which modules make up the gradients of single examples, and the proof of it.

A parameter is credited to the modules that hold it, or, where these are not called or do something
else with it, to the smallest module around them. Each credit is compared with autograd's gradients
of single examples before it is used. What none explains is left to backward passes of single
examples, which are right for every network and slow.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from abscise.sparsify._backward import can_batch, gradients
from abscise.sparsify._gradients import Host, example_gradients, rule_of
from abscise.sparsify._rerun import Call, Calls

Owners = tuple[tuple[str, str], ...]
"""The modules that hold a parameter, and its name in each."""


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Parameters whose gradients come from all calls of the same modules.

    Args:
        names: Of the parameters.
        hosts: The modules.
        certain: Was there a gradient other than 0 by which the credit was proved?
    """

    names: tuple[str, ...]
    hosts: tuple[Host, ...]
    certain: bool = True

    def calls(self, calls: Calls) -> list[tuple[Host, Call]]:
        """All calls of the hosts."""
        return [(host, call) for host in self.hosts for call in calls.get(id(host.module), [])]

    def fits(self, calls: Calls, examples: int) -> bool:
        """Has every output of the hosts one row for each example?"""
        there = self.calls(calls)
        return bool(there) and all(
            call.edges
            and call.unchanged()
            and all(edge.shape[:1] == (examples,) for edge in call.edges)
            for _, call in there
        )


@dataclass(frozen=True, slots=True, eq=False)
class Attribution:
    """Where the gradients of all parameters come from.

    Args:
        groups: Those that calls of modules explain.
        single: Those that only backward passes of single examples give.
        batched: May backward passes be batched?
        others: Those on which the logits did not depend.
    """

    groups: tuple[Group, ...]
    single: tuple[str, ...]
    batched: bool
    others: tuple[str, ...]

    def fits(self, calls: Calls, examples: int) -> bool:
        """Have the calls the shapes that were proved?"""
        return all(group.fits(calls, examples) for group in self.groups)


@dataclass(frozen=True, slots=True, eq=False)
class _Probe:
    """Backward passes from two examples, with random cotangents: one pass for each of `rows`."""

    rows: tuple[int, ...]
    deltas: Mapping[int, list[Tensor | None]]
    gradients: Mapping[str, Tensor | None]


def owners_of(model: nn.Module, parameters: Mapping[str, Tensor]) -> dict[str, Owners]:
    """Parameter name -> the modules that hold it; a tied parameter has several.

    Raises:
        ValueError: None holds it any more.
    """
    found: dict[int, Owners] = {}
    for path, module in model.named_modules():
        for leaf, tensor in module.named_parameters(recurse=False, remove_duplicate=False):
            found[id(tensor)] = (*found.get(id(tensor), ()), (path, leaf))
    for name, tensor in parameters.items():
        if id(tensor) not in found:
            message = (
                f"observe: {name} is no parameter of the model any more: it was replaced after "
                "attach; detach, and attach to an optimizer that holds the new one"
            )
            raise ValueError(message)
    return {name: found[id(tensor)] for name, tensor in parameters.items()}


def attribute(
    model: nn.Module, logits: Tensor, calls: Calls, parameters: Mapping[str, Tensor]
) -> Attribution:
    """Credit every parameter. Only inside `undisturbed`; all modules must have been recorded."""
    batched = can_batch(logits, _edges(calls))
    probe = _probe(logits, calls, parameters, batched=batched)
    owners = owners_of(model, parameters)
    together: dict[tuple[str, ...], list[str]] = {}
    for name, of in owners.items():
        if probe.gradients[name] is not None:
            together.setdefault(tuple(path for path, _ in of), []).append(name)
    modules = dict(model.named_modules())
    groups: list[Group] = []
    single: list[str] = []
    for names in together.values():
        tried = _candidates(modules, {name: owners[name] for name in names})
        proved = (_proved(group, calls, probe, len(logits)) for group in tried)
        found = next((group for group in proved if group is not None), None)
        if found is None:
            single += names
        else:
            groups.append(found)
    others = [name for name in owners if probe.gradients[name] is None]
    return Attribution(tuple(groups), tuple(single), batched, tuple(others))


def _edges(calls: Calls) -> list[torch.autograd.graph.GradientEdge]:
    return [edge.at for of in calls.values() for call in of for edge in call.edges]


def _probe(
    logits: Tensor, calls: Calls, parameters: Mapping[str, Tensor], *, batched: bool
) -> _Probe:
    rows = tuple(sorted({0, len(logits) - 1}))
    source = torch.Generator().manual_seed(0)
    ahead = logits.new_zeros((len(rows), *logits.shape))
    for place, row in enumerate(rows):
        noise = torch.randn(logits.shape[1:], generator=source, dtype=torch.float64)
        _ = ahead[place, row].copy_(noise)
    found = iter(gradients(logits, _edges(calls), ahead, batched=batched))
    deltas = {id(call): [next(found) for _ in call.edges] for of in calls.values() for call in of}
    # One by one: an operation inside a module may batch its inputs' gradient but not its weights'.
    own = gradients(logits, list(parameters.values()), ahead, batched=False)
    whole = [None if one is None else one.to_dense() for one in own]  # of sparse embeddings
    return _Probe(rows, deltas, dict(zip(parameters, whole, strict=True)))


def _candidates(modules: Mapping[str, nn.Module], owners: Mapping[str, Owners]) -> Iterator[Group]:
    """The modules that hold the parameters; then those around all of them, small ones first."""
    names = tuple(owners)
    paths = [path for path, _ in owners[names[0]]]
    hosts = [
        Host(path, modules[path], {name: owners[name][place][1] for name in names})
        for place, path in enumerate(paths)
    ]
    yield Group(names, tuple(hosts))
    around = paths[0]
    while around:
        around = around.rpartition(".")[0]
        inside = f"{around}." if around else ""
        if all(path.startswith(inside) for path in paths):
            leaves = {name: ".".join(_full(owners[name][0]))[len(inside) :] for name in names}
            yield Group(names, (Host(around, modules[around], leaves),))


def _full(owner: tuple[str, str]) -> Iterator[str]:
    return (part for part in owner if part)


def _proved(group: Group, calls: Calls, probe: _Probe, examples: int) -> Group | None:
    """The group, if what its calls give are autograd's gradients of single examples."""
    called = tuple(host for host in group.hosts if id(host.module) in calls)
    group = replace(group, hosts=called)
    if not group.fits(calls, examples):
        return None
    there = group.calls(calls)
    for _, call in there:
        if not all(_separate(probe, delta) for delta in probe.deltas[id(call)]):
            return None
    noise = _noise([probe.gradients[name] for name in group.names])
    found = _summed(there, probe, examples)
    if found is None or not all(
        _same(found.get(name), probe.gradients[name], noise) for name in group.names
    ):
        return None
    return replace(group, certain=all(_reached(probe.deltas[id(call)]) for _, call in there))


def _separate(probe: _Probe, delta: Tensor | None) -> bool:
    """Are all rows 0 but that of the example where the pass began?"""
    return delta is None or not any(
        bool(delta[place, :row].any()) or bool(delta[place, row + 1 :].any())
        for place, row in enumerate(probe.rows)
    )


def _reached(deltas: list[Tensor | None]) -> bool:
    return any(delta is not None and bool(delta.any()) for delta in deltas)


def _summed(
    there: list[tuple[Host, Call]], probe: _Probe, examples: int
) -> dict[str, Tensor] | None:
    """The gradients of the probed examples by all calls; None if a module cannot be run again.

    `(rows, passes, ...)`, one pass more than rows, as in use: a module may do one pass aright only.
    """
    total: dict[str, Tensor] = {}
    passes = [*range(len(probe.rows)), 0]
    rows = slice(0, examples, max(1, examples - 1))
    for host, call in there:
        deltas = [None if d is None else d[passes] for d in probe.deltas[id(call)]]
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # torch warns where vmap would be slow
            try:
                found = example_gradients(host, call, deltas, rows)
            except torch.OutOfMemoryError:
                raise
            except Exception:
                if rule_of(host, call) is not None:
                    raise
                return None  # anything may go wrong in a module of the user's under vmap
        for name, one in found.items():
            total[name] = total[name] + one if name in total else one
    return total


def _noise(gradients: Sequence[Tensor | None]) -> float:
    """What rounding may leave of a gradient that is 0, such as that of an attention's key bias."""
    there = [one for one in gradients if one is not None]
    greatest = max((float(one.abs().max()) for one in there), default=0.0)
    return 100 * torch.finfo(there[0].dtype).eps * greatest if there else 0.0


def _same(found: Tensor | None, whole: Tensor | None, noise: float) -> bool:
    """Are they equal but for rounding? What is missing is mostly as large as the gradient is."""
    assert whole is not None
    if found is None:
        return not bool(whole.any())
    if found.shape[2:] != whole.shape[1:]:
        return False
    coarse = 1e-3 if whole.device.type == "cpu" else 1e-2  # convolutions may be made of TF32
    slack = coarse if whole.dtype == torch.float32 else 1e-7
    for row, each in enumerate(found):
        for place, one in enumerate(each):
            # A pass begins at one example, so nothing of it comes from another.
            own = place % len(found) == row
            expected = whole[row] if own else torch.zeros_like(whole[row])
            bound = slack * whole[row].abs().max() + noise + torch.finfo(whole.dtype).tiny
            if not bool(((one - expected).abs() <= bound).all()):
                return False
    return True
