"""What a certificate is measured with: runs, outputs as a flat table, differences, planted errors.

`abscise.verify` puts these together; nothing here knows graphs, units or plans.
"""

from abscise.proof._differences import (
    Difference,
    Yardstick,
    largest_difference,
    predictions_equal,
    yardstick,
)
from abscise.proof._outputs import (
    Leaves,
    first_integer_difference,
    first_mismatch,
    first_not_finite,
    flatten,
)
from abscise.proof._planted import plant_errors
from abscise.proof._runs import (
    Runs,
    eval_copy,
    float64_copy,
    float64_inputs,
    lowest_dtype,
    quiet,
    rounded_outputs,
    run_model,
    sample_runs,
)

__all__ = [
    "Difference",
    "Leaves",
    "Runs",
    "Yardstick",
    "eval_copy",
    "first_integer_difference",
    "first_mismatch",
    "first_not_finite",
    "flatten",
    "float64_copy",
    "float64_inputs",
    "largest_difference",
    "lowest_dtype",
    "plant_errors",
    "predictions_equal",
    "quiet",
    "rounded_outputs",
    "run_model",
    "sample_runs",
    "yardstick",
]
