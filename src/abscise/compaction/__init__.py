"""Removal: from a model to a plan (`propose`), from a plan to a smaller model (`apply`), or both.

A plan is pure data. `propose` finds the largest set of units that nothing downstream can tell
are gone
and checks it against the user's own forward; `apply` proves it again for the checkpoint at hand,
edits a copy and folds constants; `compact` does both and verifies the result on numbers.
"""

from abscise.compaction._apply import apply
from abscise.compaction._build import build_plan, matching_units, unit_map
from abscise.compaction._carried import (
    Average,
    averaged_module,
    averaged_names,
    laid_out,
    state_kind,
)
from abscise.compaction._compact import Compaction, compact
from abscise.compaction._decide import Decision, decide
from abscise.compaction._edit import cut, named_tensors, restructure
from abscise.compaction._fingerprint import fingerprint
from abscise.compaction._folding import find_sites
from abscise.compaction._plan import (
    Attribute,
    AxisEdit,
    Fold,
    GroupedEdit,
    LayerSummary,
    Plan,
    Removal,
    Selection,
)
from abscise.compaction._plan_json import layer_from_fields, plan_from_json, plan_to_json
from abscise.compaction._propose import (
    Proposal,
    find_units,
    make_proposal,
    propose,
    whole_units,
)
from abscise.compaction._select_inputs import selected_weights
from abscise.compaction._slices import WritingSlice, writing_slices
from abscise.compaction._snap import SnappedLayer, SnapReport, snap_

__all__ = [
    "Attribute",
    "Average",
    "AxisEdit",
    "Compaction",
    "Decision",
    "Fold",
    "GroupedEdit",
    "LayerSummary",
    "Plan",
    "Proposal",
    "Removal",
    "Selection",
    "SnapReport",
    "SnappedLayer",
    "WritingSlice",
    "apply",
    "averaged_module",
    "averaged_names",
    "build_plan",
    "compact",
    "cut",
    "decide",
    "find_sites",
    "find_units",
    "fingerprint",
    "laid_out",
    "layer_from_fields",
    "make_proposal",
    "matching_units",
    "named_tensors",
    "plan_from_json",
    "plan_to_json",
    "propose",
    "restructure",
    "selected_weights",
    "snap_",
    "state_kind",
    "unit_map",
    "whole_units",
    "writing_slices",
]
