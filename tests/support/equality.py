"""The equality check, independent of `abscise.verify`, and the twin that shows that it can fail.

Differences are divided by the spread of the dense outputs over the inputs, so that a network that
gives nearly the same output for every input cannot hide a wrong removal.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from support.oracle import is_constant, is_read, unit_axis

TOLERANCE = 1e-10
CONCLUSIVE = 1e-3


@dataclass(frozen=True, slots=True)
class Difference:
    """The largest difference over all outputs, and whether the outputs tell inputs apart."""

    relative: float
    conclusive: bool


def outputs(model: nn.Module, arguments: Any) -> list[Tensor]:
    """Every output tensor of a call with a tensor, a tuple or a dict of keyword arguments."""
    with torch.no_grad():
        if isinstance(arguments, Tensor):
            result = model(arguments)
        elif isinstance(arguments, dict):
            result = model(**arguments)
        else:
            result = model(*arguments)
    return [leaf.detach() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]


def difference(dense: nn.Module, compacted: nn.Module, batches: Sequence[Any]) -> Difference:
    """Compare two models on every batch; the first batch (of at least 4) gives the spread."""
    reference = [leaf.double() for leaf in outputs(dense, batches[0])]
    spreads = [float((leaf - leaf.mean(0)).abs().max()) for leaf in reference]
    sizes = [float(leaf.abs().max()) for leaf in reference]
    conclusive = all(
        spread > CONCLUSIVE * size for spread, size in zip(spreads, sizes, strict=True)
    )
    worst = 0.0
    for batch in batches:
        pairs = zip(outputs(dense, batch), outputs(compacted, batch), strict=True)
        for index, (old, new) in enumerate(pairs):
            assert old.shape == new.shape
            assert old.dtype == new.dtype
            assert bool(torch.isfinite(old).all())
            gap = float((old.double() - new.double()).abs().max()) if old.numel() else 0.0
            scale = spreads[index] if conclusive else max(sizes[index], spreads[index], 1e-30)
            worst = max(worst, float("inf") if math.isnan(gap) else gap / scale)
    return Difference(worst, conclusive)


def assert_equal(dense: nn.Module, compacted: nn.Module, *batches: Any, seed: int = 0) -> None:
    """Equal on all `batches`, and not equal as soon as one live unit is wrongly zeroed."""
    found = difference(dense, compacted, batches)
    assert found.relative <= TOLERANCE, f"outputs differ by {found.relative:.3g} of their spread"
    if found.conclusive:
        assert_twin_fails(dense, compacted, *batches, seed=seed)


def assert_twin_fails(dense: nn.Module, compacted: nn.Module, *batches: Any, seed: int = 0) -> None:
    """Zero live hidden units of `compacted`, one at a time, until the check misses by 100 times.

    A unit that is read may sleep on these few inputs, so the first one need not show; but where the
    outputs depend on the inputs, one of them must.
    """
    for twin in wrong_twins(compacted, batches[0], seed):
        if difference(dense, twin, batches).relative > 100 * TOLERANCE:
            return
    message = "live units were removed and nothing was noticed"
    raise AssertionError(message)


def wrong_twins(model: nn.Module, batch: Any, seed: int) -> Iterator[nn.Module]:
    """Copies of `model` in each of which one live unit is zero: hidden ones first, at random."""
    layers = [(name, width(module)) for name, module in writers(model)]
    hidden = [(name, index) for name, count in layers[:-1] for index in range(count)]
    Random(seed).shuffle(hidden)
    last = [(name, index) for name, count in layers[-1:] for index in range(count)]
    for name, index in hidden + last:
        if is_read(model, batch, name, index) and not is_constant(model, batch, name, index):
            twin = copy.deepcopy(model)
            silence_(twin.get_submodule(name), index)
            yield twin
    for name, parameter in model.named_parameters():
        if not layers:  # no layers: the forward works on parameters of its own
            twin = copy.deepcopy(model)
            with torch.no_grad():
                _ = twin.get_parameter(name)[parameter.shape[0] // 2].zero_()
            yield twin


def silence_(writer: nn.Module, index: int) -> None:
    """From now on, unit `index` of the output of `writer` is zero."""

    def zero(_module: nn.Module, _arguments: Any, output: Tensor) -> Tensor:
        output = output.clone()
        _ = output.select(unit_axis(output), index).zero_()
        return output

    _ = writer.register_forward_hook(zero)


def width(writer: nn.Module) -> int:
    """How many units a convolution or linear layer makes, by its own account."""
    count = writer.out_features if isinstance(writer, nn.Linear) else writer.out_channels
    assert isinstance(count, int)
    return count


WRITERS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


def writers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The layers that make units, in the order of registration."""
    return [(name, module) for name, module in model.named_modules() if isinstance(module, WRITERS)]


def unit_rows(writer: nn.Module) -> Tensor:
    """The weight of `writer` seen as (units, ...), whatever its layout; a view."""
    weight = writer.get_parameter("weight")
    if not isinstance(writer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        return weight
    if writer.groups != 1:
        message = "grouped transposed convolutions have no plain rows"
        raise NotImplementedError(message)
    return weight.transpose(0, 1)


def unit_count(writer: nn.Module) -> int:
    """How many units `writer` makes."""
    return int(unit_rows(writer).shape[0])


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Assert that the block leaves weights, modes, hooks and the random state bitwise alone."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    identities = [id(parameter) for parameter in model.parameters()]
    traits = _traits(model)
    state = torch.get_rng_state()
    yield
    after = model.state_dict()
    assert list(before) == list(after)
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name
        assert tensor.dtype == after[name].dtype
        assert tensor.stride() == after[name].stride()
    assert identities == [id(parameter) for parameter in model.parameters()]
    assert traits == _traits(model)
    assert torch.equal(state, torch.get_rng_state())


def _traits(model: nn.Module) -> list[Any]:
    """What tracing could leave behind on a module, apart from its weights."""
    return [
        (
            name,
            type(module),
            module.training,
            "forward" in module.__dict__,
            *(
                tuple(getattr(module, hooks))
                for hooks in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
            ),
            [
                (key, value.requires_grad, value.grad is None)
                for key, value in module.named_parameters(recurse=False)
            ],
        )
        for name, module in model.named_modules()
    ]
