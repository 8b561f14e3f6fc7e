"""The printed report adds up, fits narrow screens, and leaves nothing unknown out."""

import json
import re
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abscise._certificate import Certificate, PlantedError
from abscise._measure import Measurement
from abscise.compaction import LayerSummary, Plan, Selection
from abscise.report import (
    Predictions,
    Report,
    certificate_line,
    measurement_table,
    plain,
    plan_view,
    summary_of,
    text,
    to_json,
)

# Brackets and colons as in source lines, which must not be taken for markup.
LONG = "some_op_without_a_rule.default in features.denseblock1 (network.py:42 y = x[mask] :eyes:)"

COUNTS = st.integers(0, 10**6)


@st.composite
def layer_rows(draw: st.DrawFn) -> LayerSummary:
    removed, pinned, rest = draw(COUNTS), draw(COUNTS), draw(COUNTS)
    name = draw(st.text("abcdefgh.0123456789_", min_size=1, max_size=60))
    reasons = draw(st.lists(st.sampled_from([LONG, "output", "kept by name"]), max_size=3))
    return LayerSummary(name, removed + pinned + rest, removed, pinned, tuple(reasons))


def plan_of(rows: list[LayerSummary]) -> Plan:
    return Plan(
        fingerprint="f",
        inputs={},
        removals=(),
        edits=(),
        grouped=(),
        attributes=(),
        folds=(),
        layers=tuple(rows),
        pinned={LONG: sum(row.pinned for row in rows)},
        units=sum(row.units for row in rows),
        pinned_units=sum(row.pinned for row in rows),
    )


def certificate(*, passed: bool = True, inconclusive: bool = False) -> Certificate:
    return Certificate(
        passed=passed,
        inconclusive=inconclusive,
        reason="the outputs agree",
        dtype="float32",
        shapes=((1, 3, 8, 8),),
        inputs="random, seed 0",
        versions={"torch": "2.13.0"},
        max_abs_diff=1e-7,
        max_rel_diff=2e-7,
        tolerance=1e-5,
        spread=0.5,
        planted_error=PlantedError(3.0, 0.1, ("conv1.weight[0]",)),
    )


def measurement(parameters: int) -> Measurement:
    return Measurement(
        parameters=parameters,
        nonzero=parameters - 1,
        subnormal=0,
        buffers=0,
        size_bytes=4 * parameters,
        macs=10 * parameters,
        macs_uncounted=("aten.lstm.input",),
        batch=8,
        threads=1,
        latency_s=parameters * 1e-6,
    )


def report_of(rows: list[LayerSummary]) -> Report:
    return Report(
        removal=summary_of(plan_of(rows)),
        dense=measurement(4000),
        compacted=measurement(1000),
        certificate=certificate(),
        predictions=Predictions(0.98, 0.98, 0, 360),
    )


def printed_numbers(printed: str, columns: int) -> list[list[int]]:
    """The integer cells of every table line that has that many of them."""
    rows = []
    for line in printed.splitlines():
        cells = re.findall(r"(?<=\s)[\d,]+(?=\s|$)", line)
        if len(cells) >= columns:
            rows.append([int(cell.replace(",", "")) for cell in cells[:columns]])
    return rows


@settings(max_examples=30, deadline=None)
@given(st.lists(layer_rows(), min_size=1, max_size=8))
def test_printed_rows_add_up_to_the_printed_total(rows: list[LayerSummary]) -> None:
    numbered = [replace(row, layer=f"layer{i}", reasons=()) for i, row in enumerate(rows)]
    *body, total = printed_numbers(plain(plan_view(plan_of(numbered)), width=100), 3)
    assert len(body) == len(rows)
    assert [sum(column) for column in zip(*body, strict=True)] == total


@settings(max_examples=30, deadline=None)
@given(st.lists(layer_rows(), min_size=1, max_size=8), st.integers(60, 120))
def test_no_line_is_wider_than_asked_for(rows: list[LayerSummary], width: int) -> None:
    lines = text(report_of(rows), width=width).splitlines()
    assert max(map(len, lines)) <= width
    assert all("…" not in line for line in lines)


def test_every_quantity_is_printed_with_its_ratio_at_60_columns() -> None:
    printed = text(report_of([LayerSummary("conv1", 64, 13, 0, ())]), width=60)
    for quantity in ("units", "parameters", "MACs", "bytes", "accuracy", "latency"):
        assert re.search(rf"^{quantity} ", printed, re.MULTILINE)
    assert re.search(r"parameters +4,000 +1,000 +4.00x", printed)
    assert re.search(r"accuracy +98.00 % +98.00 % +\+0.00", printed)
    assert re.search(r"changed predictions +0 of 360", printed)
    assert re.search(r"units +64 +64 +1.00x", printed)


def test_plain_text_holds_no_escape_codes() -> None:
    assert "\x1b" not in text(report_of([LayerSummary("conv1", 64, 13, 0, ())]))


def test_lines_of_code_are_printed_whole() -> None:
    line = f"model = abscise.load({'a/long/path' * 9!r}, Net())"
    report = replace(report_of([LayerSummary("fc", 10, 0, 10, ())]), loading=("import it", line))
    assert text(report, width=60).endswith(f"load it with:\n    import it\n    {line}\n")


def test_what_is_unknown_is_printed_as_unknown_and_written_as_null() -> None:
    report = replace(report_of([LayerSummary("fc", 10, 0, 10, ("output",))]), predictions=None)
    assert re.search(r"accuracy +- +- +-", text(report))
    assert json.loads(to_json(report))["comparison"]["accuracy"]["dense"] is None


@pytest.mark.parametrize(
    ("passed", "inconclusive", "verdict"),
    [(True, False, "PASSED"), (False, True, "INCONCLUSIVE"), (False, False, "NOT EQUAL")],
)
def test_the_certificate_line_names_the_verdict(
    passed: bool, inconclusive: bool, verdict: str
) -> None:
    line = certificate_line(certificate(passed=passed, inconclusive=inconclusive))
    assert verdict in line
    assert [word for word in ("PASSED", "INCONCLUSIVE", "NOT EQUAL") if word in line] == [verdict]


def test_the_json_form_is_versioned_and_its_total_is_the_sum_of_its_layers() -> None:
    rows = [LayerSummary("a", 8, 3, 1, ()), LayerSummary("b", 4, 0, 4, ("output",))]
    content = json.loads(to_json(report_of(rows)))
    assert content["format"] == 4
    for count in ("units", "removed", "pinned"):
        assert content["total"][count] == sum(row[count] for row in content["removal"]["layers"])
    assert content["certificate"]["passed"] is True


@pytest.mark.parametrize(
    ("dense", "compacted", "changed", "examples"),
    [(1.1, 1.0, 0, 1), (0.9, -0.1, 0, 1), (0.9, 0.9, 2, 1), (0.9, 0.9, 0, 0)],
)
def test_impossible_predictions_are_refused(
    dense: float, compacted: float, changed: int, examples: int
) -> None:
    with pytest.raises(ValueError, match="must be in"):
        _ = Predictions(dense, compacted, changed, examples)


def test_nearly_dead_units_point_to_snap() -> None:
    plan = replace(plan_of([LayerSummary("a", 8, 0, 0, ())]), near_dead=5)
    assert "5 more are nearly dead: see snap_" in plain(plan_view(plan), width=200)
    assert "snap_" not in plain(plan_view(replace(plan, near_dead=0)))


def test_what_macs_leave_out_is_listed() -> None:
    report = report_of([LayerSummary("a", 8, 0, 0, ())])
    assert "not counted in MACs: aten.lstm.input" in text(report)
    counted = replace(measurement(10), macs_uncounted=())
    assert "not counted" not in text(replace(report, dense=counted, compacted=counted))


def test_a_measurement_is_printed_whole() -> None:
    printed = plain(measurement_table(replace(measurement(4000), macs=None)), width=60)
    for field in fields(Measurement):
        assert re.search(rf"^{field.name} ", printed, re.MULTILINE)
    assert re.search(r"^macs +-$", printed, re.MULTILINE)


def test_reasons_are_printed_as_they_are_with_the_code_below_the_table_only() -> None:
    kept = "kept as asked (head[mask] :eyes:)"
    plan = plan_of([LayerSummary("a", 8, 0, 8, (LONG, kept))])
    brief = LONG.replace(" y = x[mask] :eyes:", "")
    table, lines = plain(plan_view(plan), width=300).split("removed:")
    assert f"{brief}; {kept}" in table
    assert LONG in lines


def test_the_printed_plan_counts_what_single_readers_drop() -> None:
    selections = (Selection("b", 12, tuple(range(8))), Selection("c", 10, (1,)))
    line = plain(plan_view(replace(plan_of([]), selections=selections)))
    assert "2 layers read a selection of the inputs: 9 more are cut there" in line
    assert "selection" not in plain(plan_view(plan_of([])))
