"""Write the tables of the pages from results/: every figure there comes from a recorded run.

python benchmarks/tables.py          # rewrite the blocks between <!-- name --> and <!-- end -->
python benchmarks/tables.py --check  # only say whether they are up to date
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from _verdict_views import draw, verdict_table

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
PAGES = tuple(
    ROOT / name
    for name in (
        "README.md",
        "docs/shrinking.md",
        "docs/denormals.md",
        "docs/sparsify.md",
        "docs/sensitivity.md",
        "docs/doctor.md",
    )
)
OVERHEAD = "step-overhead-benchmark.jsonl"
COST = "sensitivity-cost-benchmark.jsonl"
SHRINKING = "shrinking-benchmark.jsonl"
VERDICTS = "doctor-verdicts.jsonl"


def main() -> int:
    """Rewrite the pages, or check them; the exit code says whether they were up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    _ = parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    current, made = True, blocks()
    for page in PAGES:
        before = page.read_text(encoding="utf-8")
        after = with_blocks(before, made)
        current = current and before == after
        if not options.check:
            _ = page.write_text(after, encoding="utf-8")
    if not options.check and (RESULTS / VERDICTS).exists():
        draw(runs(VERDICTS), ROOT / "docs" / "doctor-verdicts.svg")
    return int(options.check and not current)


def with_blocks(page: str, made: Mapping[str, str]) -> str:
    """The page with what stands between its marks written anew."""
    for name, text in made.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        before_block, _, rest = pattern.sub(r"\1\0\2", page).partition("\0")
        page = f"{before_block}{text}\n{rest}" if rest else before_block
    return page


def blocks() -> Mapping[str, str]:
    """Block name -> its text."""
    found = {
        "digits": table(runs("digits-adam-l2.jsonl")),
        "mnist": table(runs("mnist-lenet300-adam-l2.jsonl")),
        "speed": speed(runs("compaction-benchmark.jsonl")),
        "demo": f"```\n{demo()}\n```",
        "denormals": denormals(
            [*runs("mnist-lenet300-adam-l2.jsonl"), *runs("digits-adam-l2.jsonl")]
        ),
    }
    found |= while_training()
    if (RESULTS / SHRINKING).exists():
        found["shrinking"] = shrinking(runs(SHRINKING))
    if (RESULTS / COST).exists():
        found["sensitivity"] = sensitivity(runs(COST))
    if (RESULTS / OVERHEAD).exists():
        found["overhead"] = overhead(runs(OVERHEAD))
    if (RESULTS / VERDICTS).exists():
        found["verdicts"] = verdict_table(runs(VERDICTS))
    return found


def while_training() -> dict[str, str]:
    """The lines that matter of what the example printed."""
    lines = (RESULTS / "while-training.txt").read_text(encoding="utf-8").splitlines()
    seen = [line for line in lines if "units below" in line or "silent on" in line]
    chosen = {
        "while-doctor": [lines[0]],
        "while-tracker": seen[:2],
        "while-shrink": [line for line in lines if ": removed " in line][-1:],
    }
    return {name: "\n".join(["```", *told, "```"]) for name, told in chosen.items()}


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


def denormals(recorded: list[dict[str, Any]]) -> str:
    """One row for each run that has subnormal weights."""
    rows = head(
        "run",
        "seed",
        "subnormal weights",
        "slower by them",
        "left after removal",
        "faster then",
        "than flushed before",
    )
    for run in recorded:
        dense, small = run["notes"]["dense"], run["notes"]["compacted"]
        if not dense["subnormal"]:
            continue
        before, flushed, after = (
            dense["latency_s"], dense["latency_flushed_s"], small["latency_s"]
        )  # fmt: skip
        rows.append(
            f"| {run['experiment']} | {run['seed']} | {dense['subnormal']:,} of "
            f"{dense['parameters']:,} | {before / flushed:.2f}x | {small['subnormal']:,} "
            f"| {before / after:.2f}x | {flushed / after:.2f}x |"
        )
    return "\n".join(rows)


def shrinking(recorded: list[dict[str, Any]]) -> str:
    """One row for each run, and how the time of an epoch fell."""
    rows = head(
        "run",
        "units that went",
        "parameters",
        "whole training",
        "last three epochs",
        "test error, dense and shrinking",
    )
    courses = []
    for run in recorded:
        name, errors = (
            f"{run['recipe']['name']}, seed {run['recipe']['seed']}",
            run["error_percent"],
        )
        rows.append(
            f"| {name} | {run['units_removed']} of {run['units']} "
            f"({run['units_removed'] / run['units']:.0%}) "
            f"| {run['parameters']:,} -> {run['parameters_left'][-1]:,} "
            f"| {run['speedup']:.2f}x faster | {run['last_epochs_speedup']:.2f}x faster "
            f"| {errors['dense']:.2f} %, {errors['shrinking']:.2f} % |"
        )
        courses.append(f"* {name}: {course(run)}")
    told = "Seconds of an epoch, dense over shrinking, means over tenths of the training:"
    return "\n".join([*rows, *over_seeds(recorded), "", told, "", *courses])


def over_seeds(recorded: list[dict[str, Any]]) -> list[str]:
    """What the seeds of one recipe have in common: mean errors, their pairs, and the speed-ups."""
    recipes = [dict(run["recipe"]) for run in recorded]
    seeds = {recipe.pop("seed") for recipe in recipes}
    if len(seeds) != len(recorded) or any(it != recipes[0] for it in recipes) or len(seeds) < 2:
        return []
    pairs = [(run["error_percent"]["dense"], run["error_percent"]["shrinking"]) for run in recorded]
    dense, shrinking = (f"{fmean(errors):.2f} %" for errors in zip(*pairs, strict=True))
    worse = sum(after > before for before, after in pairs)
    better = sum(after < before for before, after in pairs)
    speedups = [run["speedup"] for run in recorded]
    text = (
        f"Over {len(pairs)} seeds the mean test error is {dense} of the dense network and\n"
        f"{shrinking} of the shrinking one (worse in {worse}, better in {better}, the same in\n"
        f"{len(pairs) - worse - better}); the whole training is {min(speedups):.2f} to "
        f"{max(speedups):.2f} times faster."
    )
    return ["", text]


def head(*columns: str) -> list[str]:
    """The first two lines of a table."""
    return [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]


def course(run: Mapping[str, Any]) -> str:
    """Ten ratios of epoch times, in order."""
    dense, small = run["dense_epoch_s"], run["shrinking_epoch_s"]
    edges = [round(place * len(dense) / 10) for place in range(11)]
    parts = [sum(dense[a:b]) / sum(small[a:b]) for a, b in pairwise(edges) if a < b]
    return ", ".join(f"{part:.2f}" for part in parts)


def sensitivity(recorded: list[dict[str, Any]]) -> str:
    """Steps with each way to measure, over plain steps: median and range."""
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
