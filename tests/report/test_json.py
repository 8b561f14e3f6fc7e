"""What is written is read back the same; everything else is refused in one line."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abscise._environment import Environment
from abscise._errors import StoreError
from abscise._json import parse_json
from abscise._measure import Measurement
from abscise.compaction import LayerSummary
from abscise.report import (
    Predictions,
    RemovalSummary,
    Report,
    Training,
    TrainingPoint,
    report_from_json,
    to_json,
)
from support.effort import examples
from support.reporting import certificate, whole_report

TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20)
COUNTS = st.integers(0, 10**9)
NUMBERS = st.floats(0, 1e299)
SHARES = st.floats(0, 1)


@st.composite
def removals(draw: st.DrawFn) -> RemovalSummary:
    pinned, removed, rest = draw(COUNTS), draw(COUNTS), draw(COUNTS)
    layers = st.builds(
        lambda name, own, gone, stays, why: LayerSummary(name, own + gone + stays, gone, own, why),
        TEXT,
        COUNTS,
        COUNTS,
        COUNTS,
        st.lists(TEXT, max_size=2).map(tuple),
    )
    return RemovalSummary(
        layers=draw(st.lists(layers, max_size=3).map(tuple)),
        pinned=draw(st.dictionaries(TEXT, COUNTS, max_size=3)),
        units=pinned + removed + rest,
        pinned_units=pinned,
        removed_units=removed,
        near_dead=draw(COUNTS),
        selecting_layers=draw(COUNTS),
        dropped_inputs=draw(COUNTS),
        conditions=draw(st.lists(TEXT, max_size=2).map(tuple)),
    )


@st.composite
def measurements(draw: st.DrawFn) -> Measurement:
    parameters = draw(COUNTS)
    return Measurement(
        parameters=parameters,
        nonzero=draw(st.integers(0, parameters)),
        subnormal=draw(st.integers(0, parameters)),
        buffers=draw(COUNTS),
        size_bytes=draw(COUNTS),
        macs=draw(st.none() | COUNTS),
        macs_uncounted=draw(st.lists(TEXT, max_size=2).map(tuple)),
        batch=draw(COUNTS),
        threads=draw(st.integers(1, 64)),
        latency_s=draw(st.none() | NUMBERS),
        latency_spread=draw(st.none() | NUMBERS),
        latency_flushed_s=draw(st.none() | NUMBERS),
        bytes_on_disk=draw(st.none() | COUNTS),
    )


@st.composite
def trainings(draw: st.DrawFn) -> Training:
    layers = draw(st.dictionaries(TEXT, COUNTS, max_size=3))
    steps = sorted(draw(st.sets(st.integers(1, 10**6), max_size=4)))
    return Training(
        recipe=draw(TEXT),
        method=draw(TEXT),
        dataset=draw(TEXT),
        network=draw(TEXT),
        seed=draw(st.integers(0, 2**63 - 1)),
        wall_s=draw(NUMBERS),
        dying_below=draw(NUMBERS),
        points=tuple(
            TrainingPoint(
                step=step,
                epoch=draw(NUMBERS),
                loss=draw(st.floats(-1e299, 1e299)),
                accuracy=draw(SHARES),
                learning_rate=draw(NUMBERS),
                layers={
                    name: (draw(st.integers(0, units)), units) for name, units in layers.items()
                },
            )
            for step in steps
        ),
        smooth=draw(st.booleans()),
    )


ENVIRONMENTS = st.builds(
    Environment,
    device=TEXT.filter(bool),
    threads=st.integers(1, 64),
    versions=st.dictionaries(TEXT, TEXT, max_size=3),
    commit=st.none() | TEXT,
    date=st.dates().map(lambda day: day.isoformat()),
)
PREDICTIONS = st.integers(1, 10**6).flatmap(
    lambda examples: st.builds(
        Predictions,
        dense=SHARES,
        compacted=SHARES,
        changed=st.integers(0, examples),
        examples=st.just(examples),
    )
)


@st.composite
def reports(draw: st.DrawFn) -> Report:
    measured = draw(st.booleans())
    failed = replace(certificate(), passed=False, max_rel_diff=None, shapes=((1, 2), ()))
    return Report(
        removal=draw(removals()),
        dense=draw(measurements()) if measured else None,
        compacted=draw(measurements()) if measured else None,
        certificate=draw(st.sampled_from([None, certificate(), failed])),
        predictions=draw(st.none() | PREDICTIONS),
        training=draw(st.none() | trainings()),
        environment=draw(st.none() | ENVIRONMENTS),
        loading=draw(st.lists(TEXT, max_size=3).map(tuple)),
        title=draw(TEXT),
    )


@examples(60)
@given(reports())
def test_what_is_written_is_read_back_equal(report: Report) -> None:
    assert report_from_json(parse_json(to_json(report).encode(), "here", StoreError)) == report


def test_one_changed_number_is_another_report() -> None:
    report = whole_report()
    content = json.loads(to_json(report))
    content["training"]["points"][3]["loss"] += 1
    assert report_from_json(content) != report


Change = Callable[[dict[str, Any]], object]

BAD: dict[str, tuple[Change, str]] = {
    "other version": (lambda c: c.update(format=1), "format must be 4, got 1"),
    "no version": (lambda c: c.pop("format"), "missing fields ['format']"),
    "version as text": (lambda c: c.update(format="2"), "format must be 4, got '2'"),
    "missing field": (lambda c: c.pop("removal"), "missing fields ['removal']"),
    "unknown field": (lambda c: c.update(extra=1), "unknown fields [\"'extra'\"]"),
    "unknown inner field": (lambda c: c["dense"].update(speed=1), "unknown fields"),
    "title is a number": (lambda c: c.update(title=3), "title must be a text"),
    "title with an escape code": (lambda c: c.update(title="\x1b[2J"), "without control"),
    "title with half a character": (lambda c: c.update(title="\ud800"), "without control"),
    "removal is a list": (lambda c: c.update(removal=[]), "must be an object"),
    "negative count": (lambda c: c["removal"].update(units=-1), "units must be an integer"),
    "boolean count": (lambda c: c["removal"].update(near_dead=True), "near_dead must be"),
    "more removed than units": (
        lambda c: c["removal"]["layers"][0].update(removed=10**6),
        "removed must be an integer from 0 to",
    ),
    "more removed than there are": (
        lambda c: c["removal"].update(removed_units=10**6),
        "units must be at least",
    ),
    "reason with a count as text": (
        lambda c: c["removal"]["pinned"].update(x="3"),
        "x must be an integer",
    ),
    "one measurement": (lambda c: c.update(dense=None), "of both models, or of neither"),
    "latency as text": (lambda c: c["dense"].update(latency_s="fast"), "latency_s must be"),
    "more nonzero than there are": (
        lambda c: c["compacted"].update(nonzero=10**9),
        "nonzero must be",
    ),
    "accuracy above 1": (
        lambda c: c["predictions"].update(dense=1.5),
        "dense must be a number from 0 to 1, got 1.5",
    ),
    "more changed than examples": (
        lambda c: c["predictions"].update(changed=10**6),
        "changed must be in 0..examples",
    ),
    "total that does not add up": (lambda c: c["total"].update(units=1), "total must be what"),
    "ratio that does not follow": (
        lambda c: c["comparison"]["parameters"].update(ratio=99.0),
        "comparison must be what follows",
    ),
    "edited parameters": (lambda c: c["dense"].update(macs=1), "comparison must be what follows"),
    "certificate that claims too much": (
        lambda c: c["certificate"].update(max_rel_diff=1.0),
        "max_rel_diff must be at most the tolerance",
    ),
    "points out of order": (
        lambda c: c["training"]["points"].reverse(),
        "step must be more than",
    ),
    "points of other layers": (
        lambda c: c["training"]["points"][1]["layers"].popitem(),
        "layers must be those of step",
    ),
    "more dying than there are": (
        lambda c: c["training"]["points"][1]["layers"].update(
            {"features.stage0.block0.conv": [99, 16]}
        ),
        "must be in 0..units",
    ),
    "three counts for a layer": (
        lambda c: c["training"]["points"][1]["layers"].update({"x": [1, 2, 3]}),
        "x must be a list of 2 items",
    ),
    "loss that is too large": (
        lambda c: c["training"]["points"][0].update(loss=10**400),
        "loss must be a finite number",
    ),
    "step 0": (lambda c: c["training"]["points"][0].update(step=0), "step must be"),
    "no date": (lambda c: c["environment"].update(date="yesterday"), "isoformat"),
    "date in another form": (lambda c: c["environment"].update(date="20260131"), "YYYY-MM-DD"),
    "no device": (lambda c: c["environment"].update(device=""), "a device and threads"),
    "loading is a text": (lambda c: c.update(loading="import os"), "loading must be a list"),
    "loading with a line break": (lambda c: c.update(loading=["a\nb"]), "without control"),
}


@pytest.mark.parametrize("name", BAD)
def test_an_edited_report_is_refused_in_one_line(name: str) -> None:
    change, words = BAD[name]
    content = json.loads(to_json(whole_report()))
    assert report_from_json(content) == whole_report()
    _ = change(content)
    with pytest.raises(StoreError) as found:
        _ = report_from_json(content)
    assert words in str(found.value)
    assert "\n" not in str(found.value)


def test_a_report_of_format_2_is_read_and_its_bytes_on_disk_are_unknown() -> None:
    report = whole_report()
    assert report.dense is not None
    assert report.compacted is not None
    known = (report.dense.bytes_on_disk, report.compacted.bytes_on_disk)
    assert None not in known
    content = json.loads(to_json(report)) | {"format": 2}
    del content["tracking"]
    del content["comparison"]["bytes on disk"]
    for name in ("dense", "compacted"):
        del content[name]["bytes_on_disk"]
    read = report_from_json(content)
    dense = replace(report.dense, bytes_on_disk=None)
    assert read == replace(
        report, dense=dense, compacted=replace(report.compacted, bytes_on_disk=None)
    )
    content["dense"]["bytes_on_disk"] = 3
    with pytest.raises(StoreError, match="comparison must be what follows"):
        _ = report_from_json(content)


@pytest.mark.parametrize("value", [None, [], 3, "report", {}])
def test_what_is_no_report_is_refused(value: object) -> None:
    with pytest.raises(StoreError, match="report: "):
        _ = report_from_json(value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"loss": float("nan")}, "loss must be finite"),
        ({"accuracy": -0.1}, "accuracy must be in 0..1"),
        ({"learning_rate": float("inf")}, "learning_rate must be finite"),
        ({"layers": {"a": (3, 2)}}, "dying units of a must be in 0..units"),
    ],
)
def test_impossible_points_are_refused(change: dict[str, Any], words: str) -> None:
    training = whole_report().training
    assert training is not None
    with pytest.raises(ValueError, match=words):
        _ = replace(training.points[0], **change)


def test_names_with_control_characters_are_escaped_so_that_the_report_can_be_read() -> None:
    odd = ["a\nb", "c\x1b[31m", "d\ud800", "plain"]
    written = to_json(whole_report(odd))
    read = report_from_json(parse_json(written.encode(), "report", StoreError))
    assert [row.layer for row in read.layers] == ["a\\nb", "c\\x1b[31m", "d\\ud800", "plain"]
    assert read.training is not None
    assert list(read.training.points[0].layers) == [row.layer for row in read.layers]
    assert to_json(read) == written
