"""apply and compact: from a plan to a smaller model that computes the same."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from abscise._errors import PlanError
from abscise.compaction._build import unit_map
from abscise.compaction._decide import Decision, all_folded
from abscise.compaction._edit import cut, named_tensors, restructure
from abscise.compaction._fingerprint import fingerprint
from abscise.compaction._folding import Site, find_sites
from abscise.compaction._inputs_json import rebuild_inputs
from abscise.compaction._plan import Plan
from abscise.compaction._propose import check_structure
from abscise.compaction._select_inputs import without_selections
from abscise.compaction._selecting import droppable, selecting_readers
from abscise.graph import Analysis, ConstantPass, analyse
from abscise.graph.rules import channel_units, kernel_sums


@dataclass(frozen=True, slots=True)
class _Edit:
    """What is written into one tensor of the compacted model, in float64 at its dense size."""

    name: str
    delta: Tensor


def apply(plan: Plan, model: nn.Module, *, structure_only: bool = False) -> nn.Module:
    """The compacted model, a new object of the same class; `model` is left as it was.

    The plan holds structure only. That every unit is dead in *this* checkpoint is proved again,
    and the constants to fold are computed from it.

    Args:
        plan: From `propose` on this architecture, with any checkpoint.
        model: The dense model.
        structure_only: Cut the units even where they are alive. The outputs then change.

    Raises:
        PlanError: The plan belongs to another architecture, or a unit of it is alive here.
    """
    model = without_selections(model)
    _check_fingerprint(plan, model)
    if structure_only or plan.changes_nothing:  # nothing to prove
        return restructure(plan, model)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    inputs = rebuild_inputs(plan.inputs, device)
    analysis = analyse(model, inputs)
    sites = find_sites(analysis, model)
    decision = _proved(plan, model, analysis, sites)
    mismatches = check_structure(plan, model, inputs, analysis, decision, sites)
    if mismatches:
        message = (
            f"the plan does not fit this model's forward: {mismatches[0].reason}; propose again"
        )
        raise PlanError(message)
    return apply_decision(plan, model, analysis, sites, decision)


def apply_decision(
    plan: Plan,
    model: nn.Module,
    analysis: Analysis,
    sites: Mapping[int, Site],
    decision: Decision,
) -> nn.Module:
    """Edit a copy of the model and fold the constants of the removed units."""
    deltas: dict[str, Tensor] = {}
    channels: dict[str, Tensor] = {}
    takers = [site for site in sites.values() if site.into]
    for site in takers:
        # A reader that runs more than once takes over the same constants: once, for all its calls.
        folded = all_folded(analysis, site, decision)
        channels[site.target] = channels.get(site.target, torch.zeros_like(folded)) | folded
    for site in takers:
        if bool(channels[site.target].any()):
            edit = _fold(analysis, site, channels[site.target], decision)
            deltas[edit.name] = edit.delta
    new_biases = _new_biases(plan)
    for site in takers:
        if site.into == "new_bias" and site.target in deltas and site.target not in new_biases:
            message = (
                f"this checkpoint needs a new bias {site.target} that the plan does not list; "
                "propose a plan from this checkpoint"
            )
            raise PlanError(message)
    compacted = restructure(plan, model)
    with torch.no_grad():
        _write(compacted, model, plan, deltas)
    return compacted


def _check_fingerprint(plan: Plan, model: nn.Module) -> None:
    found = fingerprint(model)
    if found != plan.fingerprint:
        message = (
            f"the plan belongs to another architecture: its fingerprint is "
            f"{plan.fingerprint[:12]}, that of {type(model).__name__} is {found[:12]}; build the "
            "model as it was when the plan was made"
        )
        raise PlanError(message)


def _proved(
    plan: Plan, model: nn.Module, analysis: Analysis, sites: Mapping[int, Site]
) -> Decision:
    """The decision that the plan stands for; every removed unit is dead in this checkpoint."""
    removed = _removed_units(plan, analysis)
    candidates = analysis.labels.candidates
    excused = {position: site.excused for position, site in sites.items()}
    dropped = _dropped_inputs(plan, model, analysis)
    carriers = _carriers(analysis, sites, removed, dropped)
    live = analysis.liveness(~removed, excused, carriers)
    alive = np.flatnonzero((live.touched_units() | ~candidates) & removed)
    if len(alive):
        layer, index = unit_map(analysis).homes().get(int(alive[0]), ("?", -1))
        reason = analysis.labels.pins.get(int(alive[0]), "something downstream reads it")
        message = (
            f"{len(alive)} of {len(plan.removals)} units of the plan are alive in this checkpoint, "
            f"the first is {layer}[{index}] ({reason}); propose a plan from this checkpoint, or "
            "cut them all the same with structure_only=True"
        )
        raise PlanError(message)
    decision = Decision(removed, live, carriers, {})
    for position, mask in dropped.items():
        c = analysis.contractions[position]
        told = mask & ~droppable(analysis, position, c, sites.get(position), decision)
        if bool(told.any()):
            name = analysis.program.steps[position].module or "(model)"
            message = (
                f"{name} can tell {int(told.sum())} of the inputs that the plan drops there, the "
                f"first is {name}[:, {int(told.nonzero()[0])}]; propose a plan from this "
                "checkpoint, or drop them all the same with structure_only=True"
            )
            raise PlanError(message)
    return replace(decision, dropped=dropped)


def _dropped_inputs(plan: Plan, model: nn.Module, analysis: Analysis) -> dict[int, Tensor]:
    """Step position -> the inputs that the plan drops there."""
    readers = {
        analysis.program.values[c.weight].name: (position, c)
        for position, c in selecting_readers(analysis, model)
    }
    found: dict[int, Tensor] = {}
    for item in plan.selections:
        position, c = readers.get(item.weight, (-1, None))
        if c is None or analysis.program.values[c.x].shape[c.in_dim] != item.size:
            message = (
                f"the plan selects inputs of {item.module or '(model)'}, which forward does not "
                "call once, as a plain layer of that size; propose again"
            )
            raise PlanError(message)
        found[position] = torch.zeros(item.size, dtype=torch.bool)
        found[position][list(item.dropped)] = True
    return found


def _removed_units(plan: Plan, analysis: Analysis) -> NDArray[np.bool_]:
    labels = analysis.labels
    by_name = {
        (analysis.program.values[value].name, dim): ids for (value, dim), ids in labels.axes.items()
    }
    removed = np.zeros(len(labels.roots), dtype=bool)
    for edit in plan.edits:
        ids = by_name.get((edit.name, edit.axis))
        if ids is None or len(ids) != edit.size:
            message = (
                f"the plan edits axis {edit.axis} of {edit.name}, which forward does not use so"
            )
            raise PlanError(message)
        removed[labels.roots[ids[list(edit.removed)]]] = True
    for edit in plan.edits:
        ids = by_name[edit.name, edit.axis]
        gone = np.flatnonzero(removed[labels.roots[ids]])
        if gone.tolist() != list(edit.removed):
            message = f"the plan removes parts of units only at axis {edit.axis} of {edit.name}"
            raise PlanError(message)
    return removed


def _carriers(
    analysis: Analysis,
    sites: Mapping[int, Site],
    removed: NDArray[np.bool_],
    dropped: Mapping[int, Tensor],
) -> dict[int, Tensor]:
    """Kept constant channels that can carry: the strongest of each group of each padded reader."""
    found = {}
    for position, site in sites.items():
        if site.into != "carrier":
            continue
        units = channel_units(analysis.labels, analysis.program, site.contraction)
        gone = torch.from_numpy(removed)[units.clamp(min=0)] & (units >= 0)
        options = site.foldable & ~gone
        if position in dropped:
            options = options & ~dropped[position]
        if not bool((site.foldable & gone).any()) or not bool(options.any()):
            continue
        size = len(units) // site.groups
        strength = torch.where(options, site.value.abs(), -1.0).reshape(site.groups, size)
        chosen = torch.zeros(site.groups, size, dtype=torch.bool)
        chosen[torch.arange(site.groups), strength.argmax(1)] = True
        found[position] = chosen.flatten() & options
    return found


def _fold(analysis: Analysis, site: Site, channels: Tensor, decision: Decision) -> _Edit:
    """The constants of the removed channels, as an addition to the site's target."""
    c = site.contraction
    ctx: ConstantPass = analysis.constants
    outputs = analysis.program.values[analysis.program.steps[site.position].outputs[0]].shape[
        c.out_dim
    ]
    if site.into == "carrier":
        return _Edit(site.target, _carried(analysis, site, channels, decision))
    constants = torch.where(channels, site.value, torch.zeros((), dtype=torch.float64))
    delta = kernel_sums(ctx, c, outputs) @ constants
    return _Edit(site.target, -delta if site.into == "running_mean" else delta)


def _carried(analysis: Analysis, site: Site, channels: Tensor, decision: Decision) -> Tensor:
    """An addition to the reader's weight: the carrier's column takes the weighted sum (R11)."""
    c = site.contraction
    weight = analysis.constants.tensor(c.weight)
    assert weight is not None
    dense = weight.detach().cpu().to(torch.float64)
    addition = torch.zeros_like(dense)
    carriers = decision.carriers.get(site.position, torch.zeros_like(channels))
    per_in = len(channels) // site.groups
    per_out = dense.shape[0] // site.groups
    for group in range(site.groups):
        own = slice(group * per_in, (group + 1) * per_in)
        rows = slice(group * per_out, (group + 1) * per_out)
        going = channels[own]
        if not bool(going.any()):
            continue
        strength = torch.where(carriers[own], site.value[own].abs(), -1.0)
        carrier = int(strength.argmax())
        if strength[carrier] <= 0:
            where = analysis.program.steps[site.position].where
            message = (
                f"no channel is left to carry the removed constants into {where}; propose again"
            )
            raise PlanError(message)
        ratio = torch.where(going, site.value[own] / site.value[own][carrier], 0.0)
        columns = going.nonzero().flatten()
        addition[rows, carrier] = torch.einsum(
            "oi...,i->o...", dense[rows][:, columns], ratio[columns]
        )
    return addition


def _write(
    compacted: nn.Module, dense: nn.Module, plan: Plan, deltas: Mapping[str, Tensor]
) -> None:
    """Add each delta, computed at the dense size, to the sliced tensor in float64."""
    tensors, originals = named_tensors(compacted), named_tensors(dense)
    names = {id(t): n for n, t in dense.named_parameters()}
    for target, delta in deltas.items():
        original = originals.get(target)
        if original is None and target in _new_biases(plan):
            rows = _kept_rows(plan, target.rpartition(".")[0], len(delta))
            tensors[target].add_(delta[rows].to(tensors[target]))
            continue
        if original is None:  # a tied parameter under another of its names
            owner = dict(dense.named_parameters(remove_duplicate=False))[target]
            target, original = names[id(owner)], owner  # noqa: PLW2901
        exact = original.detach().cpu().to(torch.float64) + delta
        changed = cut(plan, target, exact)
        _ = tensors[target].copy_(changed.to(tensors[target]))


def _new_biases(plan: Plan) -> frozenset[str]:
    """Names of the biases that the plan creates."""
    return frozenset(fold.target for fold in plan.folds if fold.into == "new_bias")


def _kept_rows(plan: Plan, module: str, size: int) -> Tensor:
    name = f"{module}.weight" if module else "weight"
    gone = next((edit.removed for edit in plan.edits if (edit.name, edit.axis) == (name, 0)), ())
    stays = torch.ones(size, dtype=torch.bool)
    stays[list(gone)] = False
    return stays
