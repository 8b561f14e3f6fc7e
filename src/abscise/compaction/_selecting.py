"""Partial slices: inputs that one reader cannot tell although their unit stays for another.

In dense blocks and residual streams a channel may be dead for one layer and alive for the next. A
layer that is called once, in its own forward, may then read a selection of its input, where the
arithmetic that this saves outweighs the copy that it costs.
"""

import fnmatch
import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from abscise.compaction._decide import Decision, folded_channels
from abscise.compaction._folding import Site
from abscise.compaction._plan import Selection
from abscise.compaction._select_inputs import may_select
from abscise.graph import Analysis
from abscise.graph.rules import Contraction, channel_units, dense_nonzero

# Multiply-accumulates that take as long as copying one element by index_select. Measured on a CPU
# (AVX-512, float32, torch 2.13, 1 and 2 threads), best of 15 to 60 runs of conv2d and linear with
# all and with half of their inputs: 1x1 convolutions 7 to 34 (median 23), 3x3 convolutions 4 to 44,
# linear layers 9 to 68 where the batch is above one (median 35). A little above the middle.
MACS_PER_COPY = 32


def pays(saved_macs: int, copied: int) -> bool:
    """Is a selection worth it? The kept elements are copied once, the others' products saved."""
    return saved_macs > 0 and saved_macs >= MACS_PER_COPY * copied


def find_selections(
    analysis: Analysis,
    model: nn.Module,
    sites: Mapping[int, Site],
    decision: Decision,
    keep: tuple[str, ...] = (),
) -> dict[int, Tensor]:
    """Step position of each reader that should select -> which of its inputs it drops.

    A reader that a pattern of `keep` names stays as it is.
    """
    found: dict[int, Tensor] = {}
    for position, c in selecting_readers(analysis, model):
        if _kept_as_asked(analysis.program.values[c.weight].name or "", keep):
            continue
        dropped = droppable(analysis, position, c, sites.get(position), decision)
        if _pays_at(analysis, position, c, dropped, decision):
            found[position] = dropped
    return found


def selecting_readers(analysis: Analysis, model: nn.Module) -> Iterator[tuple[int, Contraction]]:
    """Contractions that are the whole forward of a module, which is called once."""
    program = analysis.program
    for position, c in analysis.contractions.items():
        name = program.values[c.weight].name
        path, _, leaf = (name or "").rpartition(".")
        step = program.steps[position]
        called_once = len(program.consumers[c.weight]) == 1 and c.weight not in program.outputs
        untied = sum(first == name for first in program.aliases.values()) == 1
        if name is None or leaf != "weight" or step.module != path:
            continue
        if called_once and untied and may_select(model.get_submodule(path)):
            yield position, c


def droppable(
    analysis: Analysis, position: int, c: Contraction, site: Site | None, decision: Decision
) -> Tensor:
    """Inputs that stay in the compacted model although this reader cannot tell them.

    All weights from them into the rows that stay are 0.0, or their value is 0 at any input shape,
    or it is another constant that a bias or running mean of the reader takes over (a new bias only
    where constants of whole units ask for one).
    """
    rows = ~_gone_rows(analysis, c, decision)
    nonzero = dense_nonzero(analysis.constants, c, len(rows))
    size = analysis.program.values[c.x].shape[c.in_dim]
    if nonzero is None:
        return torch.zeros(size, dtype=torch.bool)
    found = ~nonzero[rows].any(0)
    if site is not None:
        found = found | site.zero
        if site.into in {"bias", "running_mean"} or _gets_bias(analysis, site, decision):
            found = found | site.foldable
    if position in decision.carriers:  # they take the constants of removed units (rule R11)
        found = found & ~decision.carriers[position]
    return found & ~gone_inputs(analysis, c, decision)


def _gets_bias(analysis: Analysis, site: Site, decision: Decision) -> bool:
    """Does the reader get a new bias all the same, for the constants of whole units?"""
    folded = folded_channels(analysis, site, decision.removed, decision.needed)
    return site.into == "new_bias" and bool(folded.any())


def gone_inputs(analysis: Analysis, c: Contraction, decision: Decision) -> Tensor:
    """Inputs of a contraction whose whole unit goes."""
    units = channel_units(analysis.labels, analysis.program, c)
    return torch.from_numpy(decision.removed)[units.clamp(min=0)] & (units >= 0)


def plan_selections(analysis: Analysis, decision: Decision) -> tuple[Selection, ...]:
    """The plan's entries, by name."""
    found = []
    for position, mask in decision.dropped.items():
        weight = analysis.program.values[analysis.contractions[position].weight].name
        assert weight is not None
        indices = tuple(mask.nonzero().flatten().tolist())
        found.append(Selection(weight.rpartition(".")[0], len(mask), indices))
    return tuple(sorted(found, key=lambda item: item.module))


def _kept_as_asked(weight: str, keep: tuple[str, ...]) -> bool:
    layer = weight.rpartition(".")[0] or "(model)"
    return any(
        fnmatch.fnmatchcase(name, pattern) or name.startswith(f"{pattern}.")
        for name in (layer, weight)
        for pattern in keep
    )


def _gone_rows(analysis: Analysis, c: Contraction, decision: Decision) -> Tensor:
    size = analysis.program.values[c.weight].shape[c.out_axis]
    ids = analysis.labels.axes.get((c.weight, c.out_axis))
    if ids is None:
        return torch.zeros(size, dtype=torch.bool)
    return torch.from_numpy(decision.removed[analysis.labels.roots[ids]])


def _pays_at(
    analysis: Analysis, position: int, c: Contraction, dropped: Tensor, decision: Decision
) -> bool:
    """The cost model at one reader, with the sizes of the example inputs."""
    program = analysis.program
    gone = gone_inputs(analysis, c, decision)
    kept = int((~dropped & ~gone).sum())
    if not kept:
        return False  # no tensor may become empty
    outputs = int((~_gone_rows(analysis, c, decision)).sum())
    before, after = (
        program.values[c.x].shape,
        program.values[program.steps[position].outputs[0]].shape,
    )
    kernel = math.prod(program.values[c.weight].shape[2:])
    read = math.prod(before) // before[c.in_dim]
    written = math.prod(after) // after[c.out_dim]
    return pays(int(dropped.sum()) * outputs * kernel * written, kept * read)
