"""The figures on the pages are those of results/: what is written there is what the runs say."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from abscise.papers import experiment, experiments, markdown, read_finished

ROOT = Path(__file__).resolve().parents[1]
RECORDED = [it.name for it in experiments() if (ROOT / "results" / f"{it.name}.jsonl").exists()]


def test_the_tables_of_the_pages_are_up_to_date() -> None:
    command = [sys.executable, "benchmarks/tables.py", "--check"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, f"{told.stdout}{told.stderr}: run python benchmarks/tables.py"


def test_all_papers_have_recorded_runs() -> None:
    assert len(RECORDED) == 4


@pytest.mark.parametrize("name", RECORDED)
def test_the_papers_pages_say_what_their_runs_say(name: str) -> None:
    page = (ROOT / "docs" / "papers" / f"{name}.md").read_text(encoding="utf-8")
    (block,) = re.findall(rf"<!-- {name} -->\n(.*?)<!-- end -->", page, re.DOTALL)
    finished = read_finished(ROOT / "results" / f"{name}.jsonl", name)
    asked = f"run abscise reproduce {name} --report --page docs/papers/{name}.md"
    assert markdown(experiment(name).outcome(finished)) == block, asked
    worse = [replace(run, error_percent=99.0) for run in finished]
    assert markdown(experiment(name).outcome(worse)) != block
