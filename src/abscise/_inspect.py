"""inspect: what is dead in a model, where, and by which evidence. Nothing is changed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor, nn

from abscise._inputs import ExampleInputs, as_inputs
from abscise._measure import slowdown_by_subnormals
from abscise._subnormal import count_subnormal
from abscise.compaction import Plan, make_proposal
from abscise.compaction._edit import cut, named_tensors
from abscise.compaction._slices import WritingSlice, writing_slices
from abscise.compaction._snap import batches_of, silent_units
from abscise.graph import analyse, first_samples

SCALES = (1e-2, 1e-3, 1e-4)
ACTIVATIONS = (1e-4, 1e-12)
_CHUNK = 128


@dataclass(frozen=True, slots=True)
class LayerInspection:
    """One layer; `None` where the evidence does not exist (no BatchNorm, no data).

    Args:
        units: Number of its outputs.
        removable: Units that can be removed now, exactly.
        zero_rows: Units whose incoming row, or BatchNorm scale, is exactly 0.
        small: threshold -> units whose scale (else incoming row) is below it.
        scaled: Is `small` about the scale of a BatchNorm?
        silent: threshold -> units whose |activation| stays at or below it on all the data.
        subnormal: Subnormal numbers among its weights: they slow CPUs down.
        saves: Parameters of this layer and its norm that go: rows of its own removable units, and
            columns that read removable units of other layers.
        stray_zeros: Zeros among its weights, biases and norms left out, that are in no removable
            unit: removal leaves them, and only `save(..., sparse=True)` makes them small.
    """

    layer: str
    units: int
    removable: int
    zero_rows: int
    small: Mapping[float, int]
    scaled: bool
    silent: Mapping[float, int] | None
    subnormal: int
    saves: int
    stray_zeros: int = 0


@dataclass(frozen=True, slots=True)
class Inspection:
    """What `inspect` found.

    Args:
        layers: One entry for each layer that writes units. A unit that several layers write (a
        residual
            stream) counts in each of them.
        plan: What `compact` would do now.
        parameters: All parameters of the model, ties once.
        samples: Number of samples of the data, None without data.
        slowdown: How many times as long a forward of the example inputs takes because of subnormal
            numbers, measured with flushing off and on; None where no weight is one.
    """

    layers: tuple[LayerInspection, ...]
    plan: Plan
    parameters: int
    samples: int | None
    slowdown: float | None = None

    @property
    def removable(self) -> int:
        """Units that can be removed now, each once."""
        return self.plan.removed_units

    @property
    def subnormal(self) -> int:
        """Subnormal numbers among the weights of all layers."""
        return sum(layer.subnormal for layer in self.layers)

    @property
    def stray_zeros(self) -> int:
        """Zeros among the weights of all layers that removal leaves."""
        return sum(layer.stray_zeros for layer in self.layers)

    @property
    def saves(self) -> int:
        """Parameters that removal would save."""
        return sum(layer.saves for layer in self.layers)


def inspect(
    model: nn.Module,
    example_inputs: ExampleInputs,
    *,
    data: ExampleInputs | Iterable[ExampleInputs] | None = None,
) -> Inspection:
    """Count dead units per layer by weights, by BatchNorm scale and, with data, by activation.

    Args:
        model: Any module that `torch.export` can capture. It is left as it was.
        example_inputs: A tensor, a tuple, a dict of keyword arguments, or `Inputs`.
        data: One large batch, or an iterable of batches, to measure activations on (in eval mode).

    Raises:
        InputError, CaptureError, ModelError: See `abscise.graph.capture`.
    """
    inputs = as_inputs(example_inputs)
    proposal = make_proposal(model, inputs)
    batches = batches_of(data)
    if batches:
        analysis = analyse(model, first_samples(batches[0], _CHUNK))
        peaks = silent_units(analysis, writing_slices(analysis), batches)
    else:
        peaks = {}
    slices = [item for item in writing_slices(proposal.analysis) if item.writes]
    saves = _saves(model, proposal.plan, slices)
    removed = np.append(proposal.decision.removed, [False])  # the last one answers for -1
    layers = []
    seen: set[str] = set()
    for item in slices:
        if item.layer not in seen:
            seen.add(item.layer)
            layer = _layer(model, item, removed, peaks.get(item.parameter), saves)
            layers.append(
                replace(layer, stray_zeros=_stray(proposal.plan, _own(proposal.model, item)))
            )
    slow = any(layer.subnormal for layer in layers)
    return Inspection(
        layers=tuple(layers),
        plan=proposal.plan,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        samples=sum(batch.tensors()[0].shape[0] for batch in batches) if batches else None,
        slowdown=slowdown_by_subnormals(model, inputs) if slow else None,
    )


def _layer(
    model: nn.Module,
    item: WritingSlice,
    removed: "np.ndarray[tuple[int], np.dtype[np.bool_]]",
    peak: Tensor | None,
    saves: Mapping[str, int],
) -> LayerInspection:
    silent = None if peak is None else {t: int((peak <= t).sum()) for t in ACTIVATIONS}
    return LayerInspection(
        layer=item.layer,
        units=len(item.units),
        removable=int(removed[item.units].sum()),
        zero_rows=int((item.magnitude == 0).sum()),
        small={threshold: int((item.magnitude < threshold).sum()) for threshold in SCALES},
        scaled=item.kind == "scale",
        silent=silent,
        subnormal=sum(map(count_subnormal, _own(model, item).values())),
        saves=saves.get(item.layer, 0),
    )


def _own(model: nn.Module, item: WritingSlice) -> dict[str, Tensor]:
    """Parameters and buffers of the layer and of the norm that scales it."""
    paths = {item.parameter.rpartition(".")[0], item.layer if item.layer != "(model)" else ""}
    tensors = named_tensors(model).items()
    return {name: tensor for name, tensor in tensors if name.rpartition(".")[0] in paths}


def _stray(plan: Plan, own: Mapping[str, Tensor]) -> int:
    """Zeros among the weights that are there when the plan has been applied."""
    return sum(
        int(cut(plan, name, tensor == 0).sum()) for name, tensor in own.items() if tensor.ndim > 1
    )


def _saves(model: nn.Module, plan: Plan, slices: list[WritingSlice]) -> dict[str, int]:
    """Layer -> parameters of it, and of norms that belong to its units, that go."""
    parameters = dict(model.named_parameters())
    masks: dict[str, list[tuple[int, int]]] = {}
    for edit in plan.edits:
        masks.setdefault(edit.name, []).append((edit.axis, len(edit.removed)))
    owner = {item.layer: item.layer for item in slices}
    owner |= {item.parameter.rpartition(".")[0]: item.layer for item in slices}
    found: dict[str, int] = {}
    grouped = {edit.name: edit for edit in plan.grouped}
    for name in dict.fromkeys([*masks, *grouped]):
        if name not in parameters:
            continue
        shape = list(parameters[name].shape)
        for axis, count in masks.get(name, ()):
            if name not in grouped or axis != 1:
                shape[axis] -= count
        if name in grouped:
            kept = next(gone for gone in grouped[name].removed if gone is not None)
            shape[1] = grouped[name].size - len(kept)
        gone = parameters[name].numel() - int(np.prod(shape))
        module = name.rpartition(".")[0] or "(model)"
        layer = owner.get(module, slices[0].layer if slices else module)
        found[layer] = found.get(layer, 0) + gone
    return found
