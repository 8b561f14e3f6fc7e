"""The page shows what a tracker saw: each evidence, and nothing that is not there."""

import json
import re
from dataclasses import replace

import pytest

from abscise._errors import StoreError
from abscise._json import parse_json
from abscise.implicit import DEAD, HISTOGRAM, Firing, LayerFiring, LayerRecord, Record, Track
from abscise.report import Report, report_from_json, to_html, to_json
from abscise.report._tracking import TrackedLayer, tracked_layers
from support.reporting import names, tracked_report, whole_report

NOT_WITHOUT = ("evidence", "sizes", "selectivity", "ratios")


def record(step: int, *layers: tuple[str, int, bool, int]) -> Record:
    """Layers of (name, units, scaled, dead)."""
    return Record(
        step,
        tuple(
            LayerRecord(
                name,
                units,
                scaled,
                {DEAD: dead},
                0,
                (dead, *[0] * (len(HISTOGRAM) - 1), units - dead),
                None,
            )
            for name, units, scaled, dead in layers
        ),
        DEAD,
    )


def firing(step: int, *layers: tuple[str, int, int]) -> Firing:
    """Layers of (name, units, silent)."""
    return Firing(
        step,
        10,
        0.1,
        tuple(
            LayerFiring(name, units, silent, None if silent == units else 0.5, (0.5,) * units, None)
            for name, units, silent in layers
        ),
    )


def ids(page: str) -> set[str]:
    return set(re.findall(r'<figure id="([\w-]+)">', page))


def test_a_norm_is_shown_beside_the_layer_before_it_and_others_by_themselves() -> None:
    seen = record(5, ("norm0", 3, True, 1), ("conv", 4, False, 0), ("bn", 4, True, 2))
    rows = tracked_layers(Track((seen,), (firing(5, ("conv", 4, 3), ("conv#2", 4, 0)),)))
    assert rows == (
        TrackedLayer("norm0", gamma=((5, 1, 3),)),
        TrackedLayer("conv", ((5, 2, 4),), ((5, 0, 4),), ((5, 3, 4),)),
        TrackedLayer("conv#2", silent=((5, 0, 4),)),
    )


def test_a_norm_of_another_size_does_not_belong_to_the_layer_before_it() -> None:
    rows = tracked_layers(Track((record(5, ("conv", 4, False, 0), ("bn", 6, True, 2)),)))
    assert [(it.layer, len(it.gamma)) for it in rows] == [("conv", 0), ("bn", 1)]


def test_units_that_were_removed_while_training_count_as_dead() -> None:
    track = Track((record(5, ("fc", 8, False, 2)), record(10, ("fc", 5, False, 1))))
    (row,) = tracked_layers(track)
    assert row.weights == ((5, 2, 8), (10, 4, 8))


def test_without_a_tracker_the_page_has_none_of_its_figures() -> None:
    plain, tracked = ids(to_html(whole_report())), ids(to_html(tracked_report()))
    assert plain.isdisjoint(NOT_WITHOUT)
    assert set(NOT_WITHOUT) <= tracked
    assert plain - tracked == {"dying"}  # the tracker's maps show the same and more


def test_a_figure_without_data_is_left_out() -> None:
    report = tracked_report()
    assert report.tracking is not None
    looks = replace(report, tracking=Track((), report.tracking.activity))
    assert ids(to_html(looks)) & set(NOT_WITHOUT) == {"evidence", "selectivity"}
    weights = replace(report, tracking=Track(report.tracking.weights[:1]))
    assert ids(to_html(weights)) & set(NOT_WITHOUT) == {"evidence", "sizes"}
    nothing = replace(report, tracking=Track())
    assert ids(to_html(nothing)) == ids(to_html(whole_report()))


def test_what_was_seen_before_the_first_step_is_drawn_without_a_warning() -> None:
    report = replace(tracked_report(), tracking=Track((), (firing(0, ("a", 4, 1)),)))
    assert ids(to_html(report)) & set(NOT_WITHOUT) == {"evidence", "selectivity"}


def test_the_page_says_what_the_tracker_counted_and_what_it_cost() -> None:
    words = re.sub(r"<[^>]+>|\s+", " ", to_html(tracked_report()))
    for expected in (
        "4 looks at all 1,257 samples took 2 s together.",
        "10 times a unit that was below 0.001 came back.",
        "by gamma, 23 of 64 dead",
        "mean 0.25, 58 of 64 silent",
        "fire for one class only",
        "below 1×10⁻⁶",
        "0.33 at the end",
    ):
        assert expected in words
    assert "Dead as a whole" not in words


def test_a_layer_that_is_dead_as_a_whole_is_named() -> None:
    track = Track((record(5, ("all <of> it", 3, False, 3)),), (firing(5, ("quiet", 2, 2)),))
    page = to_html(replace(whole_report(), tracking=track))
    assert "Dead as a whole: all &lt;of&gt; it, quiet." in page
    assert "none fires, 2 of 2 silent" in page


def test_a_page_of_many_layers_says_how_many_are_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abscise.report._sections.DRAWN_PANELS", 4)
    monkeypatch.setattr("abscise.report._sections.DRAWN_LAYERS", 6)
    page = to_html(tracked_report(names(5)))
    assert page.count("The last 6 of 10 layers are not drawn") == 1  # sizes
    assert page.count("The last 4 of 10 layers are not drawn") == 1  # maps
    assert page.count("The last 1 of 5 layers are not drawn") == 1  # selectivity


def test_a_report_with_a_tracker_is_read_back_equal() -> None:
    report = tracked_report()
    text = to_json(report)
    assert report_from_json(parse_json(text.encode(), "here", StoreError)) == report
    content = json.loads(text)
    content["tracking"]["weights"][3]["layers"][1]["revived"] = 0
    assert report_from_json(content) != report


def test_lists_of_numbers_are_one_line_and_texts_stay_as_they_are() -> None:
    odd = replace(tracked_report(), title="[\n 1,\n 2\n]")
    text = to_json(odd)
    assert re.search(r'"histogram": \[ [\d, ]+ \]', text)
    assert json.loads(text)["title"] == "[\\n 1,\\n 2\\n]"


def test_a_report_of_format_3_is_read_and_has_no_tracker() -> None:
    report = whole_report()
    content = json.loads(to_json(report)) | {"format": 3}
    del content["tracking"]
    assert report_from_json(content) == report


@pytest.mark.parametrize(
    ("key", "index", "change", "words"),
    [
        ("weights", 1, {"step": 100}, "step must be more than 100, got 100"),
        ("weights", 0, {"kind": "activity"}, "kind must be weights"),
        ("activity", 0, {"samples": 0}, "activity[0]: samples must be an integer from 1"),
        ("activity", 0, {"kind": "weights"}, "kind must be activity"),
        ("weights", 0, {"kind": 3}, "kind must be weights, got 3"),
    ],
)
def test_an_edited_tracker_in_a_report_is_refused(
    key: str, index: int, change: dict[str, object], words: str
) -> None:
    content = json.loads(to_json(tracked_report()))
    content["tracking"][key][index].update(change)
    with pytest.raises(StoreError) as found:
        _ = report_from_json(content)
    assert words in str(found.value)


def test_two_records_of_one_step_are_refused() -> None:
    once = record(5, ("fc", 8, False, 2))
    with pytest.raises(ValueError, match="more than 5, got 5"):
        _ = Report(whole_report().removal, tracking=Track((once, once)))
