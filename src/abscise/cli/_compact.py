"""`abscise compact` and `abscise verify`: remove, prove, save; and prove again."""

from rich.console import Console

import abscise
from abscise._environment import this_environment
from abscise.cli._options import CompactOptions, VerifyOptions
from abscise.cli._removal import Destination, keep, measure_both, prove, snap
from abscise.cli._source import build_model, loading_lines, read_inputs
from abscise.cli._usage import UsageError, naming_usage
from abscise.report import Report, certificate_line, plan_view, report_view, summary_of
from abscise.store import load, read_plan, refuse_foreign, write_plan


def run_compact(options: CompactOptions, console: Console) -> bool:
    """Remove what is dead; save it only with a passed certificate."""
    if options.plan is not None and (options.keep or options.plan_only):
        message = "--plan applies a finished plan: --keep and --plan-only belong to making one"
        raise UsageError(message)
    if options.sparse and (options.out is None or options.plan_only):
        message = "--sparse says how the compacted model is saved: it belongs to --out FOLDER"
        raise UsageError(message)
    if options.out is not None and not options.plan_only:
        refuse_foreign(options.out)
    model, inputs = build_model(options.model, options, console), read_inputs(options)
    if options.snap is not None:
        snap(model, inputs, options.snap, console)
    if options.plan is None:
        with naming_usage():
            plan = abscise.propose(model, inputs, keep=options.keep)
    else:
        plan = read_plan(options.plan)
    if options.plan_only:
        console.print(plan_view(plan))
        if options.out is not None:
            write_plan(options.out, plan)
            console.print(f"plan written to {options.out}")
        return True
    compaction = prove(plan, model, inputs)
    destination = Destination(options.out, options.sparse)
    dense, compacted = measure_both(model, compaction.model, inputs, destination)
    report = Report(
        removal=summary_of(plan),
        dense=dense,
        compacted=compacted,
        certificate=compaction.certificate,
        environment=this_environment(),
        loading=() if options.out is None else loading_lines(options, options.out),
        title=options.model,
    )
    console.print(report_view(report))
    return keep(compaction, destination, console, report)


def run_verify(options: VerifyOptions, console: Console) -> bool:
    """Compare a saved folder with the dense model that it came from."""
    dense, inputs = build_model(options.model, options, console), read_inputs(options)
    if options.snap is not None:
        snap(dense, inputs, options.snap, console)
    compacted = load(options.folder, dense)
    certificate = abscise.verify(dense, compacted, inputs, tolerance=options.tolerance)
    console.print(certificate_line(certificate))
    return certificate.passed
