"""`abscise report`: a saved removal as an HTML page, as JSON or as text."""

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from abscise._errors import MissingExtraError
from abscise.cli._options import ReportOptions
from abscise.cli._tracking import thinned_track
from abscise.cli._usage import UsageError
from abscise.implicit import read_track
from abscise.report import Report, report_from_json, summary_of, text, to_html, to_json
from abscise.store import (
    existing_folder,
    read_certificate,
    read_json,
    read_plan,
    write_bytes_atomically,
)

PAGE = "report.html"
_WRITERS = {"html": to_html, "json": to_json, "text": text}


def run_report(options: ReportOptions, console: Console) -> bool:
    """Write the page beside the model, or where asked to; print JSON and text."""
    report = read_report(options.folder)
    if options.tracker is not None:
        report = replace(report, tracking=thinned_track(read_track(options.tracker)))
    content = _WRITERS[options.format](report)
    out = options.out
    if out is not None and (not out.name or out.is_dir()):
        message = f"--out {out}: name a file, such as {out / PAGE}"
        raise UsageError(message)
    if out is None and options.format == "html":
        out = options.folder / PAGE
    if out is None:
        console.print(content, soft_wrap=True, end="")
        return True
    write_bytes_atomically(out, as_bytes(content))
    console.print(f"report written to {out}", soft_wrap=True)
    return True


def read_report(folder: Path) -> Report:
    """The report of a saved model; of an older one, what its plan and its certificate tell.

    Raises:
        StoreError, PlanError: A file is missing, truncated, edited or hostile.
    """
    found = existing_folder(folder)
    if (found / "report.json").exists():
        return report_from_json(read_json(found / "report.json"))
    plan = read_plan(found)
    proven = (found / "certificate.json").exists()
    return Report(
        removal=summary_of(plan),
        certificate=read_certificate(found) if proven else None,
        title=found.name,
    )


def report_files(report: Report, console: Console) -> dict[str, bytes]:
    """Name -> content of the files to save beside the model; without its extra no page, said so."""
    files = {"report.json": as_bytes(to_json(report)), "report.txt": as_bytes(text(report))}
    try:
        files[PAGE] = as_bytes(to_html(report))
    except MissingExtraError as missing:
        console.print(f"{PAGE} is left out: {missing}", soft_wrap=True)
    return files


def as_bytes(content: str) -> bytes:
    """UTF-8; half characters, which a layer's name may have, as escapes."""
    return content.encode(errors="backslashreplace")
