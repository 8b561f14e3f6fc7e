"""Gradients of single examples with respect to the parameters of one module, from one call of it.

Linear layers, convolutions, batch norms and PReLU have formulas; any other module is run again,
example by example under `torch.func.vmap`. All give `(examples, passes, *shape of the parameter)`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import pad

from abscise._inputs import map_tensors, tensors_in
from abscise.sparsify._rerun import Call

Deltas = Sequence[Tensor | None]
"""For each edge of a call the gradients of the outputs: `(passes, examples, ...)`; None: none."""
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
Found = dict[str, Tensor]
Rule = Callable[[Any, Call, Tensor, Tensor], Found]


@dataclass(frozen=True, slots=True, eq=False)
class Host:
    """A module, each call of which gives a part of the gradients of some parameters.

    Args:
        path: Its name in the model.
        module: Itself.
        leaves: Name of the parameter in the model -> its name in the module.
    """

    path: str
    module: nn.Module
    leaves: Mapping[str, str]


def example_gradients(host: Host, call: Call, deltas: Deltas, rows: slice) -> Found:
    """Parameter name -> the gradients of the examples `rows`, `(examples, passes, ...)`.

    Only inside `undisturbed`. What a rule gives is no view of what it was given.
    """
    rule = rule_of(host, call)
    if rule is None:
        return _recomputed(host, call, deltas, rows)
    delta = deltas[0]
    if delta is None:
        return {}
    found = rule(host.module, call, call.args[0].detach()[rows], delta[:, rows])
    return {name: found[leaf] for name, leaf in host.leaves.items()}


def rule_of(host: Host, call: Call) -> Rule | None:
    """The formula for this call; None: there is none, and it is run again."""
    module = host.module
    direct = all(
        leaf in ("weight", "bias") and isinstance(getattr(module, leaf), nn.Parameter)
        for leaf in host.leaves.values()
    )
    alone = not call.kwargs and len(call.args) == len(call.edges) == 1
    if not direct or not alone or call.args[0].ndim != len(call.edges[0].shape):
        return None
    if type(module) is nn.Linear:
        return _linear
    if type(module) in CONVOLUTIONS and _is_plain(module, call.args[0]):
        return _convolution
    return _channelwise(module, call)


def _channelwise(module: nn.Module, call: Call) -> Rule | None:
    """Of what does the same to all of a channel."""
    if type(module) is nn.PReLU and call.args[0].ndim > 1:
        return _prelu
    return _batch_norm if type(module) in NORMS and call.statistics is not None else None


def _is_plain(module: Any, read: Tensor) -> bool:
    """Is it padded with zeros, if at all, and does it read a batch?"""
    batched = read.ndim == len(module.kernel_size) + 2
    return batched and module.padding_mode == "zeros" and not isinstance(module.padding, str)


def outer_factors(host: Host, call: Call) -> Tensor | None:
    """`(examples, groups, inputs)` if every weight gradient is an outer product of output and this.

    So it is where a linear layer reads one vector, and where a convolution has one position.
    """
    rule = rule_of(host, call)
    if rule is _linear and call.args[0].ndim == 2:
        return call.args[0].detach()[:, None]
    if rule is _convolution and prod(call.edges[0].shape[2:]) == 1:
        return patches(host.module, call.args[0].detach())[..., 0]
    return None


def patches(module: Any, read: Tensor) -> Tensor:
    """`(examples, groups, inputs of a filter, positions)`, padded with zeros."""
    sides = [side for size in reversed(module.padding) for side in (size, size)]
    found = pad(read, sides) if any(sides) else read
    count = len(module.kernel_size)
    for dim, (size, step, gap) in enumerate(
        zip(module.kernel_size, module.stride, module.dilation, strict=True), start=2
    ):
        found = found.unfold(dim, gap * (size - 1) + 1, step)[..., ::gap]
    order = (0, 1, *range(2 + count, 2 + 2 * count), *range(2, 2 + count))
    examples, groups = len(read), module.groups
    inputs = read.shape[1] // groups * prod(module.kernel_size)
    return found.permute(order).reshape(examples, groups, inputs, -1)


def _linear(module: nn.Linear, _call: Call, read: Tensor, delta: Tensor) -> Found:
    passes, examples, outputs = delta.shape[0], delta.shape[1], module.out_features
    ahead = delta.reshape(passes, examples, -1, outputs).permute(1, 0, 3, 2)
    tokens = read.reshape(examples, -1, module.in_features)
    weight = torch.bmm(ahead.reshape(examples, passes * outputs, -1), tokens)
    return {"weight": weight.view(examples, passes, outputs, -1), "bias": ahead.sum(3)}


def _convolution(module: Any, _call: Call, read: Tensor, delta: Tensor) -> Found:
    passes, examples, outputs = delta.shape[:3]
    groups = module.groups
    ahead = delta.reshape(passes, examples, groups, outputs // groups, -1).permute(1, 2, 0, 3, 4)
    rows = passes * outputs // groups
    behind = patches(module, read).flatten(0, 1)
    found = torch.bmm(ahead.reshape(examples * groups, rows, -1), behind.transpose(1, 2))
    found = found.view(examples, groups, passes, outputs // groups, -1).transpose(1, 2)
    weight = found.reshape(examples, passes, *module.weight.shape)
    return {"weight": weight, "bias": delta.flatten(3).sum(3).transpose(0, 1)}


def _batch_norm(module: Any, call: Call, read: Tensor, delta: Tensor) -> Found:
    assert call.statistics is not None
    shape = [1, -1, *[1] * (read.ndim - 2)]
    mean, variance = (one.view(shape) for one in call.statistics)
    normed = (read - mean) * (variance + module.eps).rsqrt()
    others = list(range(3, delta.ndim))

    def summed(values: Tensor) -> Tensor:
        return (values.sum(others) if others else values.clone()).transpose(0, 1)

    return {"weight": summed(delta * normed), "bias": summed(delta)}


def _prelu(module: nn.PReLU, _call: Call, read: Tensor, delta: Tensor) -> Found:
    each = delta * read.clamp(max=0)
    channels = each.reshape(*each.shape[:2], module.num_parameters, -1)
    return {"weight": channels.sum(3).transpose(0, 1)}


def _recomputed(host: Host, call: Call, deltas: Deltas, rows: slice) -> Found:
    """By running the module again on each example alone."""
    there = [
        (edge.place, delta)
        for edge, delta in zip(call.edges, deltas, strict=True)
        if delta is not None
    ]
    if not there:
        return {}
    examples = there[0][1].shape[1]
    given = [one.detach() for one in tensors_in((call.args, call.kwargs))]
    batched = [one.ndim > 0 and len(one) == examples for one in given]
    own = {name: host.module.get_parameter(leaf) for name, leaf in host.leaves.items()}

    def value(weights: Found, tensors: list[Tensor], ahead: list[Tensor]) -> Tensor:
        each = iter(
            one[None] if has_rows else one for one, has_rows in zip(tensors, batched, strict=True)
        )
        args, kwargs = map_tensors((call.args, call.kwargs), lambda _: next(each))
        named = {host.leaves[name]: weight for name, weight in weights.items()}
        outputs = tensors_in(functional_call(host.module, named, args, kwargs))
        parts = [
            (outputs[place] * one[None]).sum() for (place, _), one in zip(there, ahead, strict=True)
        ]
        return torch.stack(parts).sum()

    def gradient(weights: Found, tensors: list[Tensor], ahead: list[Tensor]) -> Found:
        over_passes = vmap(grad(value), (None, None, 0), randomness="error")
        return over_passes(weights, tensors, ahead)

    weights = {name: weight.detach() for name, weight in own.items()}
    tensors = [one[rows] if has_rows else one for one, has_rows in zip(given, batched, strict=True)]
    dims = [0 if has_rows else None for has_rows in batched]
    over_examples = vmap(gradient, (None, dims, 1), randomness="error")
    return over_examples(weights, tensors, [delta[:, rows] for _, delta in there])
