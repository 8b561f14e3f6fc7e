"""What the experiments on implicit sparsity share: dead units counted, snapped, removed; controls.

An adaptive optimizer with L2 leaves dead weights near 1e-30, never at 0. So what is removed is what
`snap_` sets to 0, at a threshold that the training and validation parts choose. The test part is
read once, at the end, by the network before and by the one after removal.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

import abscise
from abscise._errors import StoreError
from abscise._inputs import Inputs
from abscise._json import Fields
from abscise.papers._bench import Bench
from abscise.papers._dead import DeadUnits, count_dead, dead_from_fields
from abscise.papers._finished import Finished
from abscise.papers._points import Point
from abscise.papers._shipping import EXAMPLES, errors_on
from abscise.papers._task import Task
from abscise.train import Data, Run, Trained, predict

SNAPS = (1e-3, 1e-4, 1e-6, 1e-12)
"""Thresholds that are tried, the largest first: above the papers' 1e-3 units may well be alive."""

NONE_BELOW = 1e-6
"""A control must show no unit below it."""

_TRIED = ("threshold", "snapped", "changed")


@dataclass(frozen=True, slots=True)
class Tried:
    """A snap at one threshold.

    Args:
        threshold: Of the snap.
        snapped: Units that it sets to 0.
        changed: Examples of the training and validation parts whose predicted class it changes.
    """

    threshold: float
    snapped: int
    changed: int


@dataclass(frozen=True, slots=True, eq=False)
class Snapped:
    """A copy of a network whose dead units are exactly 0.

    Args:
        model: The copy; where no threshold was harmless, without any change.
        threshold: The largest of `SNAPS` that changes no prediction; 0: there is none.
        tried: All that were tried, the largest threshold first.
    """

    model: nn.Module
    threshold: float
    tried: tuple[Tried, ...]


@dataclass(frozen=True, slots=True)
class Implicit:
    """What a line of such an experiment says beyond every line.

    Args:
        dead: Counted on the trained network, before the snap.
        threshold: Of the snap.
        error_before: On the test set in percent, before snap and removal.
        tried: Snaps.
    """

    dead: DeadUnits
    threshold: float
    error_before: float
    tried: tuple[Tried, ...]


def snapped_copy(model: nn.Module, data: Data) -> Snapped:
    """Snap a copy of `model` at the largest threshold that changes no prediction.

    All examples of the training and validation parts are predicted; the test part is not read.

    Raises:
        InputError, CaptureError, ModelError: See `abscise.snap_`.
    """
    seen = (data.train.inputs, data.validation.inputs)
    wanted = _predictions(model, seen)
    tried: list[Tried] = []
    chosen, threshold = copy.deepcopy(model), 0.0
    for limit in SNAPS:
        small = copy.deepcopy(model)
        report = abscise.snap_(small, Inputs((seen[0][:EXAMPLES].clone(),)), threshold=limit)
        if tried and report.snapped == tried[-1].snapped:  # what is below is nested: the same units
            changed = tried[-1].changed
        else:
            changed = int((_predictions(small, seen) != wanted).sum()) if report.snapped else 0
        tried.append(Tried(limit, report.snapped, changed))
        if not changed:
            chosen, threshold = small, limit
            break
    return Snapped(chosen, threshold, tuple(tried))


def ship_snapped(bench: Bench, task: Task, trained: Trained, about: str) -> Run:
    """Count what is dead, snap, compact, prove, measure: the line of this run.

    Raises:
        NotEqualError: The compacted network does not give the outputs of the snapped one.
    """
    dense = copy.deepcopy(trained.model).cpu().eval()
    data = trained.data
    dead = count_dead(dense, data.train.inputs)
    found = snapped_copy(dense, data)
    run = bench.ship(task, trained, model=found.model, about=about)
    (before,) = errors_on([dense], data.test)
    notes = {
        "dead": dead.to_json(),
        "snap": found.threshold,
        "tried": [
            {"threshold": it.threshold, "snapped": it.snapped, "changed": it.changed}
            for it in found.tried
        ],
        "error_before": before,
    }
    return replace(run, notes={**(run.notes or {}), **notes})


def implicit_of(run: Finished) -> Implicit:
    """What the line of a run says of its dead units.

    Raises:
        StoreError: A field is missing, unknown, of the wrong type or out of range.
    """
    missing = [it for it in ("dead", "snap", "tried", "error_before") if it not in run.notes]
    if missing:
        message = f"{run.task.key}: notes must hold {missing[0]}: its dead units were not counted"
        raise StoreError(message)
    notes = Fields(run.notes, f"{run.task.key}: notes", StoreError)
    return Implicit(
        dead=dead_from_fields(notes, "dead"),
        threshold=notes.number("snap", 0.0, 1.0),
        error_before=notes.number("error_before", 0.0, 100.0),
        tried=tuple(
            Tried(one.number("threshold"), one.integer("snapped"), one.integer("changed"))
            for one in notes.objects("tried", _TRIED)
        ),
    )


def dead_share(run: Finished, threshold: float) -> float:
    """Percent of the units whose weights are below one of the counted thresholds."""
    dead = implicit_of(run).dead
    return 100 * dead.below(threshold) / max(dead.units, 1)


def silent_share(run: Finished) -> float:
    """Percent of the units that no training example makes fire."""
    dead = implicit_of(run).dead
    return 100 * dead.silent / max(dead.units, 1)


def unchanged(run: Finished) -> bool:
    """Is the test error after removal that before, to the last digit?"""
    return run.error_percent == implicit_of(run).error_before


def control_sentence(
    where: str, points: Sequence[Point], titles: Mapping[str, str], main: Point | None
) -> str:
    """Whether the controls show what they must: no unit below 1e-6; nothing without controls.

    Args:
        where: In which the runs are, such as "mnist, lenet300".
        points: Of the controls only.
        titles: Method -> its name.
        main: What must lose units beside them: where it does not, the controls show nothing.
    """
    if not points:
        return ""
    guilty = [it for it in points if _most(it) > 0]
    head = f"{where}: controls, which must show no unit below {NONE_BELOW:g}"
    if not guilty:
        names = "; ".join(dict.fromkeys(titles[it.method] for it in points))
        if main is None:
            but = "; it says nothing without a run that must lose some"
        else:
            but = "" if _most(main) else f"; it says nothing, as {titles[main.method]} lost none"
        return f"{head}: none in {_count(points)} ({names}){but}."
    told = [f"{titles[it.method]} has up to {_most(it)} of {_units(it)}" for it in guilty]
    return f"{head}: NOT met: {'; '.join(told)}."


def recipes_sentence(where: str, points: Sequence[Point]) -> str:
    """What runs that are compared do not have in common, although they should; mostly nothing.

    The seeds of one point have one recipe, all points one device and precision: a line that was
    made on another machine, or by code with other defaults, has the key of a task all the same.
    """
    found = {name for it in points for name in _differ(it.runs)} - {"seed"}
    every = [run for it in points for run in it.runs]
    found |= set(_differ(every)) & {"device", "precision", "compile"}
    if not found:
        return ""
    return f"{where}: NOT all runs that are compared are alike: {', '.join(sorted(found))} differ."


def _differ(runs: Sequence[Finished]) -> list[str]:
    """Fields of the recipe that all have, and not all with the same value."""
    first, *others = (run.recipe for run in runs)
    shared = [name for name in first if all(name in it for it in others)]
    return [name for name in shared if any(it[name] != first[name] for it in others)]


def _most(point: Point) -> int:
    """Of the seeds, the most units below `NONE_BELOW`."""
    return max(implicit_of(run).dead.below(NONE_BELOW) for run in point.runs)


def _units(point: Point) -> int:
    return implicit_of(point.runs[0]).dead.units


def _count(points: Iterable[Point]) -> str:
    runs = sum(len(it.runs) for it in points)
    return "one run" if runs == 1 else f"{runs} runs"


def _predictions(model: nn.Module, parts: Iterable[Tensor]) -> Tensor:
    return torch.cat([predict(model, part) for part in parts])
