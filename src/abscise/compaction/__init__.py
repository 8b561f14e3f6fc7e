"""Removal: from a model to a plan (`propose`), from a plan to a smaller model (`apply`), or both.

A plan is pure data. `propose` finds the largest set of units that nothing downstream can tell
are gone
and checks it against the user's own forward; `apply` proves it again for the checkpoint at hand,
edits a copy and folds constants; `compact` does both and verifies the result on numbers.
"""

from abscise.compaction._apply import apply
from abscise.compaction._compact import Compaction, compact
from abscise.compaction._edit import restructure
from abscise.compaction._fingerprint import fingerprint
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
from abscise.compaction._propose import Proposal, find_units, make_proposal, propose
from abscise.compaction._snap import SnappedLayer, SnapReport, snap_

__all__ = [
    "Attribute",
    "AxisEdit",
    "Compaction",
    "Fold",
    "GroupedEdit",
    "LayerSummary",
    "Plan",
    "Proposal",
    "Removal",
    "Selection",
    "SnapReport",
    "SnappedLayer",
    "apply",
    "compact",
    "find_units",
    "fingerprint",
    "layer_from_fields",
    "make_proposal",
    "plan_from_json",
    "plan_to_json",
    "propose",
    "restructure",
    "snap_",
]
