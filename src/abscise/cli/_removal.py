"""The part that every removing command shares: snap, prove, keep."""

from pathlib import Path

from rich.console import Console
from torch import nn

import abscise
from abscise._inputs import Inputs
from abscise.cli._report import report_files
from abscise.compaction import Compaction, Plan
from abscise.report import Report
from abscise.store import save


def snap(model: nn.Module, inputs: Inputs, threshold: float, console: Console) -> None:
    """Snap in place, and say what that did."""
    console.print(str(abscise.snap_(model, inputs, threshold=threshold)))


def prove(plan: Plan, model: nn.Module, inputs: Inputs) -> Compaction:
    """The plan applied to `model`, with the certificate on `inputs`."""
    compacted = abscise.apply(plan, model)
    certificate = abscise.verify(model, compacted, inputs)
    return Compaction(model=compacted, plan=plan, certificate=certificate)


def keep(
    compaction: Compaction, out: Path | None, console: Console, report: Report | None = None
) -> bool:
    """Save a proven removal with its report; say so where it is not proven. True if it is."""
    if not compaction.certificate.passed:
        console.print("not saved: only a removal with a passed certificate is")
        return False
    if out is not None:
        save(out, compaction, files={} if report is None else report_files(report, console))
        console.print(f"saved to {out}")
    return True
