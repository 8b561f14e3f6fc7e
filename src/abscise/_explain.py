"""explain: why one unit stays, or why it may go. The first question of every user."""

from dataclasses import dataclass

from torch import nn

from abscise._inputs import ExampleInputs, as_inputs
from abscise.compaction import Proposal, make_proposal
from abscise.compaction._build import unit_map
from abscise.compaction._decide import folded_channels
from abscise.graph._compact import any_but
from abscise.graph.rules import Contraction, channel_units, dense_nonzero


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
    """Live weights that read the unit from outputs that are needed, the largest first."""
    found: list[tuple[float, str]] = []
    for position, c in proposal.analysis.contractions.items():
        units = channel_units(proposal.analysis.labels, proposal.analysis.program, c)
        for channel in (units == unit).nonzero().flatten().tolist():
            reader = _reader(proposal, position, c, channel)
            if reader is not None:
                found.append(reader)
    return [text for _, text in sorted(found, reverse=True)]


def _reader(
    proposal: Proposal, position: int, c: Contraction, channel: int
) -> tuple[float, str] | None:
    """Largest |weight| and text of one reading layer; None where it does not read the channel."""
    analysis, live = proposal.analysis, proposal.decision.needed
    step = analysis.program.steps[position]
    mask = live.needed(step.outputs[0])
    size = analysis.program.values[step.outputs[0]].shape[c.out_dim]
    nonzero = dense_nonzero(analysis.constants, c, size)
    weight = analysis.constants.tensor(c.weight)
    site = proposal.sites.get(position)
    if mask is None or nonzero is None or weight is None:
        return None
    excused = False
    if site is not None:
        folded = folded_channels(analysis, site, proposal.decision.removed, live)
        excused = bool((site.zero | folded)[channel])
    outputs = (any_but(mask, c.out_dim).expand(size) & nonzero[:, channel]).nonzero().flatten()
    if excused or not len(outputs):
        return None
    name = analysis.program.values[c.weight].name or step.where
    text = f"read by {len(outputs)} of {size} outputs of {name}"
    if c.groups > 1:
        return 0.0, text
    kernels = weight.detach().abs().movedim((c.out_axis, c.in_axis), (0, 1))[:, channel]
    peaks = kernels.flatten(1).amax(1).cpu() if kernels.ndim > 1 else kernels.cpu()
    best = int(outputs[peaks[outputs].argmax()])
    peak = float(peaks[best])
    return peak, f"{text}, most by [{best}] with |weight| {peak:.3g}"


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
