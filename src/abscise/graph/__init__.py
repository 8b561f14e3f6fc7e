"""The model as a graph, and what can be known of it without running it.

`capture` turns a model into a `Program`; `analyse` runs the label pass (which indices live and die
together) and the constant pass over it; `Analysis.liveness` asks what is read.
"""

from abscise.graph._analysis import Analysis, analyse, analyse_program, rules_of
from abscise.graph._batches import one_row
from abscise.graph._capture import Batch, capture, eval_mode, first_line
from abscise.graph._constants import CONSTANT, FIXED, UNKNOWN, ConstantPass, Known, channel_view
from abscise.graph._hooks import quiet_hooks
from abscise.graph._interpret import first_samples, observe
from abscise.graph._labels import Balance, LabelPass, Labels, unit_ids
from abscise.graph._liveness import LivenessPass
from abscise.graph._program import Program, Ref, Step, Value, steps_behind
from abscise.graph._reach import lasting, reached_units

__all__ = [
    "CONSTANT",
    "FIXED",
    "UNKNOWN",
    "Analysis",
    "Balance",
    "Batch",
    "ConstantPass",
    "Known",
    "LabelPass",
    "Labels",
    "LivenessPass",
    "Program",
    "Ref",
    "Step",
    "Value",
    "analyse",
    "analyse_program",
    "capture",
    "channel_view",
    "eval_mode",
    "first_line",
    "first_samples",
    "lasting",
    "observe",
    "one_row",
    "quiet_hooks",
    "reached_units",
    "rules_of",
    "steps_behind",
    "unit_ids",
]
