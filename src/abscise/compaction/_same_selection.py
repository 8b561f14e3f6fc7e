"""Rule R1 where a reader selects its inputs: the indices that it must read, and the step that does.

The buffer is compared with positions derived from the labels and the decision, not from the plan.
"""

import numpy as np
from numpy.typing import NDArray

from abscise.compaction._decide import Decision
from abscise.compaction._select_inputs import BUFFER
from abscise.compaction._selecting import gone_inputs
from abscise.graph import Analysis, Program, Ref

Ids = NDArray[np.int64]
_SELECT = "aten.index_select.default"


def kept_inputs(analysis: Analysis, decision: Decision) -> dict[int, tuple[str, list[int]]]:
    """Step position -> name of the buffer, and the positions it must hold."""
    found: dict[int, tuple[str, list[int]]] = {}
    for position, dropped in decision.dropped.items():
        c = analysis.contractions[position]
        stays = ~gone_inputs(analysis, c, decision)
        path = (analysis.program.values[c.weight].name or "").rpartition(".")[0]
        name = f"{path}.{BUFFER}" if path else BUFFER
        found[position] = name, (~dropped)[stays].nonzero().flatten().tolist()
    return found


def selected_columns(analysis: Analysis, decision: Decision) -> dict[tuple[int, int], Ids]:
    """The labels that are left of the columns of readers that select."""
    found: dict[tuple[int, int], Ids] = {}
    for position, dropped in decision.dropped.items():
        c = analysis.contractions[position]
        ids = analysis.labels.axes.get((c.weight, c.in_axis))
        if ids is not None:
            gone = decision.removed[analysis.labels.roots[ids]]
            found[c.weight, c.in_axis] = ids[~gone & ~dropped.numpy()]
    return found


def selects(
    program: Program, position: int, source: int, expected: tuple[str, list[int]], dim: int
) -> bool:
    """Does this step take exactly the expected channels of `source`, for the next step alone?"""
    if position >= len(program.steps) or program.steps[position].op != _SELECT:
        return False
    name, positions = expected
    step = program.steps[position]
    x, along, index = step.args
    rank = len(program.values[source].shape)
    buffer = program.values[index.value]
    right = x == Ref(source) and along % rank == dim and buffer.name == name
    if not right or buffer.data is None or buffer.data.tolist() != positions:
        return False
    output = step.outputs[0]
    readers = [place for place, other in enumerate(program.steps) if output in other.inputs]
    return readers == [position + 1] and output not in program.outputs
