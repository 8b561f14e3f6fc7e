"""The report of the sensitivity experiment follows from its lines, and says what was reached."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from abscise._errors import StoreError
from abscise.papers import Finished, append_finished, html, markdown, read_finished
from abscise.papers._rungs import highest_compression, steps_of, trail_of
from abscise.papers._sensitivity import SensitivityExperiment
from abscise.papers._sensitivity_names import control_of, is_taught
from abscise.papers._sensitivity_stages import Figure, Stage
from support.papering import run_of_task, task_of

STAGE = Stage(
    dataset="pendigits",
    network="mlp",
    figures=(Figure(2.0, 10.0, "made up", target=True), Figure(3.0, 5.0, "somebody")),
    rungs=(1.0, 2.0, 4.0),
    methods=("dense", "sensitivity", "decay"),
    cycles=1,
)
PAPER = SensitivityExperiment((STAGE,))


def rung(allowed: float, nonzero: int, test: float, epoch: int = 1) -> dict[str, Any]:
    return {
        "rung": allowed,
        "epoch": epoch,
        "validation": allowed,
        "nonzero": nonzero,
        "test": test,
    }


def finished(
    tmp_path: Path, runs: Mapping[tuple[str, int], Sequence[dict[str, Any]]]
) -> tuple[Finished, ...]:
    """The lines of made runs, written and read again."""
    path = tmp_path / "lines.jsonl"
    for (method, seed), rungs in runs.items():
        task = task_of(None, seed, experiment="sensitivity", method=method)
        run = run_of_task(task)
        looks = [[1, 0.1, 9.0, 900], [2, 0.1, 8.0, 800], [3, 0.1, 7.0, 700], [4, 0.1, 5.0, 500]]
        notes = {**(run.notes or {}), "start": "a", "rungs": list(rungs), "looks": looks}
        if method == "dense":
            notes = {**(run.notes or {}), "start": "a"}
        append_finished(path, replace(run, notes=notes))
    return read_finished(path, "sensitivity")


RUNS: Mapping[tuple[str, int], Sequence[dict[str, Any]]] = {
    ("dense", 0): [],
    ("sensitivity", 0): [rung(2.0, 50, 1.9), rung(4.0, 20, 3.5, 2)],
    ("sensitivity", 1): [rung(1.0, 200, 1.5), rung(2.0, 100, 1.7), rung(4.0, 20, 3.7, 2)],
    ("decay", 0): [rung(2.0, 150, 1.9), rung(4.0, 50, 3.5, 2)],
}


def test_a_row_holds_the_mean_over_the_seeds_of_what_validation_allows(tmp_path: Path) -> None:
    cycles, frontiers, figures, shipped = PAPER.outcome(finished(tmp_path, RUNS)).tables
    # 50 and 100 of 1,000 weights: 1000 / 75. The rung 1 is reached by one of two runs only.
    assert frontiers.header == ("method", "seeds", "<= 2 %", "<= 4 %")
    assert frontiers.rows[0] == ("sensitivity", "2", "13.3x, 1.80", "50.0x, 3.60")
    assert frontiers.rows[1] == ("S = 0", "1", "6.7x, 1.90", "20.0x, 3.50")
    assert figures.rows[0] == ("made up", "2.00", "10x", "13.3x", "6.7x")
    assert figures.rows[1] == ("somebody", "3.00", "5x", "13.3x", "6.7x")
    assert [row[0] for row in shipped.rows] == ["dense", "sensitivity", "S = 0"]
    # The only cycle ends with epoch 4.
    assert cycles.rows[0] == ("sensitivity", "2", "2.0x", "5.00 (5.00-5.00)")


def test_the_end_of_a_cycle_is_told_unless_a_run_ended_before(tmp_path: Path) -> None:
    runs = finished(tmp_path, RUNS)
    longer = [replace(run, task=replace(run.task, epochs=5)) for run in runs]
    assert PAPER.outcome(longer).tables[0].rows[0][2:] == ("-", "-")


def test_a_step_that_one_run_does_not_reach_is_no_match(tmp_path: Path) -> None:
    runs = finished(tmp_path, RUNS)
    trails = [trail_of(run) for run in runs if run.task.method == "sensitivity"]
    steps = {step.allowed: step for step in steps_of(trails, STAGE.rungs)}
    assert not steps[1.0].complete
    assert steps[2.0].complete
    found = highest_compression(tuple(steps.values()), 3.0)
    assert found is steps[2.0]
    assert highest_compression(tuple(steps.values()), 3.6) is steps[4.0]
    assert highest_compression(tuple(steps.values()), 1.0) is None


def test_a_longer_run_is_told_beside_the_dense_network_that_it_began_with(tmp_path: Path) -> None:
    runs = finished(tmp_path, RUNS)
    longer = [
        run if run.task.method == "dense" else replace(run, task=replace(run.task, epochs=8))
        for run in runs
    ]
    outcome = PAPER.outcome(longer)
    assert [row[0] for row in outcome.tables[-1].rows] == ["dense", "sensitivity", "S = 0"]
    others = [replace(run, notes={**run.notes, "start": "b"}) for run in longer[1:]]
    outcome = PAPER.outcome([longer[0], *others])
    assert [row[0] for row in outcome.tables[-1].rows] == ["sensitivity", "S = 0"]


def test_the_sentences_tell_what_sensitivity_adds_and_whether_the_figure_is_reached(
    tmp_path: Path,
) -> None:
    said = " ".join(PAPER.outcome(finished(tmp_path, RUNS)).sentences)
    assert "sensitivity 13.3x at 1.80 % test error, its control with S = 0 6.7x" in said
    assert "2.00 times as much" in said
    assert "seeds)" not in said
    assert (
        "the figure to reach is 10x at 2 % test error (recalled); read off the curve of the test "
        "error, sensitivity reaches 13" in said
    )
    worse = {key: [rung(2.0, 150, 1.9)] for key in RUNS}
    other = " ".join(PAPER.outcome(finished(tmp_path / "worse", worse)).sentences)
    assert "comes nearest, with 6.7x at 1.90 %" in other
    assert "1.00 times as much" in other
    fewer = dict(RUNS) | {("decay", 0): [rung(2.0, 10, 1.9)]}
    third = " ".join(PAPER.outcome(finished(tmp_path / "fewer", fewer)).sentences)
    assert "S = 0 reaches 100.0x at 1.90 % test error (1 of 2 seeds)." in third


def test_where_nothing_gets_to_the_error_the_report_says_so(tmp_path: Path) -> None:
    runs = finished(tmp_path, {("sensitivity", 0): [rung(4.0, 20, 3.0)], ("decay", 0): []})
    outcome = PAPER.outcome(runs)
    assert "no method gets below that error" in outcome.sentences[-1]
    assert outcome.tables[2].rows[0][3:] == ("-", "-")


def test_the_report_does_not_depend_on_the_order_of_the_lines(tmp_path: Path) -> None:
    runs = finished(tmp_path, RUNS)
    one, two = (PAPER.outcome(some) for some in (runs, runs[::-1]))
    assert markdown(one) == markdown(two)
    assert html(one) == html(two)
    assert "recalled" in html(one)


def test_a_line_with_a_broken_rung_is_refused(tmp_path: Path) -> None:
    runs = finished(tmp_path, {("decay", 0): [rung(2.0, 150, 1.9)]})
    broken = json.loads(json.dumps(runs[0].notes))
    broken["rungs"][0]["nonzero"] = "many"
    with pytest.raises(StoreError, match=r"rungs\[0\].*nonzero"):
        _ = trail_of(replace(runs[0], notes=broken))


def test_runs_at_other_strengths_than_the_rule_s_have_rows_of_their_own(tmp_path: Path) -> None:
    runs = finished(tmp_path, RUNS)
    doubled = [
        replace(run, task=replace(run.task, strength=2.0), error_percent=50.0)
        for run in runs
        if run.task.method in ("sensitivity", "decay")
    ]
    alone, both = PAPER.outcome(runs), PAPER.outcome((*runs, *doubled))
    for before, after in zip(alone.tables, both.tables, strict=True):
        assert set(before.rows) <= set(after.rows)
    names = [row[0] for row in both.tables[1].rows]
    doubles = ["sensitivity, 2 times as strong", "S = 0, 2 times as strong"]
    assert names == ["sensitivity", doubles[0], "S = 0", doubles[1]]
    pair = f"{doubles[0]} 50.0x at 3.60 % test error, its control with S = 0 20.0x at 3.50"
    assert any(pair in one for one in both.sentences)
    # And nothing that is compared at one strength is drawn at another.
    assert both.pictures == alone.pictures


def test_of_a_taught_method_the_picture_has_the_strength_that_leaves_the_least(
    tmp_path: Path,
) -> None:
    taught = {("sensitivity-taught", 0): [rung(2.0, 50, 1.9), rung(4.0, 40, 3.5, 2)]}
    runs = finished(tmp_path, {**RUNS, **taught})
    rungs = [rung(2.0, 80, 1.8), rung(4.0, 20, 3.6, 2)]
    stronger = [
        replace(
            run,
            task=replace(run.task, strength=8.0),
            notes={**run.notes, "rungs": rungs},
        )
        for run in runs
        if run.task.method == "sensitivity-taught"
    ]
    (_, ideas) = PAPER.outcome((*runs, *stronger)).pictures
    (curve,) = [it for it in ideas.panels[0].curves if it.name == "sensitivity, taught"]
    assert [(spot.x, spot.y) for spot in curve.spots] == [(0.05, 1.9), (0.02, 3.6)]


def test_a_network_with_nothing_left_is_told_as_if_one_parameter_were(tmp_path: Path) -> None:
    runs = finished(tmp_path, {(name, 0): [rung(4.0, 0, 3.0)] for name in ("sensitivity", "decay")})
    outcome = PAPER.outcome(runs)
    assert outcome.tables[1].rows[0][2:] == ("1000.0x, 3.00",)
    assert "recalled" in html(outcome)


def at_strength(runs: Sequence[Finished], method: str, strength: float) -> list[Finished]:
    """The runs of a method, as if at another strength."""
    return [
        replace(run, task=replace(run.task, strength=strength))
        for run in runs
        if run.task.method == method
    ]


def test_no_curve_of_a_method_has_states_of_its_taught_twin(tmp_path: Path) -> None:
    taught = {(f"{name}-taught", 0): [rung(2.0, 10, 1.2)] for name in ("sensitivity", "decay")}
    runs = finished(tmp_path, {**RUNS, **taught})
    untaught = [run for run in runs if not is_taught(run.task.method)]
    alone, both = PAPER.outcome(untaught).pictures, PAPER.outcome(runs).pictures
    assert both[0] == alone[0]
    curves = {it.name: it.spots for it in both[1].panels[0].curves}
    assert [spot.x for spot in curves["sensitivity, taught"]] == [0.01]
    assert curves["sensitivity"] == alone[0].panels[0].curves[0].spots


def test_a_strength_with_fewer_seeds_is_not_drawn_beside_one_with_more(tmp_path: Path) -> None:
    taught = {("sensitivity-taught", seed): [rung(2.0, 50, 1.9)] for seed in (0, 1)}
    lucky = {("sensitivity-taught", seed): [rung(2.0, 20, 1.9)] for seed in (0, 1)}
    runs = finished(tmp_path, {**RUNS, **taught})
    (tmp_path / "lucky").mkdir()
    stronger = at_strength(finished(tmp_path / "lucky", lucky), "sensitivity-taught", 8.0)
    for some, drawn in ((stronger[:1], 0.05), (stronger, 0.02)):
        (_, ideas) = PAPER.outcome((*runs, *some)).pictures
        (curve,) = [it for it in ideas.panels[0].curves if it.name == "sensitivity, taught"]
        assert [spot.x for spot in curve.spots] == [drawn]


def test_two_strengths_never_share_a_name(tmp_path: Path) -> None:
    runs = finished(tmp_path, RUNS)
    near = [*at_strength(runs, "decay", 0.1234567), *at_strength(runs, "decay", 0.1234568)]
    names = [row[0] for row in PAPER.outcome((*runs, *near)).tables[1].rows]
    digits = [f"S = 0, 0.123456{last} times as strong" for last in (7, 8)]
    assert names == ["sensitivity", "S = 0", *digits]


def test_where_all_runs_are_taught_the_teacher_is_what_they_are_drawn_beside(
    tmp_path: Path,
) -> None:
    made = {("teacher", 0): [], ("sensitivity-taught", 0): [rung(2.0, 50, 1.9)]}
    runs = finished(tmp_path, made)
    (row,) = PAPER.outcome(runs).pictures
    error = runs[0].error_percent
    assert row.panels[0].dense == (error, (error, error))
    assert row.panels[0].highest == 3 * error


@pytest.mark.parametrize(
    ("name", "control"),
    [
        ("sensitivity", "decay"),
        ("sensitivity-taught", "decay-taught"),
        ("sensitivity x 2", "decay x 2"),
        ("sensitivity-taught x 0.5", "decay-taught x 0.5"),
        ("sensitivity-raw", None),
        ("magnitude-taught", None),
        ("decay", None),
    ],
)
def test_a_control_is_like_its_method_in_all_but_the_sensitivity(
    name: str, control: str | None
) -> None:
    assert control_of(name) == control


def test_recorded_lines_and_docs_agree() -> None:
    """The page in docs/ is what `abscise reproduce sensitivity --report` writes today."""
    root = Path(__file__).parents[2]
    paper = SensitivityExperiment()
    runs = read_finished(root / "results" / "sensitivity.jsonl", paper.name)
    page = (root / "docs" / "papers" / "sensitivity.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"<!-- sensitivity -->\n(.*?)<!-- end -->", page, re.DOTALL)
    assert block == markdown(paper.outcome(runs))
    starts: dict[tuple[str, str, int, bool], set[object]] = {}
    for run in runs:
        task, taught = run.task, run.task.method == "teacher" or is_taught(run.task.method)
        own = starts.setdefault((task.dataset, task.network, task.seed, taught), set())
        own.add(run.notes["start"])
    assert all(len(digests) == 1 for digests in starts.values())
    assert all(run.commit is not None and "dirty" not in run.commit for run in runs)
