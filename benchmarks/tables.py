"""Write the tables of README.md and docs/ from results/: every figure is of a recorded run.

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
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "sensitivity.md")


def main() -> int:
    """Rewrite the documents, or check them; the exit code says whether they were up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    _ = parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    old = {path: path.read_text(encoding="utf-8") for path in DOCUMENTS}
    new = {path: written(text) for path, text in old.items()}
    if not options.check:
        for path, text in new.items():
            _ = path.write_text(text, encoding="utf-8")
        return 0
    return int(old != new)


def written(document: str) -> str:
    """A document with its tables as the results have them."""
    after = document
    for name, text in blocks().items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        before_block, _, rest = pattern.sub(r"\1\0\2", after).partition("\0")
        after = f"{before_block}{text}\n{rest}" if rest else before_block
    return after


def blocks() -> Mapping[str, str]:
    """Block name -> its text."""
    return {
        "digits": table(runs("digits-adam-l2.jsonl")),
        "mnist": table(runs("mnist-lenet300-adam-l2.jsonl")),
        "speed": speed(runs("compaction-benchmark.jsonl")),
        "sensitivity": sensitivity(runs("sensitivity-cost-benchmark.jsonl")),
        "demo": f"```\n{demo()}\n```",
    }


def runs(name: str) -> list[dict[str, Any]]:
    """The recorded runs of one file; none where there is no file."""
    if not (RESULTS / name).exists():
        return []
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


def sensitivity(recorded: list[dict[str, Any]]) -> str:
    """Steps with each way to measure, over plain steps: median and range."""
    if not recorded:
        return "Not recorded yet."
    head = ["whole steps over plain steps", *(run["network"] for run in recorded)]
    lines = [head, ["---"] * len(head)]
    for way in recorded[0]["ratios"]:
        cells = [spread_of(run["ratios"][way]) for run in recorded]
        lines.append([way, *cells])
    apart = [spread_of(run["loop over exact"]) for run in recorded]
    lines.append(["loop over examples, over what exact adds", *apart])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread_of(ratio: Mapping[str, float]) -> str:
    """Median and range."""
    median, least, most = (ratio[key] for key in ("median", "min", "max"))
    digits = 0 if median >= 100 else 1 if median >= 10 else 2
    return f"{median:,.{digits}f} ({least:,.{digits}f}-{most:,.{digits}f})"


def demo() -> str:
    """The end of the demo's output, without this machine's folders."""
    text = (RESULTS / "demo-seed0.txt").read_text(encoding="utf-8")
    return text[text.index("snapped") :].rstrip()


if __name__ == "__main__":
    sys.exit(main())
