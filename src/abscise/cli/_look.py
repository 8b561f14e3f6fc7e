"""`abscise inspect`, `abscise measure` and `abscise explain`: look, and change nothing."""

from rich.console import Console

import abscise
from abscise.cli._options import ExplainOptions, InspectOptions, ModelOptions
from abscise.cli._source import build_model, inputs_of_file, read_inputs
from abscise.report import inspection_view, measurement_table


def run_inspect(options: InspectOptions, console: Console) -> bool:
    """Show what is dead, where, and by which evidence."""
    model, inputs = build_model(options.model, options, console), read_inputs(options)
    data = None if options.data is None else inputs_of_file(options.data)
    console.print(inspection_view(abscise.inspect(model, inputs, data=data)))
    return True


def run_measure(options: ModelOptions, console: Console) -> bool:
    """Count parameters, MACs and bytes; time the forward."""
    model, inputs = build_model(options.model, options, console), read_inputs(options)
    console.print(measurement_table(abscise.measure(model, inputs)))
    return True


def run_explain(options: ExplainOptions, console: Console) -> bool:
    """Say why one unit stays, or why it may go."""
    model, inputs = build_model(options.model, options, console), read_inputs(options)
    for line in abscise.explain(model, inputs, options.layer, options.index).lines:
        console.print(line, soft_wrap=True)
    return True
