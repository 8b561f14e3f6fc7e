"""`abscise measure` and `abscise explain`: look, and change nothing."""

from rich.console import Console

import abscise
from abscise.cli._options import ExplainOptions, ModelOptions
from abscise.cli._source import build_model, read_inputs
from abscise.cli._usage import naming_usage
from abscise.report import measurement_table


def run_measure(options: ModelOptions, console: Console) -> bool:
    """Count parameters, MACs and bytes; time the forward."""
    model, inputs = build_model(options.model, options, console), read_inputs(options)
    console.print(measurement_table(abscise.measure(model, inputs)))
    return True


def run_explain(options: ExplainOptions, console: Console) -> bool:
    """Say why one unit stays, or why it may go."""
    model, inputs = build_model(options.model, options, console), read_inputs(options)
    with naming_usage():
        explanation = abscise.explain(model, inputs, options.layer, options.index)
    for line in explanation.lines:
        console.print(line, soft_wrap=True)
    return True
