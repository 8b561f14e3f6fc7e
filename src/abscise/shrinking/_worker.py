"""ShrinkWorker: looks for dead units every few steps, and takes them away whole or not at all."""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from abscise._inputs import as_inputs
from abscise.compaction import (
    Decision,
    Plan,
    Proposal,
    build_plan,
    find_sites,
    matching_units,
    named_tensors,
    unit_map,
    whole_units,
)
from abscise.graph import Analysis, analyse
from abscise.implicit import tracker_of
from abscise.shrinking._checks import (
    check_same,
    check_trainable,
    elsewhere,
    moved,
    outputs,
    trains,
    without_autocast,
)
from abscise.shrinking._dead import Units, dead_units
from abscise.shrinking._history import History
from abscise.shrinking._in_place import shrink_average_, shrink_states_, shrink_weights_
from abscise.shrinking._record import LayerShrink, Shrink
from abscise.shrinking._small import not_at_rest, small_units, to_zero
from abscise.shrinking._state import State, read_state
from abscise.sparsify import Worker, attachments_of

if TYPE_CHECKING:
    from abscise.shrinking._options import ShrinkWhileTraining

_LIVES = "may still be trained"

_Counted = tuple[Analysis, dict[int, str], NDArray[np.int64]]
"""An analysis, its units that are to be kept, and the looks in a row at which each was small."""


class ShrinkWorker(Worker):
    """Options at work on one model and its optimizer.

    Attributes:
        shrinks: What was removed so far, by this process.
        step: Optimizer steps done.
    """

    reshapes = True

    def __init__(
        self, options: "ShrinkWhileTraining", optimizer: Optimizer, model: nn.Module
    ) -> None:
        """Made by `ShrinkWhileTraining.bind`; captures the model."""
        self.shrinks: list[Shrink] = []
        self.step = 0
        self._options, self._optimizer, self._model = options, optimizer, model
        self._inputs = as_inputs(options.example_inputs)
        with without_autocast(model):
            self._analysis = analyse(model, self._inputs)
        check_trainable(self._analysis.program, model)
        self._kept = matching_units(self._analysis, options.keep)
        self._small: NDArray[np.int64] = np.zeros(len(self._analysis.labels.roots), dtype=np.int64)
        self._history = self._start()

    @property
    def plan(self) -> Plan:
        """Everything removed so far, as one plan for the network as it was attached.

        `abscise.apply(plan, network, structure_only=True)` gives a freshly built network the shapes
        of this one, ready for its state dict.
        """
        return self._history.plan()

    @override
    def before_step(self, optimizer: Optimizer, *, fresh: bool) -> None:
        """Refuses at the first step, not when the first unit dies, hours later."""
        for other in attachments_of(self._optimizer):
            if other.worker is not self:
                other.check_follows()

    @override
    def after_step(self, optimizer: Optimizer) -> None:
        self.step += 1
        if self.step % self._options.every == 0:
            with torch.no_grad(), without_autocast(self._model):
                self._look()

    @override
    def state_dict(self) -> dict[str, Any]:
        small = {
            layer: torch.from_numpy(np.where(ids >= 0, self._small[np.maximum(ids, 0)], 0))
            for layer, ids in unit_map(self._analysis).layers.items()
        }
        return State(self.step, small, self.plan if self.plan.edits else None).as_dict()

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave; a network as it was built is first shrunk likewise.

        Load the state of this attachment before those of the model and its optimizer.

        Raises:
            ValueError: A key is missing, unknown or impossible, or the state is of another network.
        """
        read = read_state(state)
        plan = self._history.dense if read.plan is None else read.plan
        if plan != self.plan and (plan.fingerprint != self.plan.fingerprint or self.plan.edits):
            message = (
                "the state is of another network, or of one that was shrunk otherwise: attach "
                "to the network as it was built, then load"
            )
            raise ValueError(message)
        try:
            gone = {} if plan == self.plan else _gone(self._analysis, plan)
        except (KeyError, IndexError) as problem:
            message = f"state_dict: plan: it removes what the network does not have ({problem})"
            raise ValueError(message) from problem
        for layer, ids in unit_map(self._analysis).layers.items():
            counts, left = len(read.small.get(layer, ())), len(ids) - len(gone.get(layer, ()))
            if counts != left:
                message = f"the state has {counts} units of {layer}, the network {left}"
                raise ValueError(message)
        if plan != self.plan:
            with torch.no_grad(), without_autocast(self._model):
                self._carry_out(plan)
        self.step = read.step
        self._small = np.zeros_like(self._small)
        for layer, ids in unit_map(self._analysis).layers.items():
            self._small[ids[ids >= 0]] = read.small[layer].cpu().numpy()[ids >= 0]

    def _start(self) -> History:
        """The plan that removes nothing."""
        kept = np.ones(len(self._analysis.labels.roots), dtype=bool)
        live = self._analysis.liveness(kept, {}, {})
        nothing = Decision(~kept, live, {}, {})
        plan = build_plan(self._analysis, self._model, self._inputs, nothing, {}, self._kept)
        return History(plan, unit_map(self._analysis).layers)

    def _look(self) -> None:
        started = time.perf_counter()
        options = self._options
        if elsewhere(self._analysis.program, self._model):
            self._adopt(self._counted(analyse(self._model, self._inputs), {}))
        small = small_units(self._analysis, self._model, options.snap)
        self._small = np.where(small, self._small + 1, 0)
        ready = small & self._analysis.labels.candidates & (self._small >= options.patience)
        ready[np.fromiter(self._kept, dtype=np.int64, count=len(self._kept))] = False
        if ready.sum() < options.at_least:
            return
        self._remove_dead(ready, started)

    def _remove_dead(self, ready: Units, started: float) -> None:
        """Remove what is dead of these units.

        Not all that is dead can go: a layer keeps its last unit, forward may count units. What has
        to stay is not set to 0; so it is looked once more at what is dead without that.
        """
        stays, last = np.zeros_like(ready), set[int]()
        while True:
            zeroed = to_zero(self._analysis, self._model, ready & ~stays, self._options.snap)
            found = dead_units(self._analysis, self._model, self._optimizer, ready, zeroed)
            dead = found.units & ~stays
            if dead.sum() < self._options.at_least:
                return
            proposal = self._proposal(found.analysis, dead)
            why = proposal.decision.why_kept
            last |= {unit for unit in why if why[unit].startswith("the last")}
            left = dead & ~proposal.decision.removed
            relied = to_zero(self._analysis, self._model, left, self._options.snap)
            if not not_at_rest(self._analysis, self._model, self._optimizer, relied):
                break
            stays |= left
        if not proposal.plan.changes_nothing:
            self._remove(proposal, last, started)

    def _proposal(self, analysis: Analysis, dead: Units) -> Proposal:
        """What goes, checked against the model's own forward. Nothing is folded: all is 0."""
        sites = {
            position: replace(site, foldable=torch.zeros_like(site.foldable), into="", target="")
            for position, site in find_sites(analysis, self._model).items()
        }
        pinned = dict.fromkeys(np.flatnonzero(~dead).tolist(), _LIVES)
        return whole_units(analysis, self._model, self._inputs, sites, pinned)

    def _remove(self, proposal: Proposal, last: set[int], started: float) -> None:
        parameters = _count(self._model)
        removed = proposal.decision.removed
        zeroed = to_zero(self._analysis, self._model, removed, self._options.snap)
        snapped = not_at_rest(self._analysis, self._model, self._optimizer, zeroed)
        before = unit_map(self._analysis).layers
        effect = self._carry_out(proposal.plan, zeroed)
        layers = [
            LayerShrink(
                layer,
                int(removed[ids[ids >= 0]].sum()),
                len(ids) - int(removed[ids[ids >= 0]].sum()),
                died=bool(last & set(ids.tolist())),
            )
            for layer, ids in before.items()
        ]
        shrink = Shrink(
            step=self.step,
            removed=proposal.plan.removed_units,
            snapped=snapped,
            layers=tuple(layer for layer in layers if layer.removed or layer.died),
            parameters_before=parameters,
            parameters=_count(self._model),
            moved=effect,
            wall_s=time.perf_counter() - started,
        )
        self.shrinks.append(shrink)
        if self._options.observer is not None:
            _ = self._options.observer(shrink)

    def _carry_out(self, plan: Plan, zeroed: Mapping[str, Tensor] | None = None) -> float:
        """Remove what the plan says, everywhere, or leave all as it was.

        Returns:
            How far setting `zeroed` to 0 moved the outputs, over their spread.
        """
        model, gone = self._model, _gone(self._analysis, plan)
        trained = trains(model, self._inputs)  # now, as the mode is the user's to change
        with ExitStack() as undo:
            first = outputs(model, self._inputs)
            if zeroed is not None:
                _zero_(model, zeroed, undo)
            dense = outputs(model, self._inputs)
            shrink_states_(plan, model, self._optimizer, undo)
            if self._options.ema is not None:
                shrink_average_(plan, self._options.ema, model, undo)
            shrink_weights_(plan, model, undo)
            if zeroed is not None:
                check_same(dense, outputs(model, self._inputs), next(model.parameters()).dtype)
            if trained:
                _ = trains(model, self._inputs, refuse=True)
            counted = self._counted(analyse(model, self._inputs), gone)
            self._let_others_follow(plan, undo)
            self._adopt(counted)
            self._history.add(plan, gone)
            _ = undo.pop_all()
        return moved(first, dense)

    def _let_others_follow(self, plan: Plan, undo: ExitStack) -> None:
        removed = {(edit.name, edit.axis): edit.removed for edit in plan.edits}
        others = [it for it in attachments_of(self._optimizer) if it.worker is not self]
        if others and plan.grouped:
            message = (
                f"{type(others[0].sparsifier).__name__} cannot follow the removal within groups of "
                f"{plan.grouped[0].name}: keep={plan.grouped[0].name!r}, or detach it"
            )
            raise ValueError(message)
        for attachment in others:
            _ = undo.callback(attachment.follow(self._model, removed))
        tracker = tracker_of(self._optimizer)
        if tracker is not None:
            tracker.follow(removed)

    def _counted(self, analysis: Analysis, gone: Mapping[str, NDArray[np.int64]]) -> _Counted:
        """The units that are left, in the numbers of a new analysis, with their counts."""
        old = unit_map(self._analysis).layers
        small = np.zeros(len(analysis.labels.roots), dtype=np.int64)
        for layer, ids in unit_map(analysis).layers.items():
            counts = self._small[np.maximum(old[layer], 0)]
            left = np.delete(counts, gone.get(layer, np.empty(0, dtype=np.int64)))
            small[ids[ids >= 0]] = left[ids >= 0]
        return analysis, matching_units(analysis, self._options.keep), small

    def _adopt(self, counted: _Counted) -> None:
        """Count on with them."""
        self._analysis, self._kept, self._small = counted


def _gone(analysis: Analysis, plan: Plan) -> dict[str, NDArray[np.int64]]:
    """Layer -> the places, among its outputs, of the units that the plan removes."""
    units = unit_map(analysis)
    found = [units.axes[edit.name, edit.axis][list(edit.removed)] for edit in plan.edits]
    gone = np.unique(np.concatenate(found)) if found else np.empty(0, dtype=np.int64)
    places = {layer: np.flatnonzero(np.isin(ids, gone)) for layer, ids in units.layers.items()}
    return {layer: own for layer, own in places.items() if len(own)}


def _zero_(model: nn.Module, zeroed: Mapping[str, Tensor], undo: ExitStack) -> None:
    tensors = named_tensors(model)
    for name, mask in zeroed.items():
        tensor = tensors[name]
        _ = undo.callback(tensor.data.copy_, tensor.detach().clone())
        _ = tensor.data.masked_fill_(mask, 0.0)


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
