"""The figures on the pages are those of results/: what is written there is what the runs say."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_tables_of_the_pages_are_up_to_date() -> None:
    command = [sys.executable, "benchmarks/tables.py", "--check"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, f"{told.stdout}{told.stderr}: run python benchmarks/tables.py"
