"""abscise: train networks so that parts die, remove what is dead, prove that nothing changed."""

from abscise._certificate import Certificate
from abscise._explain import Explanation, explain
from abscise._inputs import Inputs
from abscise._inspect import Inspection, inspect
from abscise._measure import Measurement, measure
from abscise._units import UnitMap
from abscise._verify import verify
from abscise.compaction import (
    Compaction,
    Plan,
    SnapReport,
    apply,
    compact,
    find_units,
    propose,
    snap_,
)
from abscise.shrinking import Shrink, ShrinkWhileTraining
from abscise.sparsify import Attachment, attach
from abscise.store import load, save

__all__ = [
    "Attachment",
    "Certificate",
    "Compaction",
    "Explanation",
    "Inputs",
    "Inspection",
    "Measurement",
    "Plan",
    "Shrink",
    "ShrinkWhileTraining",
    "SnapReport",
    "UnitMap",
    "apply",
    "attach",
    "compact",
    "explain",
    "find_units",
    "inspect",
    "load",
    "measure",
    "propose",
    "save",
    "snap_",
    "verify",
]
__version__ = "0.1.0"
