"""snap_: small units to exactly zero, in place, with its effect on the outputs measured.

No optimizer ends at exactly 0.0 by itself: after Adam with L2 dead weights stall at 1e-37 or at
subnormal values. This is the one place, beside `verify`, where a tolerance lives.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from typing_extensions import override

from abscise._inputs import ExampleInputs, Inputs, as_inputs, floats_in
from abscise.compaction._edit import named_tensors
from abscise.compaction._slices import WritingSlice, channel_maximum, writing_slices
from abscise.graph import Analysis, analyse, eval_mode, first_samples, observe

SILENT = 1e-12
_CHUNK = 128


@dataclass(frozen=True, slots=True)
class SnappedLayer:
    """One layer: how many of its units were set to zero, and for which reason."""

    layer: str
    units: int
    by_scale: int
    by_row: int
    silent_on_data: int

    @property
    def snapped(self) -> int:
        """Units set to zero for any reason."""
        return self.by_scale + self.by_row + self.silent_on_data


@dataclass(frozen=True, slots=True)
class SnapReport:
    """What `snap_` changed.

    Args:
        threshold: Units below it were set to zero.
        layers: One entry per layer with units.
        max_abs_diff: Largest change of any output on the example inputs (and the data, if given).
        spread: Spread of the outputs before, over the same samples.
        on_data: Were units that never fire on the given data set to zero as well?
    """

    threshold: float
    layers: tuple[SnappedLayer, ...]
    max_abs_diff: float
    spread: float
    on_data: bool

    @property
    def snapped(self) -> int:
        """Units set to zero in all layers."""
        return sum(layer.snapped for layer in self.layers)

    @property
    def max_rel_diff(self) -> float:
        """`max_abs_diff` over the spread of the outputs."""
        return self.max_abs_diff / self.spread if self.spread else math.inf * self.max_abs_diff

    @override
    def __str__(self) -> str:
        """One line for people."""
        silent = sum(layer.silent_on_data for layer in self.layers)
        extra = f", {silent} of them because they never fire on this data" if self.on_data else ""
        return (
            f"snapped {self.snapped} units below {self.threshold:g} to exactly zero{extra}; "
            f"outputs changed by at most {self.max_abs_diff:.3g}, {self.relative} of their spread"
        )

    @property
    def relative(self) -> str:
        """`max_rel_diff` as text."""
        return "0" if self.max_abs_diff == 0 else f"{self.max_rel_diff:.3g}"


def snap_(
    model: nn.Module,
    example_inputs: ExampleInputs,
    *,
    threshold: float,
    data: ExampleInputs | Iterable[ExampleInputs] | None = None,
) -> SnapReport:
    """Set small units to exactly 0.0, in place.

    A unit is small where the largest |weight| that writes it is below `threshold`: the scale of the
    BatchNorm that follows its layer, else its incoming row. The scale (not the shift), or the
    row (not the bias), becomes 0, so that the constant that is left can be folded by `compact`.

    Args:
        model: Changed in place; nothing else of it is.
        example_inputs: A tensor, a tuple, a dict of keyword arguments, or `Inputs`.
        threshold: In the units of the weights; 0 changes nothing but units that never fire.
        data: Also units whose activation stays at or below 1e-12 on all these samples become 0,
        with
            their shift or bias: they are dead on this data, not for every input.

    Raises:
        ValueError: `threshold` is negative or not finite.
        InputError, CaptureError, ModelError: See `abscise.graph.capture`.
    """
    if not (math.isfinite(threshold) and threshold >= 0):
        message = f"threshold must be a finite number >= 0, got {threshold}"
        raise ValueError(message)
    batches = batches_of(data)
    inputs = as_inputs(example_inputs)
    shown = first_samples(batches[0], _CHUNK) if batches else inputs
    analysis = analyse(model, shown)
    slices = writing_slices(analysis)
    silent = silent_units(analysis, slices, batches)
    before = _outputs(model, inputs, shown)
    layers = _zero(model, slices, threshold, silent)
    after = _outputs(model, inputs, shown)
    pairs = list(zip(before, after, strict=True))
    return SnapReport(
        threshold=threshold,
        layers=layers,
        max_abs_diff=max((float((a - b).abs().max()) for a, b in pairs if a.numel()), default=0.0),
        spread=max((float(_spread(a)) for a, _ in pairs if a.numel()), default=0.0),
        on_data=bool(batches),
    )


def batches_of(data: ExampleInputs | Iterable[ExampleInputs] | None) -> list[Inputs]:
    """Data as a list of `Inputs`: one large batch, or an iterable of batches."""
    if data is None:
        return []
    if isinstance(data, Tensor | tuple | dict | Inputs):
        return [as_inputs(data)]
    return [as_inputs(batch) for batch in data]  # type: ignore[arg-type]


def silent_units(
    analysis: Analysis, slices: tuple[WritingSlice, ...], batches: list[Inputs]
) -> dict[str, Tensor]:
    """Per writing parameter: the largest |activation| of each unit over all samples."""
    peaks: dict[str, Tensor] = {}
    wanted: dict[int, list[WritingSlice]] = {}
    for item in slices:
        if item.writes:
            wanted.setdefault(item.activation, []).append(item)

    def see(value: int, tensor: Tensor) -> None:
        for item in wanted.get(value, ()):
            peak = channel_maximum(tensor, item.dim)
            known = peaks.get(item.parameter)
            peaks[item.parameter] = peak if known is None else torch.maximum(known, peak)

    for batch in batches:
        observe(analysis.program, batch, see)
    return peaks


def _zero(
    model: nn.Module,
    slices: tuple[WritingSlice, ...],
    threshold: float,
    peaks: dict[str, Tensor],
) -> tuple[SnappedLayer, ...]:
    tensors = named_tensors(model)
    layers = []
    done: set[str] = set()
    for item in slices:
        if item.parameter in done:
            continue
        done.add(item.parameter)
        small = item.magnitude < threshold
        silent = torch.zeros_like(small)
        if item.parameter in peaks:
            silent = (peaks[item.parameter] <= SILENT) & ~small
        changed = small & (item.magnitude > 0)
        with torch.no_grad():
            _ = tensors[item.parameter].index_fill_(
                item.axis, _index(small | silent, tensors[item.parameter]), 0.0
            )
            if item.shift is not None and bool(silent.any()):
                shift = tensors[item.shift]
                _ = shift.index_fill_(0, _index(silent, shift), 0.0)
        layers.append(
            SnappedLayer(
                layer=item.layer,
                units=len(small),
                by_scale=int(changed.sum()) if item.kind == "scale" else 0,
                by_row=int(changed.sum()) if item.kind == "row" else 0,
                silent_on_data=int(silent.sum()),
            )
        )
    return tuple(layers)


def _index(mask: Tensor, like: Tensor) -> Tensor:
    return mask.nonzero().flatten().to(like.device)


def _outputs(model: nn.Module, *inputs: Inputs) -> list[Tensor]:
    found: list[Tensor] = []
    with eval_mode(model), torch.no_grad():
        for given in inputs:
            found += floats_in(model(*given.args, **given.kwargs))
    return found


def _spread(output: Tensor) -> Tensor:
    if output.ndim == 0 or output.shape[0] < 2:
        return output.max() - output.min()
    return (output.amax(0) - output.amin(0)).max()
