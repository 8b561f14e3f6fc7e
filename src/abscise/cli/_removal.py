"""The part that every removing command shares: snap, prove, keep."""

from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from torch import nn

import abscise
from abscise._inputs import Inputs
from abscise._measure import Measurement
from abscise.cli._report import report_files
from abscise.compaction import Compaction, Plan
from abscise.report import Report
from abscise.store import bytes_on_disk, file_bytes, save


def snap(model: nn.Module, inputs: Inputs, threshold: float, console: Console) -> None:
    """Snap in place, and say what that did."""
    console.print(str(abscise.snap_(model, inputs, threshold=threshold)))


def prove(plan: Plan, model: nn.Module, inputs: Inputs) -> Compaction:
    """The plan applied to `model`, with the certificate on `inputs`."""
    compacted = abscise.apply(plan, model)
    certificate = abscise.verify(model, compacted, inputs)
    return Compaction(model=compacted, plan=plan, certificate=certificate)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a compacted model is saved, and in which form.

    Args:
        folder: None: nowhere.
        sparse: As `abscise.save` takes it.
    """

    folder: Path | None
    sparse: bool = False


def measure_both(
    dense: nn.Module, compacted: nn.Module, inputs: Inputs, destination: Destination
) -> tuple[Measurement, Measurement]:
    """Both models; where one will be saved, with the bytes of its file and of the dense one."""
    before, after = abscise.measure(dense, inputs), abscise.measure(compacted, inputs)
    if destination.folder is None:
        return before, after
    stored = file_bytes(compacted, sparse=destination.sparse)
    return replace(before, bytes_on_disk=file_bytes(dense)), replace(after, bytes_on_disk=stored)


def keep(
    compaction: Compaction,
    destination: Destination,
    console: Console,
    report: Report | None = None,
) -> bool:
    """Save a proven removal with its report; say so where it is not proven. True if it is."""
    out = destination.folder
    if not compaction.certificate.passed:
        console.print("not saved: only a removal with a passed certificate is")
        return False
    if out is not None:
        files = {} if report is None else report_files(report, console)
        save(out, compaction, files=files, sparse=destination.sparse)
        console.print(f"saved to {out}: {bytes_on_disk(out):,} bytes of weights")
    return True
