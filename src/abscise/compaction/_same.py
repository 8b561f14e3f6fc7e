"""Rule R1: the edited model, captured again, is the old program without the removed units.

Same operations in the same order, same arguments except sizes, and at every operation the labels
of the old program without the removed ones: integers, no tolerance. What does not agree names the
units that have to stay.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from abscise.compaction._decide import Decision
from abscise.compaction._same_arguments import same_arguments
from abscise.compaction._same_selection import kept_inputs, selected_columns, selects
from abscise.graph import Analysis, LabelPass, Program, Step, rules_of, unit_ids
from abscise.graph._compact import compress
from abscise.graph._guards import same_guards
from abscise.graph._movement import MOVEMENTS, index_values, moved_values, touched_dims
from abscise.graph.rules import GROUP_NORM, Rule, group_norm_operands

Units = NDArray[np.bool_]
Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Units that must stay, because the forward does something else without them."""

    units: tuple[int, ...]
    reason: str
    reader: int | None = None
    """Position of the step whose selection of inputs is not what was decided."""


def compare(analysis: Analysis, edited: Program, decision: Decision) -> list[Mismatch]:
    """All places where the edited program is not the old one with the removed units deleted."""
    return _Comparison(analysis, edited, decision).run()


class _Comparison:
    def __init__(self, analysis: Analysis, edited: Program, decision: Decision) -> None:
        self._old = analysis.program
        self._new = edited
        self._labels = analysis.labels
        self._removed = decision.removed
        self._kept_inputs = kept_inputs(analysis, decision)
        self._readers = analysis.contractions
        self._found: list[Mismatch] = []
        self._match: dict[int, int] = dict(zip(self._old.inputs, edited.inputs, strict=False))
        self._columns = _columns_of_last_groups(analysis, decision.removed)
        self._columns |= selected_columns(analysis, decision)
        self._ctx = LabelPass(edited, self._given())

    def run(self) -> list[Mismatch]:
        position = self._follow_steps()
        if not self._found and not self._same_ends(position):
            self._fail_all("without them forward ends in another way")
        if not same_guards(self._old.guards, self._new.guards):
            self._fail_all("forward decides by their number and the batch size")
        return self._found

    def _follow_steps(self) -> int:
        """Compare step by step, as far as that makes sense; how many new steps were compared."""
        rules = rules_of(self._new)
        position = 0
        for place, old in enumerate(self._old.steps):
            whole: dict[int, int] = {}
            if place in self._kept_inputs:
                whole = self._follow_selection(place, position, rules)
                if not whole:
                    break
                position += 1
            new = self._new.steps[position] if position < len(self._new.steps) else None
            if (new is None or new.op != old.op) and self._cuts_nothing(old):
                continue
            if new is None or new.op != old.op or len(new.outputs) != len(old.outputs):
                self._fail(old, f"without them forward takes another path at {old.where}")
                break
            self._ctx.position = position
            if not self._compare_step(old, new, rules[position]):
                break
            self._match |= whole
            position += 1
        return position

    def _fail_all(self, reason: str) -> None:
        units = tuple(np.flatnonzero(self._removed).tolist())
        self._found.append(Mismatch(units, reason))

    def _follow_selection(self, place: int, position: int, rules: Sequence[Rule]) -> dict[int, int]:
        """One more step in front of a reader that drops inputs, read by that reader alone.

        For that reader the input's match is what was selected; the match for all others comes back,
        or nothing where the step is not there.
        """
        c = self._readers[place]
        source = self._match.get(c.x)
        kept = self._kept_inputs[place]
        if source is None or not selects(self._new, position, source, kept, c.in_dim):
            where = self._old.steps[place].where
            self._found.append(Mismatch((), f"forward does not select inputs at {where}", place))
            return {}
        step = self._new.steps[position]
        rules[position].labels(self._ctx, step)
        self._match[c.x] = step.outputs[0]
        return {c.x: source}

    def _compare_step(self, old: Step, new: Step, rule: Rule) -> bool:
        """Compare one step; False where nothing can be said of the steps behind it."""
        if not self._same_arguments(old, new):
            if not self._units_of(old):
                return True  # its outputs stay without a match: the step that reads them fails
            self._fail(old, f"an argument depends on their number in {old.where}")
        if not _indices_fit(self._new, new):
            self._fail(old, f"without them an index is out of range in {old.where}")
            return False
        edges, pins = self._ctx.edge_count, self._ctx.pin_count
        rule.labels(self._ctx, new)
        if not self._same_joins(edges, pins):
            self._fail(old, f"forward pairs other units without them in {old.where}")
        for mine, theirs in zip(old.outputs, new.outputs, strict=True):
            self._match[mine] = theirs
            if not self._same_labels(mine, theirs):
                self._fail(old, f"forward fixes their number or order in {old.where}")
                if not self._repair(mine, theirs):
                    return False
        return True

    def _cuts_nothing(self, old: Step) -> bool:
        """A slice whose cut-off units are all gone takes everything: torch leaves it out."""
        if old.op != "aten.slice.Tensor" or old.inputs[0] not in self._match:
            return False
        source, output = old.inputs[0], old.outputs[0]
        before, after = self._expected(source), self._expected(output)
        if before is None or after is None or before[1] != after[1]:
            return False
        if any((a != b).any() for a, b in zip(before[0], after[0], strict=True)):
            return False
        self._match[output] = self._match[source]
        return True

    def _given(self) -> dict[tuple[int, int], Ids]:
        """The edited program's axes with the old labels that stay."""
        self._match |= _matching_constants(self._old, self._new)
        given: dict[tuple[int, int], Ids] = {}
        for (value, dim), ids in self._labels.axes.items():
            new = self._match.get(value)
            if new is None:
                continue
            stays = self._columns.get((value, dim), ids[~self._removed[self._labels.roots[ids]]])
            size = self._new.values[new].shape[dim]
            # Axis 1 of a grouped weight shrinks without labels of its own; they are pinned.
            if len(stays) >= size:
                given[new, dim] = stays[:size]
        return given

    def _fail(self, old: Step, reason: str) -> None:
        self._found.append(Mismatch(self._units_of(old), reason))

    def _units_of(self, old: Step) -> tuple[int, ...]:
        """Removed units that the step reads or writes."""
        units: set[int] = set()
        for value in (*old.inputs, *old.outputs):
            for layer in self._labels.layers.get(value, ()):
                ids = self._labels.units(layer)
                found = np.unique(ids[ids >= 0])
                units.update(found[self._removed[found]].tolist())
        return tuple(sorted(units))

    def _same_ends(self, steps: int) -> bool:
        """No step is left over, and the outputs are the same values."""
        outputs = tuple(self._match.get(value) for value in self._old.outputs)
        same_inputs = len(self._old.inputs) == len(self._new.inputs)
        return steps == len(self._new.steps) and outputs == self._new.outputs and same_inputs

    def _same_arguments(self, old: Step, new: Step) -> bool:
        if old.op == GROUP_NORM and self._group_size(old, self._old) != self._group_size(
            new, self._new
        ):
            return False
        return same_arguments(old, new, self._match)

    @staticmethod
    def _group_size(step: Step, program: Program) -> int:
        x, groups, _ = group_norm_operands(step)
        return program.values[x].shape[1] // groups

    def _same_joins(self, edges: int, pins: int) -> bool:
        """New joins connect what was joined before; new pins hit what was pinned before."""
        roots = self._labels.roots
        for left, right in self._ctx.edges_from(edges):
            if (roots[left] != roots[right]).any():
                return False
        return all(
            all(unit in self._labels.pins for unit in np.unique(roots[labels]).tolist())
            for labels in self._ctx.pins_from(pins)
        )

    def _expected(self, value: int) -> tuple[list[Ids], tuple[int, ...]] | None:
        """Unit ids of the old layers without the removed ones, and the shape; None: no product."""
        shape = list(self._old.values[value].shape)
        layers = [self._labels.units(layer) for layer in self._labels.layers.get(value, ())]
        lines: dict[int, torch.Tensor] = {}
        for units in layers:
            stays = torch.from_numpy(~self._removed[np.maximum(units, 0)] | (units < 0))
            own = {dim: _line(stays, dim) for dim in range(units.ndim) if units.shape[dim] > 1}
            product = torch.ones_like(stays)
            for dim, line in own.items():
                product = product & line
                # Several layers run along one dimension where axes were flattened into it.
                lines[dim] = line if dim not in lines else lines[dim] & line
            if not bool((product == stays).all()):
                return None
        indices = {dim: line.flatten().nonzero().flatten() for dim, line in lines.items()}
        shape = [len(indices[dim]) if dim in indices else size for dim, size in enumerate(shape)]
        return [_select(units, indices) for units in layers], tuple(shape)

    def _same_labels(self, old: int, new: int) -> bool:
        expected = self._expected(old)
        if expected is None or expected[1] != self._new.values[new].shape:
            return False
        found = [unit_ids(self._labels.roots, layer.numpy()) for layer in self._ctx.layers(new)]
        for layer in expected[0]:
            place = next((i for i, other in enumerate(found) if _same_layer(layer, other)), None)
            if place is None:
                return False
            del found[place]
        return all(layer.size == 1 for layer in found)  # the last unit of an axis, broadcast

    def _repair(self, old: int, new: int) -> bool:
        """Go on with the expected labels, to find further mismatches in the same capture."""
        expected = self._expected(old)
        if expected is None or expected[1] != self._new.values[new].shape:
            return False
        self._ctx.give(new, [torch.from_numpy(layer) for layer in expected[0]])
        return True


def _line(stays: torch.Tensor, dim: int) -> torch.Tensor:
    """Where along `dim` anything stays; the other dimensions have size 1."""
    for other in range(stays.ndim):
        if other != dim:
            stays = stays.any(other, keepdim=True)
    return stays


def _select(units: Ids, indices: Mapping[int, torch.Tensor]) -> Ids:
    result = torch.from_numpy(units)
    for dim, index in indices.items():
        if result.shape[dim] > 1:
            result = result.index_select(dim, index)
    found: Ids = result.numpy()
    return found


def _indices_fit(program: Program, step: Step) -> bool:
    """Does every index name an element that is there? torch.export does not look."""
    dims = touched_dims(program, step) if step.op in MOVEMENTS and index_values(step) else None
    if dims is None:
        return True
    size = program.values[moved_values(step)[0]].shape[dims[0]]
    found = [program.values[value].data for value in index_values(step)]
    return all(data is None or data.dtype == torch.bool or _inside(data, size) for data in found)


def _inside(index: torch.Tensor, size: int) -> bool:
    return not index.numel() or (-size <= int(index.min()) and int(index.max()) < size)


def _same_layer(expected: Ids, found: Ids) -> bool:
    mine, theirs = compress(torch.from_numpy(expected)), compress(torch.from_numpy(found))
    return mine.shape == theirs.shape and bool((mine == theirs).all())


def _matching_constants(old: Program, new: Program) -> dict[int, int]:
    """Parameters and buffers by name; other constants by their order, where they are equal."""
    names = {entry.name: value for value, entry in enumerate(new.values) if entry.name}
    found = {
        value: names[entry.name] for value, entry in enumerate(old.values) if entry.name in names
    }
    mine, theirs = (
        [value for value, entry in enumerate(program.values) if entry.data is not None]
        for program in (old, new)
    )
    unnamed = [value for value in mine if old.values[value].name is None]
    others = [value for value in theirs if new.values[value].name is None]
    for value, other in zip(unnamed, others, strict=False):
        a, b = old.values[value].data, new.values[other].data
        if a is not None and b is not None and a.dtype == b.dtype and torch.equal(a, b):
            found[value] = other
    return found


def _columns_of_last_groups(analysis: Analysis, removed: Units) -> dict[tuple[int, int], Ids]:
    """Where one group of a grouped convolution is left, its weight reads that group's channels."""
    found: dict[tuple[int, int], Ids] = {}
    roots = analysis.labels.roots
    for balance in analysis.labels.balances:
        if not balance.grouped or balance.inputs is None:
            continue
        left = [place for place, row in enumerate(balance.rows) if not removed[roots[row]].all()]
        c = analysis.contractions[balance.step]
        if len(left) == 1 and c.groups > 1:
            labels = balance.inputs[left[0]]
            found[c.weight, c.in_axis] = labels[~removed[roots[labels]]]
    return found
