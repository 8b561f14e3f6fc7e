"""What is told of filter sparsity follows from the lines, whatever came out."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from abscise._errors import RecipeError, StoreError
from abscise.papers import Finished, append_finished, html, markdown, read_finished
from abscise.papers._filter_facts import facts_of_run
from abscise.papers._filter_sparsity import FilterSparsityExperiment
from support.papering import run_of_task, task_of

PAPER = FilterSparsityExperiment()
SIZES = (10, 30)


def dead(layer: str, units: int, gone: int, tiny: int) -> dict[str, Any]:
    below = {"0.001": gone, "1e-06": tiny, "1e-12": 0}
    return {"layer": layer, "units": units, "below": below, "silent": gone}


def filters(layer: str, count: int, gone: int) -> dict[str, Any]:
    below = {"0.001": gone, "1e-06": gone, "1e-12": 0}
    fires = None if gone == count else 0.25
    return {
        "layer": layer,
        "filters": count,
        "rows_below": below,
        "silent": gone,
        "universality": fires,
    }


def cuts(ranking: str, *errors: float) -> dict[str, Any]:
    levels = [0.25 * (place + 1) for place in range(len(errors))]
    found = [
        {"share": one, "gone": round(40 * one), "parameters": 500, "error": error}
        for one, error in zip(levels, errors, strict=True)
    ]
    return {"ranking": ranking, "cuts": found}


def line(
    method: str,
    strength: float,
    gone: tuple[int, int] = (0, 0),
    *,
    seed: int = 0,
    tiny: int = 0,
    error: float = 20.0,
    ranked: Sequence[dict[str, Any]] = (),
) -> tuple[Any, dict[str, Any], float]:
    task = task_of(
        strength,
        seed,
        experiment=PAPER.name,
        method=method,
        dataset="cifar10",
        network="basicnet-quarter",
        epochs=160,
        limit=10_000,
    )
    names = [f"features.block{number}.conv" for number in (1, 2)]
    rows = list(zip(names, SIZES, gone, strict=True))
    notes = {
        "dead": [dead(*row, tiny) for row in rows] + [dead("hidden", 8, 3, 0)],
        "snap": 1e-3,
        "tried": [{"threshold": 1e-3, "snapped": sum(gone), "changed": 0}],
        "error_before": error,
        "filters": {"layers": [filters(*row) for row in rows], "cuts": list(ranked)},
    }
    return task, notes, error


def told(folder: Path, *lines: tuple[Any, dict[str, Any], float]) -> tuple[Finished, ...]:
    path = folder / "lines.jsonl"
    path.unlink(missing_ok=True)
    for task, notes, error in lines:
        run = run_of_task(task, error_percent=error)
        append_finished(path, replace(run, notes={**(run.notes or {}), **notes}))
    return read_finished(path, PAPER.name)


def sentences(finished: Sequence[Finished]) -> str:
    return "\n".join(PAPER.outcome(finished).sentences)


MAIN = (line("adam-l2", 1e-4, (2, 20)), line("adam-l2", 1e-4, (2, 24), seed=1))
ALL = (
    *MAIN,
    line("sgd-l2", 1e-4),
    line("adam-wd", 1e-4, (0, 22), tiny=1),
    line("adamw", 1e-4),
    line("adam-l2", 0.0),
    line("adam-l2-batch160", 1e-4, (0, 5)),
)


def test_the_outcome_is_the_same_in_whatever_order_the_runs_are(tmp_path: Path) -> None:
    finished = list(told(tmp_path, *ALL))
    first = PAPER.outcome(finished)
    random.Random(0).shuffle(finished)
    assert PAPER.outcome(finished) == first
    assert PAPER.outcome(finished[1:]) != first
    assert html(first)


def test_a_row_holds_means_and_ranges_beside_the_recalled_figures(tmp_path: Path) -> None:
    main, layers, *_ = PAPER.outcome(told(tmp_path, *ALL)).tables
    rows = {row[0]: row for row in main.rows}
    # 22 and 26 of 40 filters; the hidden layer's units are none.
    assert rows["Adam L2 0.0001"][1:4] == ("2", "60.0 (55.0-65.0)", "20.00 (20.00-20.00)")
    assert rows["Adam L2 0.0001"][-2:] == ("70", "10.5")
    assert rows["AdamW, the same number 0.0001 (control)"][-2:] == ("-", "-")
    assert rows["Adam L2, batch 160 0.0001"][-2:] == ("61", "-")
    own = next(row for row in layers.rows if row[0] == "Adam L2 0.0001")
    assert layers.header[2:] == ("block1 (10)", "block2 (30)")
    assert own[2:] == ("20, 25", "73, 25")


@pytest.mark.parametrize(
    ("other", "verdict"),
    [
        ((0, 0), "as expected; Adam"),
        ((5, 18), "as expected in the mean, but"),
        ((10, 30), "NOT as"),
    ],
)
def test_whether_sgd_loses_fewer_filters_is_said_as_it_is(
    other: tuple[int, int], verdict: str, tmp_path: Path
) -> None:
    said = sentences(told(tmp_path, *MAIN, line("sgd-l2", 1e-4, other)))
    assert f"than under SGD with the same L2: {verdict}" in said


@pytest.mark.parametrize(
    ("tiny", "said"),
    [
        (0, "no unit below 1e-06: none in 2 runs (Adam without L2; AdamW, the same number)"),
        (4, "NOT met: AdamW, the same number has up to 8 of 48"),
    ],
)
def test_controls_with_units_below_1e6_are_named(tiny: int, said: str, tmp_path: Path) -> None:
    own = line("adam-l2", 1e-4, (2, 20), tiny=2)
    control = line("adamw", 1e-4, (4, 4), tiny=tiny)
    assert said in sentences(told(tmp_path, own, control, line("adam-l2", 0.0)))


@pytest.mark.parametrize(("before", "same"), [(20.0, "1 of 1"), (20.01, "0 of 1")])
def test_an_error_that_removal_changed_is_counted(before: float, same: str, tmp_path: Path) -> None:
    task, notes, error = line("adam-l2", 1e-4, (2, 20))
    finished = told(tmp_path, (task, {**notes, "error_before": before}, error))
    assert f"to the last digit, in {same} runs" in sentences(finished)


@pytest.mark.parametrize(
    ("gone", "word"),
    [((5, 10), "NOT as expected; the first 1 lose 50.0 %"), ((1, 20), "as expected; the first 1")],
)
def test_where_the_filters_go_is_said_as_it_is(
    gone: tuple[int, int], word: str, tmp_path: Path
) -> None:
    said = sentences(told(tmp_path, line("adam-l2", 1e-4, gone)))
    assert f"later layers lose more: {word}" in said


@pytest.mark.parametrize(("of_160", "word"), [(5, "as expected; 40"), (29, "NOT as expected; 40")])
def test_whether_large_batches_lose_fewer_is_said_as_it_is(
    of_160: int, word: str, tmp_path: Path
) -> None:
    finished = told(tmp_path, *MAIN, line("adam-l2-batch160", 1e-4, (0, of_160)))
    assert f"larger batches lose fewer filters: {word}: 60.0 %" in sentences(finished)


def test_the_comparison_at_equal_size_is_of_cuts_with_the_same_number(tmp_path: Path) -> None:
    finished = told(
        tmp_path,
        line("adam-l2", 1e-4, (2, 20), ranked=[cuts("gamma", 20.1, 20.4, 35.0)]),
        line("slimming", 1e-4, ranked=[cuts("gamma", 30.0, 40.0, 50.0)]),
        line("adam-l2", 0.0, ranked=[cuts("norm", 60.0)]),
    )
    outcome = PAPER.outcome(finished)
    said = "\n".join(outcome.sentences)
    assert "50 % of the filters can be cut off by gamma" in said
    assert "at the same number network slimming 0.0001 40.00 %" in said
    assert "filter norms" not in said  # it has no cut of that size
    table = next(it for it in outcome.tables if "equal size" in it.title)
    assert table.header[-3:] == ("25 %", "50 %", "75 %")
    gone = {
        cut.share: {
            it.gone
            for run in finished
            for own in facts_of_run(run).cuts.values()
            for it in own
            if it.share == cut.share
        }
        for cut in next(iter(facts_of_run(finished[0]).cuts.values()))
    }
    assert gone == {0.25: {10}, 0.5: {20}, 0.75: {30}}
    assert [row[-1] for row in table.rows] == ["-", "35.00 (50)", "50.00 (50)"]
    harmful = told(tmp_path, line("adam-l2", 1e-4, ranked=[cuts("gamma", 30.0)]))
    assert "no cut of the lowest gammas" in sentences(harmful)


@pytest.mark.parametrize(("errors", "most"), [((20.1, 20.4, 35.0), 50), ((20.1, 20.6, 20.2), 25)])
def test_what_can_be_cut_off_ends_at_the_first_cut_that_harms(
    errors: Sequence[float], most: int, tmp_path: Path
) -> None:
    said = sentences(told(tmp_path, line("adam-l2", 1e-4, ranked=[cuts("gamma", *errors)])))
    assert f"{most} % of the filters can be cut off by gamma" in said
    assert "points of the test error, by which that number is chosen" in said


@pytest.mark.parametrize(
    ("other", "differ"),
    [
        ({"seed": 1}, ""),
        ({"seed": 1, "new": 3}, ""),
        ({"seed": 1, "eps": 1e-3}, "eps differ."),
        ({"seed": 1, "precision": "bf16-mixed"}, "precision differ."),
    ],
)
def test_runs_of_one_point_with_several_recipes_are_said_to_be(
    other: dict[str, Any], differ: str, tmp_path: Path
) -> None:
    recipe = {"seed": 0, "eps": 1e-8, "precision": "32-true"}
    one, two, control = told(tmp_path, *MAIN, line("adam-l2-eps", 1e-4))
    made = [replace(one, recipe=recipe), replace(two, recipe=recipe | other)]
    said = sentences([*made, replace(control, recipe=recipe | {"eps": 1e-3})])
    assert ("NOT all runs that are compared are alike" in said) == bool(differ)
    assert differ in said


def test_runs_that_are_compared_on_several_devices_are_said_to_be(tmp_path: Path) -> None:
    one, _, other = told(tmp_path, *MAIN, line("sgd-l2", 1e-4))
    mixed = [replace(one, recipe={"device": "cuda"}), replace(other, recipe={"device": "cpu"})]
    assert "are alike: device differ." in sentences(mixed)


def test_means_are_told_with_the_seeds_that_they_are_over(tmp_path: Path) -> None:
    said = sentences(told(tmp_path, *MAIN, line("sgd-l2", 1e-4)))
    assert "20.00 % test error (2 seeds), SGD L2 0.0001 loses 0.0 %" in said
    assert said.count("(one seed)") == 1


def test_runs_of_other_methods_or_networks_are_refused(tmp_path: Path) -> None:
    (run,) = told(tmp_path, line("adam-l2", 1e-4))
    with pytest.raises(RecipeError, match="no method 'adam-l3'"):
        _ = PAPER.outcome([replace(run, task=replace(run.task, method="adam-l3"))])
    with pytest.raises(RecipeError, match="no stage for cifar10 with vgg11"):
        _ = PAPER.outcome([replace(run, task=replace(run.task, network="vgg11"))])


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"filters": None}, "filters must be an object"),
        ({"filters": {"layers": [], "cuts": []}}, "layers must be one object for each"),
        ({"filters": {"layers": [filters("a", 4, 5)], "cuts": []}}, "0.001 must be"),
        ({"filters": {"layers": [filters("a", 4, 2)], "cuts": [cuts("size", 3.0)]}}, "ranking"),
    ],
)
def test_a_line_that_was_edited_is_refused_in_a_line(
    broken: Mapping[str, Any], said: str, tmp_path: Path
) -> None:
    task, notes, error = line("adam-l2", 1e-4)
    (run,) = told(tmp_path, (task, {**notes, **broken}, error))
    with pytest.raises(StoreError, match=said) as caught:
        _ = facts_of_run(run)
    assert "\n" not in str(caught.value)
    assert task.key in str(caught.value)


def test_a_line_without_its_filters_is_refused(tmp_path: Path) -> None:
    task, notes, error = line("adam-l2", 1e-4)
    del notes["filters"]
    (run,) = told(tmp_path, (task, notes, error))
    with pytest.raises(StoreError, match="must hold filters"):
        _ = PAPER.outcome([run])


def test_the_markdown_has_every_table_and_no_number_of_its_own(tmp_path: Path) -> None:
    outcome = PAPER.outcome(told(tmp_path, *ALL))
    text = markdown(outcome)
    assert [table.title in text for table in outcome.tables] == [True, True]
    assert len(outcome.bars) == 1
    assert [bar.value for bar in outcome.bars[0].bars] == [20.0, pytest.approx(73.333, abs=1e-3)]
    assert outcome.pictures[0].panels[0].curves[0].spots[0].x == pytest.approx(1.0)
