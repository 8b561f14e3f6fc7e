"""The figures on the pages are those of results/: what is written there is what the runs say."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from abscise.papers import experiment, experiments, markdown, read_finished

ROOT = Path(__file__).resolve().parents[1]
BESIDE = {"l1", "group-lasso", "sgl", "random-units", "slimming", "adam-wd"}
"""Something beside the optimizer acts: the doctor is not asked."""

RECORDED = [it.name for it in experiments() if (ROOT / "results" / f"{it.name}.jsonl").exists()]


def test_the_tables_of_the_pages_are_up_to_date() -> None:
    command = [sys.executable, "benchmarks/tables.py", "--check"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, f"{told.stdout}{told.stderr}: run python benchmarks/tables.py"


def test_all_papers_have_recorded_runs() -> None:
    assert len(RECORDED) == len(experiments())


@pytest.mark.parametrize("name", RECORDED)
def test_the_papers_pages_say_what_their_runs_say(name: str) -> None:
    page = (ROOT / "docs" / "papers" / f"{name}.md").read_text(encoding="utf-8")
    (block,) = re.findall(rf"<!-- {name} -->\n(.*?)<!-- end -->", page, re.DOTALL)
    finished = read_finished(ROOT / "results" / f"{name}.jsonl", name)
    asked = f"run abscise reproduce {name} --report --page docs/papers/{name}.md"
    assert markdown(experiment(name).outcome(finished)) == block, asked
    worse = [replace(run, error_percent=99.0) for run in finished]
    assert markdown(experiment(name).outcome(worse)) != block


def test_the_verdicts_are_beside_the_runs_that_are_recorded() -> None:
    compared = lines_of("doctor-verdicts")
    recorded = {name: lines_of(name) for name in ("adam-implicit", "filter-sparsity")}
    told = {key_of(it, it["strength"]) for it in compared}
    left_out = {
        run["method"]
        for runs in recorded.values()
        for run in runs
        if key_of(run, run["notes"]["strength"]) not in told
    }
    assert left_out <= BESIDE, "run python benchmarks/verdicts.py"
    for entry in compared:
        runs = [
            run
            for run in recorded[entry["experiment"]]
            if key_of(run, run["notes"]["strength"]) == key_of(entry, entry["strength"])
        ]
        runs.sort(key=lambda it: it["seed"])
        assert [it["seed"] for it in runs] == entry["seeds"]
        for name, threshold in (("gone", "0.001"), ("far_gone", "1e-06")):
            shares = [gone(it, threshold) for it in runs]
            assert shares == pytest.approx(entry[name], abs=0.01)


def lines_of(name: str) -> list[dict[str, Any]]:
    text = (ROOT / "results" / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def key_of(line: dict[str, Any], strength: float | None) -> tuple[object, ...]:
    return (*(line[it] for it in ("experiment", "dataset", "network", "method")), strength)


def gone(run: dict[str, Any], threshold: str) -> float:
    layers = run["notes"]["dead"]
    small = sum(it["below"][threshold] for it in layers)
    return 100 * float(small) / float(sum(it["units"] for it in layers))
