"""abscise: train networks so that parts die, remove what is dead, prove that nothing changed."""

from abscise._certificate import Certificate
from abscise._inputs import Inputs
from abscise._measure import Measurement, measure
from abscise._units import UnitMap
from abscise._verify import verify
from abscise.compaction import Compaction, Plan, apply, compact, find_units, propose
from abscise.store import load, save

__all__ = [
    "Certificate",
    "Compaction",
    "Inputs",
    "Measurement",
    "Plan",
    "UnitMap",
    "apply",
    "compact",
    "find_units",
    "load",
    "measure",
    "propose",
    "save",
    "verify",
]
__version__ = "0.1.0"
