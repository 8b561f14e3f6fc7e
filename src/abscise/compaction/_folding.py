"""Where constants of removed units can go: one `Site` per contraction that reads known constants.

A reader takes over a constant exactly in its bias, in the running mean of the BatchNorm that alone
follows it, or in a new bias; with zero padding only through a carrier channel (rule R11).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from abscise.compaction._attributes import takes_bias
from abscise.graph import CONSTANT, FIXED, UNKNOWN, Analysis, channel_view
from abscise.graph._movement import PADS, RESHAPES, pad_value
from abscise.graph.rules import (
    BATCH_NORMS,
    Contraction,
    batch_norm_operands,
    is_border_pad,
    normalises_by_batch,
)

CARRIER_RATIO = 1e-3


@dataclass(frozen=True, slots=True)
class Site:
    """One contraction that reads constants.

    Args:
        zero: Input channels that are the constant 0: they may always go.
        foldable: Input channels whose other constant the reader can take over.
        value: The constants (float64), one per input channel.
        into: "bias", "running_mean", "new_bias", "carrier", or "" where nothing can be folded.
        target: Qualified name of what takes them.
        groups: Channel groups; a carrier serves its own group only.
    """

    position: int
    contraction: Contraction
    zero: Tensor
    foldable: Tensor
    value: Tensor
    into: str
    target: str
    groups: int

    @property
    def excused(self) -> Tensor:
        """Input channels that this reader lets go."""
        return self.zero | self.foldable


def find_sites(analysis: Analysis, model: nn.Module) -> dict[int, Site]:
    """Every contraction that reads at least one known constant, by step position."""
    sites: dict[int, Site] = {}
    for position, contraction in analysis.contractions.items():
        site = _site(analysis, model, position, contraction)
        if site is not None:
            sites[position] = site
    return _agree(analysis, sites)


def _site(analysis: Analysis, model: nn.Module, position: int, c: Contraction) -> Site | None:
    program = analysis.program
    c, source = _before_zero_padding(analysis, c)
    known = analysis.constants.known(source)
    if known is None:
        return None
    size = program.values[c.x].shape[c.in_dim]
    kind, value = channel_view(known, c.in_dim, size)
    zero = (kind == CONSTANT) & (value == 0)
    frozen = not c.spatial and _frozen(analysis, c.x, c.in_dim)
    constant = (kind == CONSTANT) | ((kind == FIXED) & frozen)
    zero = zero | (constant & (value == 0))
    into, target = _target(analysis, model, position, c)
    depthwise = c.groups > 1 and size == c.groups
    if c.transposed or depthwise or not into:
        into, target, foldable = "", "", torch.zeros(size, dtype=torch.bool)
    else:
        foldable = constant & (value != 0)
    if not bool((zero | foldable).any()):
        return None
    value = torch.where(kind > UNKNOWN, value, torch.zeros((), dtype=value.dtype))
    return Site(position, c, zero, foldable, value, into, target, c.groups)


def _before_zero_padding(analysis: Analysis, c: Contraction) -> tuple[Contraction, int]:
    """An explicit padding with zeros in front of a reader is the reader's own padding."""
    program = analysis.program
    producer = next((step for step in program.steps if c.x in step.outputs), None)
    if not c.spatial or producer is None or producer.op not in PADS or is_border_pad(producer):
        return c, c.x
    if pad_value(producer) != 0:
        return c, c.x
    widths = producer.args[1]
    spatial = len(widths) // 2 <= c.spatial
    if not spatial or any(width < 0 for width in widths):
        return c, c.x
    return replace(c, padded=c.padded or any(widths)), producer.inputs[0]


def _target(analysis: Analysis, model: nn.Module, position: int, c: Contraction) -> tuple[str, str]:
    """What can take the constants of this reader: (kind, qualified name), ("", "") for nothing."""
    weight = analysis.program.values[c.weight].name
    found: tuple[str, str] | None = None
    if c.padded:
        own = weight is not None and _read_by_its_layer_only(analysis, c.weight, c)
        found = ("carrier", weight) if weight is not None and own else None
    elif c.bias is not None:
        found = _own_bias(analysis, c)
    else:
        found = _running_mean(analysis, position)
        if found is None and weight is not None:
            found = _new_bias(model, weight)
    return found or ("", "")


def _own_bias(analysis: Analysis, c: Contraction) -> tuple[str, str] | None:
    """The bias, where only calls of this weight use it."""
    program = analysis.program
    assert c.bias is not None
    name = program.values[c.bias].name
    own = _read_by_its_layer_only(analysis, c.bias, c)
    return ("bias", name) if name is not None and own else None


def _read_by_its_layer_only(analysis: Analysis, value: int, c: Contraction) -> bool:
    """Is a weight or bias read by nothing but calls of this layer? Only then may it change."""
    program = analysis.program
    own = {position for position, o in analysis.contractions.items() if o.weight == c.weight}
    users = {position for position, step in enumerate(program.steps) if value in step.inputs}
    return users <= own and value not in program.outputs


def _running_mean(analysis: Analysis, position: int) -> tuple[str, str] | None:
    """The running mean of the BatchNorm that is the only reader of the output."""
    program = analysis.program
    output = program.steps[position].outputs[0]
    readers = program.consumers.get(output, [])
    if len(readers) != 1 or readers[0].op not in BATCH_NORMS or output in program.outputs:
        return None
    mean = batch_norm_operands(readers[0])[3]
    if mean is None or normalises_by_batch(readers[0]) or len(program.consumers[mean]) != 1:
        return None
    name = program.values[mean].name
    return None if name is None or mean in program.outputs else ("running_mean", name)


def _new_bias(model: nn.Module, weight: str) -> tuple[str, str] | None:
    """A bias for a module that was built without one."""
    owner, _, leaf = weight.rpartition(".")
    module = model.get_submodule(owner)
    if leaf != "weight" or not takes_bias(module) or getattr(module, "bias", 0) is not None:
        return None
    return "new_bias", f"{owner}.bias" if owner else "bias"


def _agree(analysis: Analysis, sites: Mapping[int, Site]) -> dict[int, Site]:
    """A reader that runs more than once takes a constant only if it is the same each time (R10)."""
    by_weight: dict[int, list[int]] = {}
    for position, contraction in analysis.contractions.items():
        by_weight.setdefault(contraction.weight, []).append(position)
    result = dict(sites)
    for positions in by_weight.values():
        if len(positions) < 2:
            continue
        found = [sites.get(position) for position in positions]
        present = [site for site in found if site is not None]
        if not present:
            continue
        common = torch.full_like(present[0].foldable, fill_value=len(present) == len(found))
        for site in present:
            common = common & site.foldable & (site.value == present[0].value)
        # One weight cannot carry, or get a bias, for one call and not for another.
        alike = len({site.into for site in present}) == 1 and present[0].into != "carrier"
        allowed = common if alike else torch.zeros_like(common)
        for site in present:
            result[site.position] = replace(site, foldable=site.foldable & allowed)
    return result


def _frozen(analysis: Analysis, value: int, dim: int) -> bool:
    """Is this dimension the result of flattening channels with space? Its size is then fixed."""
    program = analysis.program
    producers = {output: step for step in program.steps for output in step.outputs}
    while value in producers:
        step = producers[value]
        if step.op in RESHAPES:
            before, after = program.values[step.inputs[0]].shape, program.values[value].shape
            return dim == 1 and len(after) == 2 and len(before) > 2 and before[0] == after[0]
        if (
            len(step.inputs) != 1
            or program.values[step.inputs[0]].shape != program.values[value].shape
        ):
            return False
        value = step.inputs[0]
    return False
