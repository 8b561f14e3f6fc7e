"""`abscise inspect`: show what is dead, and change nothing."""

from rich.console import Console

import abscise
from abscise.cli._options import InspectOptions
from abscise.cli._source import build_model, inputs_of_file, read_inputs
from abscise.report import inspection_view


def run_inspect(options: InspectOptions, console: Console) -> bool:
    """Show what is dead, where, and by which evidence."""
    model, inputs = build_model(options.model, options, console), read_inputs(options)
    data = None if options.data is None else inputs_of_file(options.data)
    console.print(inspection_view(abscise.inspect(model, inputs, data=data)))
    return True
