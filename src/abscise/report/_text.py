"""The printed form of a report: tables that fit 60 columns, with or without a terminal."""

import dataclasses
import io
from collections.abc import Iterator

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from abscise._certificate import Certificate
from abscise._measure import Measurement
from abscise.compaction import LayerSummary, Plan
from abscise.report._data import (
    Comparison,
    RemovalSummary,
    Report,
    reasons,
    summary_of,
    total,
)
from abscise.report._sections import course, surroundings
from abscise.report._words import (
    UNKNOWN,
    conditions_line,
    place_only,
    removed_line,
    selected_line,
    shown_change,
    shown_value,
    status,
    verdict,
)


def text(report: Report, *, width: int = 80) -> str:
    """The whole report as plain text, no line longer than `width` but those of code."""
    lines = ["load it with:", *(f"    {line}" for line in report.loading)]
    code = "\n".join(lines) + "\n" if report.loading else ""
    return plain(whole_view(report), width=width) + code


def whole_view(report: Report) -> RenderableType:
    """What the page says but the code: `report_view` between its verdict and its origin."""
    lines = [f"{count:,} pinned: {why}" for count, why in reasons(report.removal.pinned)]
    lines += [f"trained: {course(report)}"] if report.training is not None else []
    lines += [f"{fact.term}: {fact.words}" for fact in surroundings(report)]
    head = [Text(f"abscise report: {report.title}"), Text(verdict(report)), Text()]
    return Group(*head, report_view(report), *map(Text, lines))


def plain(view: RenderableType, *, width: int = 80) -> str:
    """What `view` prints without a terminal: no colours, no trailing blanks."""
    console = Console(file=io.StringIO(), width=width, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(view)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def report_view(report: Report) -> RenderableType:
    """The layer table, the before/after table, the certificate, and how to load the model."""
    lines = [] if report.certificate is None else [certificate_line(report.certificate)]
    if report.dense is not None and report.compacted is not None:
        lines.append(f"MACs and latency: one forward of {report.dense.batch:,} samples")
        uncounted = sorted({*report.dense.macs_uncounted, *report.compacted.macs_uncounted})
        if uncounted:
            lines.append(f"not counted in MACs: {', '.join(uncounted)}")
    return Group(
        layer_table(report.removal),
        *_removal_lines(report.removal),
        comparison_table(report),
        *map(Text, lines),
    )


def plan_view(plan: Plan) -> RenderableType:
    """The layer table, then what goes, what is nearly dead, and what is pinned why."""
    removal = summary_of(plan)
    lines = [f"{count:,} pinned: {why}" for count, why in reasons(removal.pinned)]
    return Group(layer_table(removal), *_removal_lines(removal), *map(Text, lines))


def _removal_lines(removal: RemovalSummary) -> list[Text]:
    more = [Text(selected_line(removal))] if removal.selecting_layers else []
    more += [Text(conditions_line(removal))] if removal.conditions else []
    return [Text(removed_line(removal)), *more]


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


def layer_table(removal: RemovalSummary) -> Table:
    """Units, removed and pinned units per layer, why the pinned ones stay, and the total."""
    table = _table("layer", "units", "removed", "pinned")
    table.add_column("reason", overflow="fold", ratio=1)
    for row in removal.layers:
        table.add_row(*map(Text, _layer_cells(row)))
    table.add_section()
    table.add_row(*map(Text, _layer_cells(total(removal.layers))))
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
    made_on = f"{certificate.dtype}; {certificate.inputs}"
    return f"certificate: {status(certificate)} ({made_on}): {certificate.reason}"


def _table(first: str, *numbers: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    table.add_column(first, overflow="fold", min_width=10)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _layer_cells(row: LayerSummary) -> Iterator[str]:
    yield row.layer
    yield from (f"{count:,}" for count in (row.units, row.removed, row.pinned))
    yield "; ".join(map(place_only, row.reasons))


def _comparison_cells(row: Comparison) -> Iterator[str]:
    yield row.quantity.removesuffix("_s")
    yield shown_value(row.quantity, row.dense)
    yield shown_value(row.quantity, row.compacted)
    yield shown_change(row, "x")
