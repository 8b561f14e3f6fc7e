"""`abscise measure` and `abscise explain`: look, and change nothing."""

from dataclasses import replace

from rich.console import Console

import abscise
from abscise.cli._options import ExplainOptions, ModelOptions
from abscise.cli._source import build_model, read_inputs
from abscise.cli._usage import naming_usage
from abscise.report import measurement_table
from abscise.store import bytes_on_disk


def run_measure(options: ModelOptions, console: Console) -> bool:
    """Count parameters, MACs and bytes; time the forward."""
    model, inputs = build_model(options.model, options, console), read_inputs(options)
    found = abscise.measure(model, inputs)
    if options.checkpoint is not None and options.checkpoint.is_dir():
        found = replace(found, bytes_on_disk=bytes_on_disk(options.checkpoint))
    console.print(measurement_table(found))
    return True


def run_explain(options: ExplainOptions, console: Console) -> bool:
    """Say why one unit stays, or why it may go."""
    model, inputs = build_model(options.model, options, console), read_inputs(options)
    with naming_usage():
        explanation = abscise.explain(model, inputs, options.layer, options.index)
    for line in explanation.lines:
        console.print(line, soft_wrap=True)
    return True
