"""Write the tables of README.md from results/: every figure there comes from a recorded run.

python benchmarks/tables.py          # rewrite the blocks between <!-- name --> and <!-- end -->
python benchmarks/tables.py --check  # only say whether they are up to date
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
README = ROOT / "README.md"


def main() -> int:
    """Rewrite README.md, or check it; the exit code says whether it was up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    _ = parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    before = README.read_text(encoding="utf-8")
    after = before
    for name, text in blocks().items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        before_block, _, rest = pattern.sub(r"\1\0\2", after).partition("\0")
        after = f"{before_block}{text}\n{rest}" if rest else before_block
    if not options.check:
        _ = README.write_text(after, encoding="utf-8")
        return 0
    return int(before != after)


def blocks() -> Mapping[str, str]:
    """Block name -> its text."""
    return {
        "digits": table(runs("digits-adam-l2.jsonl")),
        "mnist": table(runs("mnist-lenet300-adam-l2.jsonl")),
        "speed": speed(runs("compaction-benchmark.jsonl")),
        "demo": f"```\n{demo()}\n```",
    }


def runs(name: str) -> list[dict[str, Any]]:
    """The recorded runs of one file."""
    lines = (RESULTS / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def table(recorded: list[dict[str, Any]]) -> str:
    """One row for each run."""
    rows = [
        "| optimizer | seed | units removed | parameters | MACs | test error | predictions moved |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in recorded:
        seen = run["notes"]["predictions"]
        macs = run["notes"]["dense"]["macs"] / run["notes"]["compacted"]["macs"]
        rows.append(
            f"| {run['method']} | {run['seed']} "
            f"| {run['units_removed']} of {run['units']} ({share(run):.0%}) "
            f"| {run['parameters']:,} -> {kept(run):,} ({kept(run) / run['parameters'] - 1:.0%}) "
            f"| {macs:.1f}x fewer | {run['error_percent']:.2f} % "
            f"| {seen['changed']} of {seen['examples']} |"
        )
    return "\n".join(rows)


def share(run: Mapping[str, Any]) -> float:
    """Removed units over all units."""
    return float(run["units_removed"] / run["units"])


def kept(run: Mapping[str, Any]) -> int:
    """Parameters of the compacted model."""
    return int(run["notes"]["compacted"]["parameters"])


def speed(recorded: list[dict[str, Any]]) -> str:
    """Passes over one forward pass."""
    rows = ["| model | dead channels hold | analysis and edit, in forward passes (median, range) |"]
    rows.append("|---|---|---|")
    for run in recorded:
        ratio = run["ratios"]["all passes"]
        holds = "0 only" if run["constants"] == 0 else "0, or a constant to fold"
        spread = f"{ratio['min']:.1f}-{ratio['max']:.1f}"
        rows.append(f"| {run['network']} | {holds} | {ratio['median']:.1f} ({spread}) |")
    return "\n".join(rows)


def demo() -> str:
    """The end of the demo's output, without this machine's folders."""
    text = (RESULTS / "demo-seed0.txt").read_text(encoding="utf-8")
    return text[text.index("snapped") :].rstrip()


if __name__ == "__main__":
    sys.exit(main())
