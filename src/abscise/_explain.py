"""explain: why one unit stays, or why it may go. The first question of every user."""

from dataclasses import dataclass

import torch
from torch import nn

from abscise._inputs import ExampleInputs, as_inputs
from abscise.compaction import Proposal, make_proposal
from abscise.compaction._build import unit_map
from abscise.compaction._decide import folded_channels
from abscise.graph.rules import channel_units, dense_nonzero


@dataclass(frozen=True, slots=True)
class Explanation:
    """What decides about one unit.

    Args:
        layer: Name of the layer; `index` of its output.
        removable: Can it be removed now?
        pinned: Why it may not be removed whatever its weights, or None.
        readers: "layer[output] with weight w" for live weights that read it, the largest first.
        members: "parameter[axis a] index i" for every slice that goes with it.
        lines: All of it as text.
    """

    layer: str
    index: int
    removable: bool
    pinned: str | None
    readers: tuple[str, ...]
    members: tuple[str, ...]
    lines: tuple[str, ...]


def explain(
    model: nn.Module,
    example_inputs: ExampleInputs,
    layer: str,
    index: int,
    *,
    keep: tuple[str, ...] = (),
) -> Explanation:
    """Say why unit `index` of `layer` stays (pinned by what, read by which live weight), or may go.

    Args:
        model: Any module that `torch.export` can capture. It is left as it was.
        example_inputs: A tensor, a tuple, a dict of keyword arguments, or `Inputs`.
        layer: Name of a layer that computes units, as `inspect` prints it.
        index: Which of its outputs.
        keep: Name patterns of what must not be touched.

    Raises:
        ValueError: There is no such layer, or it has no such unit.
        InputError, CaptureError, ModelError: See `abscise.graph.capture`.
    """
    proposal = make_proposal(model, as_inputs(example_inputs), keep)
    units = unit_map(proposal.analysis, proposal.pinned)
    if layer not in units.layers:
        near = ", ".join(list(units.layers)[:12])
        message = f"{layer!r} is not a layer that computes units; there are: {near}"
        raise ValueError(message)
    ids = units.layers[layer]
    if not 0 <= index < len(ids):
        message = f"{layer} has units 0 to {len(ids) - 1}, got {index}"
        raise ValueError(message)
    unit = int(ids[index])
    pinned = units.pinned.get(unit)
    if unit < 0:
        pinned = "belongs to no unit: nothing can be removed here"
    removable = unit >= 0 and bool(proposal.decision.removed[unit])
    readers = tuple(_readers(proposal, unit)) if unit >= 0 else ()
    held = proposal.decision.why_kept.get(unit)
    members = tuple(
        f"{name} axis {axis}: {', '.join(map(str, where))}"
        for (name, axis), where in (units.members(unit).items() if unit >= 0 else ())
    )
    lines = tuple(_lines(f"{layer}[{index}]", removable, pinned, held, readers, members))
    return Explanation(layer, index, removable, pinned, readers, members, lines)


def _readers(proposal: Proposal, unit: int) -> list[str]:
    """Live weights that read the unit from outputs that are needed."""
    analysis, live = proposal.analysis, proposal.decision.needed
    found: list[tuple[float, str]] = []
    for position, c in analysis.contractions.items():
        channels = (channel_units(analysis.labels, analysis.program, c) == unit).nonzero().flatten()
        output = analysis.program.steps[position].outputs[0]
        mask = live.needed(output)
        weight = analysis.constants.tensor(c.weight)
        if not len(channels) or mask is None or weight is None:
            continue
        size = analysis.program.values[output].shape[c.out_dim]
        for dim in range(mask.ndim):
            if dim != c.out_dim:
                mask = mask.any(dim, keepdim=True)
        nonzero = dense_nonzero(analysis.constants, c, size)
        assert nonzero is not None
        site = proposal.sites.get(position)
        excused = torch.zeros(len(nonzero[0]), dtype=torch.bool) if site is None else site.zero
        if site is not None:
            excused = excused | folded_channels(analysis, site, proposal.decision.removed, live)
        rows = mask.flatten().expand(size)
        name = analysis.program.values[c.weight].name or analysis.program.steps[position].where
        for channel in channels.tolist():
            if excused[channel]:
                continue
            outputs = (rows & nonzero[:, channel]).nonzero().flatten()
            if not len(outputs):
                continue
            if c.groups == 1:
                column = weight.detach().select(c.in_axis, channel).abs()
                axis = c.out_axis if c.out_axis < c.in_axis else c.out_axis - 1
                others = [dim for dim in range(column.ndim) if dim != axis]
                peaks = (column.amax(others) if others else column).cpu()
                peak = float(peaks[outputs].max())
                best = int(outputs[peaks[outputs].argmax()])
                text = f"read by {len(outputs)} of {size} outputs of {name}, most by [{best}]"
                found.append((peak, f"{text} with |weight| {peak:.3g}"))
            else:
                found.append((0.0, f"read by {len(outputs)} of {size} outputs of {name}"))
    return [text for _, text in sorted(found, reverse=True)]


def _lines(
    name: str,
    removable: bool,  # noqa: FBT001
    pinned: str | None,
    held: str | None,
    readers: tuple[str, ...],
    members: tuple[str, ...],
) -> list[str]:
    if pinned is not None:
        lines = [f"{name} stays: pinned, {pinned}"]
    elif removable:
        lines = [f"{name} can be removed: nothing downstream can tell it is gone"]
    elif held is not None:
        lines = [f"{name} is dead but stays: {held}"]
    else:
        lines = [f"{name} stays: something downstream reads it"]
    lines += [f"  {reader}" for reader in readers]
    if not removable and pinned is None and held is None and not readers:
        lines.append("  it is read by an operation that is no layer, or by the model's output")
    lines += [f"  owns {member}" for member in members]
    return lines
