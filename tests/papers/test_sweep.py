"""What is told of a sweep follows from its lines alone."""

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from abscise._errors import StoreError
from abscise.papers import (
    Finished,
    Outcome,
    Table,
    experiment,
    html,
    markdown,
    read_finished,
    view,
    write_report,
)
from abscise.papers._points import Scene, least, points_of
from abscise.papers._sweep import ALLOWED, OR_POINTS, chosen, sweep_outcome
from abscise.report import plain
from support.papering import task_of

PAPER = experiment("transformed-l1")


def finished(
    method: str, strength: float | None, seed: int, nonzero: int, error: float, validation: float
) -> Finished:
    task = task_of(strength, seed, method=method, experiment=PAPER.name)
    return Finished(
        task=task,
        error_percent=error,
        validation_percent=validation,
        parameters=1000,
        nonzero=nonzero,
        units=100,
        units_removed=100 - nonzero // 10,
        macs=nonzero,
        dense_macs=1000,
        bytes_on_disk=4 * nonzero,
        certified=True,
        wall_s=1.0,
        device="made",
        commit=None,
    )


RUNS = tuple(
    run
    for seed in (0, 1)
    for run in (
        finished("dense", None, seed, 1000, 3.0 + seed, 4.0),
        finished("l1", 1.0, seed, 500, 3.1, 4.2),
        finished("l1", 2.0, seed, 200 + 20 * seed, 3.5, 4.9 + 0.1 * seed),
        finished("l1", 4.0, seed, 100, 5.0, 6.0),
        finished("integrated-tl1", 1.0, seed, 150, 3.3, 4.8),
        finished("integrated-tl1", 2.0, seed, 50, 9.5, 9.0),
    )
)


def outcome(runs: Sequence[Finished] = RUNS) -> Outcome:
    return PAPER.outcome(runs)


def rows(table: Table) -> dict[str, dict[str, str]]:
    return {row[0]: dict(zip(table.header, row, strict=True)) for row in table.rows}


def test_the_sparsest_allowed_result_is_chosen_by_the_validation_error() -> None:
    (points,) = points_of(RUNS).values()
    best = chosen(points)
    assert {name: point.strength for name, point in best.items()} == {
        "dense": None,
        "l1": 2.0,  # at 4.95 on average; 5.0 is allowed
        "integrated-tl1": 1.0,
    }
    assert ALLOWED * 4.0 == 5.0


def test_where_examples_are_few_half_a_point_more_is_allowed() -> None:
    assert (ALLOWED, OR_POINTS) == (1.25, 0.5)
    small = [replace(it, validation_percent=it.validation_percent / 8) for it in RUNS]
    (points,) = points_of(small).values()
    assert (
        chosen(points)["l1"].strength == 4.0
    )  # 0.75: more than 1.25 x 0.5, but not than 0.5 + 0.5


def test_the_test_error_chooses_nothing() -> None:
    lucky = [replace(it, error_percent=0.0) if it.task.strength == 4.0 else it for it in RUNS]
    (points,) = points_of(lucky).values()
    assert chosen(points)["l1"].strength == 2.0
    fit = [replace(it, validation_percent=0.0) if it.task.strength == 4.0 else it for it in RUNS]
    (points,) = points_of(fit).values()
    assert chosen(points)["l1"].strength == 4.0


def test_a_point_over_fewer_seeds_is_not_chosen() -> None:
    runs = [it for it in RUNS if (it.task.strength, it.task.seed) != (2.0, 1)]
    (points,) = points_of(runs).values()
    assert chosen(points)["l1"].strength == 1.0
    assert least([], 1.0, lambda run: run.nonzero) is None


def test_means_and_ranges_are_those_of_the_seeds() -> None:
    row = rows(outcome().tables[0])["l1"]
    assert (row["non-zero"], row["fewer"], row["seeds"]) == ("210", "4.8x", "2")
    assert (row["units left"], row["MACs left"], row["kB"]) == ("21 of 100", "21.0 %", "0.8")
    dense = rows(outcome().tables[0])["dense"]
    assert (dense["test error, %"], dense["range"]) == ("3.50", "3.00-4.00")


def test_the_sentences_name_who_is_first() -> None:
    weights, work = outcome().sentences
    assert weights.endswith("error: integrated TL1 (6.7x fewer weights, 3.30 % test error).")
    assert work.endswith("error: integrated TL1 (15.0 % of the MACs, 3.30 % test error).")
    worse = [replace(it, nonzero=300) if it.nonzero == 150 else it for it in RUNS]
    first, second, third = outcome(worse).sentences
    assert ": l1 (4.8x fewer" in first
    assert "2nd of 2 by that measure: integrated TL1 (3.3x fewer weights, 3.30 %" in second
    assert third == work
    assert len(outcome([replace(it, macs=None) for it in RUNS]).sentences) == 1


def test_without_a_dense_run_nothing_is_chosen_and_all_points_are_told() -> None:
    told = outcome([it for it in RUNS if it.task.method != "dense"])
    assert told.sentences == ()
    assert told.tables[0].rows == ()
    assert len(told.details[0].rows) == 5


def test_all_points_are_in_the_details_in_the_order_of_the_methods() -> None:
    names = [row[0] for row in outcome().details[0].rows]
    assert names == ["dense", "l1", "l1", "l1", "integrated TL1", "integrated TL1"]


def test_runs_that_do_not_compare_are_told_apart() -> None:
    longer = [replace(it, task=replace(it.task, epochs=9)) for it in RUNS]
    told = outcome([*RUNS, *longer])
    assert [table.title for table in told.tables] == [
        "pendigits, mlp, 4 epochs",
        "pendigits, mlp, 9 epochs",
    ]
    assert Scene("mnist", "lenet300", 1, 1000).title == "mnist, lenet300, 1 epoch, 1,000 examples"


def test_points_whose_outputs_are_constant_say_so() -> None:
    dead = [replace(it, certified=False) if it.task.strength == 4.0 else it for it in RUNS]
    cells = [row[-1] for row in outcome(dead).details[0].rows]
    assert cells.count("0 passed, 2 constant") == 1
    assert cells.count("2 passed") == 5


def test_macs_that_cannot_be_counted_are_a_dash() -> None:
    unknown = [replace(it, macs=None) for it in RUNS]
    assert rows(outcome(unknown).tables[0])["l1"]["MACs left"] == "-"
    (row,) = outcome(unknown).pictures
    assert [panel.title for panel in row.panels] == ["weights", "units"]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_report_is_a_pure_function_of_the_lines_in_any_order(tmp_path: Path) -> None:
    shuffled = random.Random(0).sample(RUNS, len(RUNS))
    _ = write_report(PAPER, RUNS, tmp_path / "one")
    _ = write_report(PAPER, shuffled, tmp_path / "other")
    assert set(files(tmp_path / "one")) == {"table.md", "table.txt", "pareto.svg", "page.html"}
    assert files(tmp_path / "one") == files(tmp_path / "other")
    _ = write_report(PAPER, [*RUNS[:-1], replace(RUNS[-1], nonzero=51)], tmp_path / "third")
    assert all(
        files(tmp_path / "third")[name] != content
        for name, content in files(tmp_path / "one").items()
        if name in {"table.txt", "pareto.svg", "page.html"}
    )


def test_the_report_rewrites_its_block_of_a_page_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    around = "before\n<!-- transformed-l1 -->\n{}<!-- end -->\nafter\n"
    _ = page.write_text(around.format("old\n"))
    _ = write_report(PAPER, RUNS, tmp_path / "out", page)
    assert page.read_text() == around.format(markdown(outcome()))
    assert (tmp_path / "transformed-l1.svg").read_bytes() == files(tmp_path / "out")["pareto.svg"]
    _ = page.write_text("no block")
    with pytest.raises(StoreError, match="no lines <!-- transformed-l1 -->"):
        _ = write_report(PAPER, RUNS, tmp_path / "out", page)
    with pytest.raises(StoreError, match="cannot read"):
        _ = write_report(PAPER, RUNS, tmp_path / "out", tmp_path / "gone.md")


def test_what_a_table_shows_is_said_once() -> None:
    longer = [replace(it, task=replace(it.task, epochs=9)) for it in RUNS]
    told = outcome([*RUNS, *longer])
    assert len(told.tables) == 2
    assert markdown(told).count(told.tables[0].note) == 1


def test_a_report_of_no_runs_says_how_to_make_some(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="run abscise reproduce transformed-l1"):
        _ = write_report(PAPER, [], tmp_path)


def test_text_markdown_and_page_show_the_same_cells() -> None:
    told = outcome()
    text = plain(view(told, details=True), width=200)
    page = re.sub(r"<[^>]+>", " ", html(told))
    for row in told.tables[0].rows:
        for words in (text, markdown(told), page):
            assert all(cell in words for cell in row)


def test_a_hostile_name_is_text_everywhere() -> None:
    name = "<script>|`x"
    titles = {"dense": "dense", "l1": name}
    told = sweep_outcome(name, name, titles, "l1", RUNS)
    assert "<script>" not in html(told)
    assert "&lt;script&gt;" in html(told)
    assert "<script>\\|" in markdown(told)


def test_a_table_whose_rows_do_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="1 of 2 columns"):
        _ = Table("t", "n", ("a", "b"), (("x",),))


def test_recorded_lines_and_docs_agree() -> None:
    """The page in docs/ is what `abscise reproduce transformed-l1 --report` writes today."""
    root = Path(__file__).parents[2]
    runs = read_finished(root / "results" / "transformed-l1.jsonl", PAPER.name)
    page = (root / "docs" / "papers" / "transformed-l1.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"<!-- transformed-l1 -->\n(.*?)<!-- end -->", page, re.DOTALL)
    assert block == markdown(PAPER.outcome(runs))
    assert all(run.certified or run.error_percent > 50 for run in runs)
