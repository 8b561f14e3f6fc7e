"""propose: what can go, checked against the user's own forward (rule R1), as a `Plan`."""

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from abscise._errors import AbsciseError, CaptureError, InputError
from abscise._inputs import ExampleInputs, Inputs, as_inputs
from abscise._units import UnitMap
from abscise.compaction._build import build_plan, matching_units, unit_map
from abscise.compaction._decide import Decision, all_folded, decide
from abscise.compaction._edit import restructure
from abscise.compaction._folding import Site, find_sites
from abscise.compaction._plan import Plan
from abscise.compaction._same import Mismatch, compare
from abscise.compaction._select_inputs import without_selections
from abscise.compaction._selecting import find_selections
from abscise.graph import Analysis, Batch, Program, analyse, capture, one_row
from abscise.graph.rules import channel_units, contraction_of


@dataclass(frozen=True, slots=True)
class Proposal:
    """A plan with what it was derived from; the model reads all its inputs everywhere."""

    model: nn.Module
    plan: Plan
    analysis: Analysis
    sites: Mapping[int, Site]
    decision: Decision
    pinned: Mapping[int, str]


def find_units(
    model: nn.Module, example_inputs: ExampleInputs, *, keep: tuple[str, ...] = ()
) -> UnitMap:
    """The units of a model, the axes they own, and which are pinned and why.

    Args:
        model: Any module that `torch.export` can capture. It is left as it was.
        example_inputs: A tensor, a tuple, a dict of keyword arguments, or `Inputs`.
        keep: Name patterns of layers or parameters that must not be touched.

    Raises:
        InputError, CaptureError, ModelError: See `abscise.graph.capture`.
    """
    analysis = analyse(model, as_inputs(example_inputs))
    return unit_map(analysis, matching_units(analysis, keep))


def propose(model: nn.Module, example_inputs: ExampleInputs, *, keep: tuple[str, ...] = ()) -> Plan:
    """What can be removed without changing the outputs, as data to be read before anything happens.

    Args:
        model: Any module that `torch.export` can capture. It is left as it was.
        example_inputs: A tensor, a tuple, a dict of keyword arguments, or `Inputs`.
        keep: Name patterns of layers or parameters that must not be touched.

    Raises:
        InputError, CaptureError, ModelError: See `abscise.graph.capture`.
    """
    return make_proposal(model, as_inputs(example_inputs), keep).plan


def make_proposal(model: nn.Module, inputs: Inputs, keep: tuple[str, ...] = ()) -> Proposal:
    """Decide, edit a skeleton, capture it again and compare, until nothing has to be taken back.

    This is not try-and-roll-back: the comparison is on integers, before any number is computed, and
    every unit that it keeps has the source line as its reason.
    """
    model = without_selections(model)
    analysis = analyse(model, inputs)
    sites = find_sites(analysis, model)
    whole = whole_units(analysis, model, inputs, sites, matching_units(analysis, keep))
    return _with_selections(whole, model, inputs, keep)


def whole_units(
    analysis: Analysis,
    model: nn.Module,
    inputs: Inputs,
    sites: Mapping[int, Site],
    pinned: Mapping[int, str],
) -> Proposal:
    """The units that go as a whole; those in `pinned` (unit id -> reason) stay."""
    while True:
        held = np.zeros(len(analysis.labels.roots), dtype=bool)
        held[np.fromiter(pinned, dtype=np.int64, count=len(pinned))] = True
        decision = decide(analysis, sites, held)
        plan = build_plan(analysis, model, inputs, decision, sites, pinned)
        if plan.changes_nothing:
            return Proposal(model, plan, analysis, sites, decision, pinned)
        mismatches = check_structure(plan, model, inputs, analysis, decision, sites)
        fresh = {
            unit: mismatch.reason
            for mismatch in mismatches
            for unit in mismatch.units
            if unit not in pinned
        }
        if not mismatches:
            return Proposal(model, plan, analysis, sites, decision, pinned)
        if not fresh:
            fresh = dict.fromkeys(np.flatnonzero(decision.removed).tolist(), mismatches[0].reason)
        pinned = {**pinned, **fresh}


def _with_selections(
    proposal: Proposal, model: nn.Module, inputs: Inputs, keep: tuple[str, ...]
) -> Proposal:
    """Readers that drop inputs for themselves, once the units are settled: none is lost to them.

    A selection that the comparison cannot follow is given up; if it cannot say which, all are.
    """
    analysis, sites = proposal.analysis, proposal.sites
    dropped = find_selections(analysis, model, sites, proposal.decision, keep)
    while dropped:
        decision = replace(proposal.decision, dropped=dropped)
        plan = build_plan(analysis, model, inputs, decision, sites, proposal.pinned)
        mismatches = check_structure(plan, model, inputs, analysis, decision, sites)
        if not mismatches:
            return replace(proposal, plan=plan, decision=decision)
        refused = {mismatch.reader for mismatch in mismatches}
        if None in refused:
            break
        dropped = {position: mask for position, mask in dropped.items() if position not in refused}
    return proposal


def check_structure(
    plan: Plan,
    model: nn.Module,
    inputs: Inputs,
    analysis: Analysis,
    decision: Decision,
    sites: Mapping[int, Site],
) -> list[Mismatch]:
    """Rule R1 on a skeleton of the edited model: all places where it does not agree."""
    skeleton = restructure(plan, model, share=True)

    def against(old: Analysis, given: Inputs, batch: Batch) -> list[Mismatch]:
        try:
            program = capture(skeleton, given, check=False, batch=batch)
        except (CaptureError, InputError) as error:
            return [_blame(old, decision, error)]
        found = compare(old, program, decision)
        return found + _unused_biases(plan, program, old, decision, sites)

    known = analysis.batches
    if not known.free:
        return against(analysis, inputs, Batch.AS_GIVEN)
    if known.looks:
        # Forward may take other steps for another batch: the batch size must be free here too.
        found = against(analysis, inputs, Batch.FREE)
        if analysis.alone is not None and not found:
            single = one_row(inputs, analysis.program)
            found = against(analysis.alone, single, Batch.AS_GIVEN)
        return found
    # One batch size is as good as any, and cheaper. Where it does not agree, the units that must
    # stay are found in a capture like that of the old program.
    found = against(analysis, inputs, Batch.FIXED)
    return found and against(analysis, inputs, Batch.FREE)


def _unused_biases(
    plan: Plan,
    program: Program,
    analysis: Analysis,
    decision: Decision,
    sites: Mapping[int, Site],
) -> list[Mismatch]:
    """A new bias is of use only where every call of its layer adds it."""
    found = []
    static = program.static
    for target in (fold.target for fold in plan.folds if fold.into == "new_bias"):
        weight = f"{target.removesuffix('bias')}weight"
        calls = [contraction_of(program, step, static) for step in program.steps]
        biases = [
            c.bias for c in calls if c is not None and program.values[c.weight].name == weight
        ]
        if all(b is not None and program.values[b].name == target for b in biases) and biases:
            continue
        units: set[int] = set()
        for site in sites.values():
            if site.target == target:
                channels = all_folded(analysis, site, decision)
                ids = channel_units(analysis.labels, analysis.program, site.contraction)
                units.update(ids[channels].tolist())
        found.append(Mismatch(tuple(sorted(units)), f"forward does not add a new {target}"))
    return found


def _blame(analysis: Analysis, decision: Decision, error: AbsciseError) -> Mismatch:
    """The edited model's forward fails: the source line that raised names the units."""
    cause = error.__cause__ or error
    frames = [
        f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} "
        for frame in traceback.extract_tb(cause.__traceback__)
    ]
    removed = decision.removed
    for frame in reversed(frames):
        units: set[int] = set()
        for step in analysis.program.steps:
            if not f"{step.source} ".startswith(frame):
                continue
            for value in (*step.inputs, *step.outputs):
                for layer in analysis.labels.layers.get(value, ()):
                    ids = analysis.labels.units(layer)
                    units.update(np.unique(ids[(ids >= 0) & removed[np.maximum(ids, 0)]]).tolist())
        if units:
            return Mismatch(tuple(sorted(units)), f"forward fixes their number at {frame.strip()}")
    everything = tuple(np.flatnonzero(removed).tolist())
    return Mismatch(everything, f"forward fails without them: {error}")
