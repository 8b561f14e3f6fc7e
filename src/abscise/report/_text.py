"""The printed form of a report: tables that fit 60 columns, with or without a terminal."""

import dataclasses
import io
import re
from collections.abc import Iterator

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from abscise._certificate import Certificate
from abscise._measure import Measurement
from abscise.compaction import LayerSummary, Plan
from abscise.report._data import Comparison, Report, reasons, total

UNKNOWN = "-"
# A reason ends with "(file.py:12 the source line)"; a table has room for the place only.
_LINE_OF_CODE = re.compile(r"\((\S+:\d+) .*\)$")


def text(report: Report, *, width: int = 80) -> str:
    """The whole report as plain text, no line longer than `width`."""
    return plain(report_view(report), width=width)


def plain(view: RenderableType, *, width: int = 80) -> str:
    """What `view` prints without a terminal: no colours, no trailing blanks."""
    console = Console(file=io.StringIO(), width=width, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(view)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def report_view(report: Report) -> RenderableType:
    """The layer table, the before/after table and the certificate."""
    lines = [] if report.certificate is None else [certificate_line(report.certificate)]
    lines.append(f"MACs and latency: one forward of {report.dense.batch:,} samples")
    uncounted = sorted({*report.dense.macs_uncounted, *report.compacted.macs_uncounted})
    if uncounted:
        lines.append(f"not counted in MACs: {', '.join(uncounted)}")
    return Group(
        layer_table(report.plan), removed_line(report.plan), comparison_table(report), *lines
    )


def plan_view(plan: Plan) -> RenderableType:
    """The layer table, then what goes, what is nearly dead, and what is pinned why."""
    lines = [f"{count:,} pinned: {why}" for count, why in reasons(plan.pinned)]
    if plan.selections:
        lines.insert(0, selected_line(plan))
    return Group(layer_table(plan), Text(removed_line(plan)), *map(Text, lines))


def selected_line(plan: Plan) -> str:
    """How many layers read a part of their inputs only."""
    count = len(plan.selections)
    dropped = sum(len(item.dropped) for item in plan.selections)
    size = sum(item.size for item in plan.selections)
    layers = "1 layer reads" if count == 1 else f"{count:,} layers read"
    return f"{layers} a selection of the inputs: {dropped:,} of {size:,} more are cut there"


def removed_line(plan: Plan) -> str:
    """How much of what may go goes, what was counted twice, and what a snap would add."""
    free = plan.units - plan.pinned_units
    share = 100 * plan.removed_units / max(free, 1)
    line = f"removed: {plan.removed_units:,} of {free:,} units that are not pinned ({share:.1f} %)"
    if total(plan.layers).units != plan.units:
        line += f"; layers that write the same units count them each, there are {plan.units:,}"
    if plan.near_dead:
        line += f"; {plan.near_dead:,} more are nearly dead: see snap_ (compact --snap 1e-3)"
    return line


def measurement_table(measurement: Measurement) -> Table:
    """One model's size and speed, a row per quantity."""
    table = _table("", "measured")
    for name, value in dataclasses.asdict(measurement).items():
        if isinstance(value, float) or value is None:
            shown = UNKNOWN if value is None else f"{value:.3g}"
        else:
            shown = f"{value:,}" if isinstance(value, int) else ", ".join(value) or "none"
        table.add_row(name, Text(shown))
    return table


def layer_table(plan: Plan) -> Table:
    """Units, removed and pinned units per layer, why the pinned ones stay, and the total."""
    table = _table("layer", "units", "removed", "pinned")
    table.add_column("reason", overflow="fold", ratio=1)
    for row in plan.layers:
        table.add_row(*map(Text, _layer_cells(row)))
    table.add_section()
    table.add_row(*map(Text, _layer_cells(total(plan.layers))))
    return table


def comparison_table(report: Report) -> Table:
    """Units, parameters, MACs, bytes, accuracy and latency, before and after."""
    table = _table("", "dense", "compacted", "ratio")
    for row in report.comparisons():
        table.add_row(*_comparison_cells(row))
    if report.predictions is not None:
        changed, examples = report.predictions.changed, report.predictions.examples
        table.add_row("changed predictions", "", f"{changed:,} of {examples:,}", "")
    return table


def certificate_line(certificate: Certificate) -> str:
    """One sentence: the verdict, on what, and why."""
    verdict = "PASSED" if certificate.passed else "NOT EQUAL"
    if certificate.inconclusive:
        verdict = "INCONCLUSIVE"
    made_on = f"{certificate.dtype}; {certificate.inputs}"
    return f"certificate: {verdict} ({made_on}): {certificate.reason}"


def _table(first: str, *numbers: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    table.add_column(first, overflow="fold", min_width=10)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _layer_cells(row: LayerSummary) -> Iterator[str]:
    yield row.layer
    yield from (f"{count:,}" for count in (row.units, row.removed, row.pinned))
    yield "; ".join(_LINE_OF_CODE.sub(r"(\1)", why) for why in row.reasons)


def _comparison_cells(row: Comparison) -> Iterator[str]:
    yield row.quantity.removesuffix("_s")
    yield _value(row.quantity, row.dense)
    yield _value(row.quantity, row.compacted)
    yield _change(row)


def _value(quantity: str, value: float | None) -> str:
    if value is None:
        return UNKNOWN
    if quantity == "accuracy":
        return f"{100 * value:.2f} %"
    if quantity == "latency_s":
        return f"{1000 * value:.3g} ms"
    return f"{value:,.0f}"


def _change(row: Comparison) -> str:
    if row.dense is None or row.compacted is None:
        return UNKNOWN
    if row.quantity == "accuracy":
        return f"{100 * (row.compacted - row.dense):+.2f}"
    return UNKNOWN if row.ratio is None else f"{row.ratio:.2f}x"
