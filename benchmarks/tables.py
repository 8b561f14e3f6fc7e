"""Write the tables of README.md and docs/ from results/: every figure is from a recorded run.

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
SPARSIFY = ROOT / "docs" / "sparsify.md"
OVERHEAD = "step-overhead-benchmark.jsonl"


def main() -> int:
    """Rewrite the documents, or check them; the exit code says whether they were up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    _ = parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    stale = 0
    for path, made in ((README, blocks()), (SPARSIFY, sparsify_blocks())):
        before = path.read_text(encoding="utf-8")
        after = filled(before, made)
        stale += before != after
        if not options.check:
            _ = path.write_text(after, encoding="utf-8")
    return int(options.check and stale > 0)


def filled(text: str, made: Mapping[str, str]) -> str:
    """The text with its blocks replaced."""
    for name, block in made.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        before_block, _, rest = pattern.sub(r"\1\0\2", text).partition("\0")
        text = f"{before_block}{block}\n{rest}" if rest else before_block
    return text


def blocks() -> Mapping[str, str]:
    """Block name -> its text, of the README."""
    return {
        "digits": table(runs("digits-adam-l2.jsonl")),
        "mnist": table(runs("mnist-lenet300-adam-l2.jsonl")),
        "speed": speed(runs("compaction-benchmark.jsonl")),
        "demo": f"```\n{demo()}\n```",
    }


def sparsify_blocks() -> Mapping[str, str]:
    """The same of docs/sparsify.md; none before the benchmark has been recorded."""
    if not (RESULTS / OVERHEAD).is_file():
        return {}
    return {"overhead": overhead(runs(OVERHEAD))}


def overhead(recorded: list[dict[str, Any]]) -> str:
    """A row for each sparsifier and peer, a column for each network trained by Adam."""
    chosen = [run for run in recorded if run["optimizer"] == "adam"]
    names = dict.fromkeys(name for run in chosen for name in run["ratios"])
    rows = ["| after a step of Adam | " + " | ".join(run["network"] for run in chosen) + " |"]
    rows.append("|---" * (len(chosen) + 1) + "|")
    for name in names:
        cells = [added(run["ratios"].get(name)) for run in chosen]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def added(ratios: Mapping[str, Any] | None) -> str:
    """Floors with their spread, and the shares of a plain step and of a step with its gradient."""
    if ratios is None:
        return "-"
    floors, whole = ratios["floor"], ratios["backward and step"]["median"]
    spread = f"{floors['median']:.1f} ({floors['min']:.1f}-{floors['max']:.1f})"
    return f"{spread}; {ratios['step']['median']:.0%}; {whole:.1%}"


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
