"""What is told of adam-implicit follows from its lines alone, also where nothing was met."""

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from abscise._errors import RecipeError
from abscise.papers import (
    Finished,
    Outcome,
    Task,
    experiment,
    html,
    markdown,
    read_finished,
    write_report,
)
from abscise.papers._adam_implicit_variants import MAIN, PLAIN, SETUPS, VARIANTS, Group
from abscise.papers._adam_implicit_words import ALLOWED, OR_POINTS, equal_error, smallest
from abscise.papers._points import points_of

PAPER = experiment("adam-implicit")
LENET = SETUPS[0]
NOT_YET = "No run is recorded yet.\n"


def finished(
    method: str,
    seed: int = 0,
    *,
    strength: float | None = -1.0,
    below: tuple[int, int, int] = (0, 0, 0),
    removed: int = 0,
    validation: float = 2.0,
) -> Finished:
    """A made run of LeNet-300 with its dead units in the first layer."""
    own = LENET.main if VARIANTS[method].has_strength else None
    task = Task(
        experiment=PAPER.name,
        method=method,
        dataset="mnist",
        network="lenet300",
        strength=own if strength == -1.0 else strength,
        seed=seed,
        epochs=20,
    )
    counts = dict(zip(("0.001", "1e-06", "1e-12"), below, strict=True))
    nothing = dict.fromkeys(counts, 0)
    return Finished(
        task=task,
        error_percent=1.5 + 0.1 * seed,
        validation_percent=validation,
        parameters=266_610,
        nonzero=266_610 - 785 * removed,
        units=400,
        units_removed=removed,
        macs=266_200 - 784 * removed,
        dense_macs=266_200,
        bytes_on_disk=4 * (266_610 - 785 * removed),
        certified=True,
        wall_s=1.0,
        device="made",
        commit=None,
        notes={
            "dead": [
                {"layer": "fc1", "units": 300, "below": counts, "silent": below[0]},
                {"layer": "fc2", "units": 100, "below": nothing, "silent": 1},
            ],
            "snap": 1e-3,
            "tried": [{"threshold": 1e-3, "snapped": below[0], "changed": 0}],
            "error_before": 1.5 + 0.1 * seed,
        },
    )


RUNS = tuple(
    run
    for seed in (0, 1)
    for run in (
        finished(MAIN, seed, below=(120 + 4 * seed, 100, 80), removed=120),
        finished(MAIN, seed, strength=1e-4, below=(8, 4, 0), removed=8),
        finished("adam", seed),
        finished("adamw", seed),
        finished("amsgrad-l2", seed),
        finished("adam-l2-eps", seed),
        finished("sgd-l2", seed, below=(4, 0, 0)),
        finished("tanh", seed),
        finished("batch-20", seed, below=(200, 180, 100), removed=200),
        finished("l1", seed, strength=1e-4, removed=40, validation=2.1),
        finished("l1", seed, strength=1e-3, removed=300, validation=9.0),
    )
)


def outcome(runs: Sequence[Finished] = RUNS) -> Outcome:
    return PAPER.outcome(runs)


def without(method: str) -> list[Finished]:
    return [it for it in RUNS if it.task.method != method]


def test_the_sentences_follow_from_the_runs() -> None:
    main, controls, kinds, optimizers, course, batches, removal = outcome().sentences
    assert "30.5 (30.0-31.0) % of the units are below 0.001, 25.0 % below" in main
    assert "the same to every digit in 2 of 2 runs." in main
    assert controls.endswith(
        "none in 8 runs (Adam, no L2; AdamW, same number; AMSGrad + L2; Adam + L2, eps 1e-3)."
    )
    assert ", as the paper has it, only with ReLU: " in kinds
    assert "SGD + L2 1.0 % (0.0 % below 1e-06)." in optimizers
    assert "L2 from 0.0001 to 0.001 the share of units below 0.001 rises" in course
    assert "batches from 20 to 100 the share of units below 0.001 falls" in batches
    assert removal.endswith(
        "Adam + L2, ReLU 70.0 % (test error 1.55 %); l1 90.0 % (test error 1.55 %)."
    )


def test_what_is_left_is_told_of_the_units_that_were_removed() -> None:
    """A snap far below 1e-3 removes fewer than are below 1e-3, and none for being silent alone."""
    few = finished(MAIN, below=(120, 100, 80), removed=80)
    (said,) = [it for it in outcome([few]).sentences if "are left" in it]
    assert "30.0 % of the units are below 0.001" in said
    assert "without the 20.0 % that are snapped and removed 76.4 % of the weights" in said


def test_means_that_are_over_other_seeds_than_those_beside_them_say_so() -> None:
    assert not any("(seed" in said for said in outcome().sentences)
    late = [it for it in RUNS if it.task.method not in {"l1", "tanh", "batch-20"} or it.task.seed]
    _, _, kinds, optimizers, course, batches, removal = outcome(late).sentences
    assert "ReLU 25.0 % (seeds 0, 1); Adam + L2, tanh 0.0 % (seed 1)." in kinds
    assert batches.endswith("50.0 % (seed 1), 30.5 % (seeds 0, 1).")
    assert removal.endswith("% (test error 1.60 %) (seed 1).")
    assert "(seed" not in optimizers + course


def test_seeds_of_one_point_that_have_other_recipes_are_told() -> None:
    made = [replace(it, recipe={"seed": it.task.seed, "betas": [0.9, 0.999]}) for it in RUNS]
    assert outcome(made).sentences == outcome().sentences
    changed = replace(made[0], recipe={"seed": 0, "betas": [0.9, 0.99]})
    assert outcome([changed, *made[1:]]).sentences[-1].endswith("are alike: betas differ.")


def test_an_expectation_that_is_not_met_is_told() -> None:
    losing = [*without("adamw"), finished("adamw", below=(9, 3, 0))]
    assert outcome(losing).sentences[1].endswith("NOT met: AdamW, same number has up to 3 of 400.")
    tanh = [*without("tanh"), finished("tanh", below=(9, 3, 0))]
    assert ", NOT only with ReLU: " in outcome(tanh).sentences[2]
    short = [*without(MAIN), finished(MAIN)]
    told = outcome(short).sentences
    assert "it says nothing, as Adam + L2, ReLU lost none" in told[1]
    assert "none, so that nothing is shown" in told[2]
    changed = [replace(it, error_percent=9.0) if it.task.method == MAIN else it for it in RUNS]
    assert "the same to every digit in 0 of 2 runs." in outcome(changed).sentences[0]
    uneven = [*RUNS, finished(MAIN, 0, strength=3e-4), finished(MAIN, 1, strength=3e-4)]
    assert "neither rises nor falls all the way" in outcome(uneven).sentences[4]


def test_what_has_no_runs_is_not_told() -> None:
    told = outcome([finished("adam")])
    assert [line.split(": ")[1] for line in told.sentences] == [
        "controls, which must show no unit below 1e-06"
    ]
    assert told.bars == ()
    assert outcome([finished(MAIN)]).sentences[0].count("runs") == 1


def test_the_removal_is_compared_at_equal_error_on_the_validation_part() -> None:
    (points,) = points_of(RUNS).values()
    assert equal_error(points) == max(ALLOWED * 2.0, 2.0 + OR_POINTS)
    assert {name: it.strength for name, it in smallest(points).items()} == {
        MAIN: LENET.main,
        "l1": 1e-4,
    }
    lucky = [replace(it, error_percent=0.0) if it.task.strength == 1e-3 else it for it in RUNS]
    assert smallest(next(iter(points_of(lucky).values())))["l1"].strength == 1e-4
    fit = [replace(it, validation_percent=2.0) for it in RUNS]
    assert smallest(next(iter(points_of(fit).values())))["l1"].strength == 1e-3
    assert smallest(next(iter(points_of(without(PLAIN)).values()))) == {}


def test_the_tables_hold_each_group_with_the_papers_method_beside_it() -> None:
    tables = {table.title.partition(": ")[2]: table for table in outcome().tables}
    assert list(tables) == [
        "optimizers",
        "activations",
        "L2",
        "batch sizes, for the same number of steps",
        "layers",
        "removal at equal error",
    ]
    kinds = [row[0] for row in tables["activations"].rows]
    assert kinds == [VARIANTS[MAIN].title, VARIANTS["tanh"].title]
    row = dict(zip(tables["L2"].header, tables["L2"].rows[1], strict=True))
    assert (row["removed"], row["same"]) == ("120 of 400", "2 of 2")
    assert row["weights left"] == f"{100 * (266_610 - 785 * 120) / 266_610:.1f} %"
    assert tables["layers"].rows[0][2] == "122.0 (120-124)"
    groups = {variant.group for variant in VARIANTS.values()}
    assert groups == set(Group)


def test_recalled_figures_stand_beside_runs_of_the_networks_that_have_them() -> None:
    setup = next(it for it in SETUPS if it.figures)
    made = finished(MAIN, strength=1e-4, below=(200, 180, 100), removed=200)
    task = replace(made.task, dataset=setup.dataset, network=setup.network)
    (table,) = [it for it in outcome([replace(made, task=task)]).tables if "others" in it.title]
    (row,) = [row for row in table.rows if row[-1] != "-"]
    assert row[2:] == ("0.0001", "70 %", "10.5", "50.0 %", "1.50")


def test_the_outcome_is_a_pure_function_of_the_runs_in_any_order(tmp_path: Path) -> None:
    shuffled = random.Random(0).sample(RUNS, len(RUNS))
    assert outcome(shuffled) == outcome()
    assert outcome(RUNS[1:]) != outcome()
    _ = write_report(PAPER, RUNS, tmp_path / "one")
    _ = write_report(PAPER, shuffled, tmp_path / "other")
    names = {"table.md", "table.txt", "pareto.svg", "bars.svg", "page.html"}
    one, other = (
        {path.name: path.read_bytes() for path in (tmp_path / it).iterdir()}
        for it in ("one", "other")
    )
    assert set(one) == names
    assert one == other
    _ = write_report(PAPER, [finished("tanh", below=(9, 9, 9)), *without("tanh")], tmp_path / "new")
    assert (tmp_path / "new" / "bars.svg").read_bytes() != one["bars.svg"]


def test_bars_are_written_beside_the_page_and_shown_on_the_html_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    _ = page.write_text("<!-- adam-implicit -->\n<!-- end -->\n")
    _ = write_report(PAPER, RUNS, tmp_path / "out", page)
    assert (tmp_path / "adam-implicit-bars.svg").read_text().startswith("<svg")
    assert page.read_text() == f"<!-- adam-implicit -->\n{markdown(outcome())}<!-- end -->\n"
    assert html(outcome()).count("units below 0.001, %") == 2  # wide and narrow
    none = replace(outcome(), bars=())
    assert "units below 0.001, %" not in html(none)


def test_runs_of_other_variants_or_setups_are_refused() -> None:
    (run, *_) = RUNS
    with pytest.raises(RecipeError, match="no method 'adan'"):
        _ = outcome([replace(run, task=replace(run.task, method="adan"))])
    with pytest.raises(RecipeError, match="no setup for mnist with vgg11"):
        _ = outcome([replace(run, task=replace(run.task, network="vgg11"))])


def test_recorded_lines_and_docs_agree() -> None:
    """The page in docs/ is what `abscise reproduce adam-implicit --report` writes today."""
    root = Path(__file__).parents[2]
    lines = root / "results" / "adam-implicit.jsonl"
    page = (root / "docs" / "papers" / "adam-implicit.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"<!-- adam-implicit -->\n(.*?)<!-- end -->", page, re.DOTALL)
    runs = read_finished(lines, PAPER.name)
    assert block == (markdown(PAPER.outcome(runs)) if runs else NOT_YET)
    assert all(run.certified for run in runs)
