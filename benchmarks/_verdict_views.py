"""The table and the picture of what the doctor said and what came of it."""

from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from statistics import fmean
from typing import Any

Entry = Mapping[str, Any]
COLOURS = {
    "units can die within the run": "#0072b2",
    "few units can die within the run": "#e69f00",
    "depends on the gradients": "#cc79a7",
    "units hardly die": "#009e73",
    "units die too slowly": "#666666",
    "units do not die": "#000000",
    "unknown": "#d55e00",
}
"""By what the doctor can say, in the order of the tables (Okabe and Ito)."""

NEVER = -12.0  # where the picture has what does not get there within the run
LATE = "units die too slowly"


def verdict_table(recorded: Sequence[Entry]) -> str:
    """A row for each thing that the doctor said, then one for each kind of run."""
    rows = [
        "| the doctor said | kinds of runs | units below 1e-3, % | below 1e-6, % |",
        "|---|---:|---:|---:|",
    ]
    for said in COLOURS:
        chosen = [it for it in recorded if it["outcome"] == said]
        if chosen:
            near, far = (ends_of(chosen, name) for name in ("gone", "far_gone"))
            rows.append(f"| {said} | {len(chosen)} | {near} | {far} |")
    rows += [
        "",
        "| trained | the doctor said | steps, % | silent by, % | below 1e-3, % | below 1e-6, % |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for entry in ordered(recorded):
        rows.append(
            f"| {trained(entry)} | {entry['outcome']} | {share_of_run(entry)} "
            f"| {silence(entry)} | {gone_of(entry['gone'])} | {fmean(entry['far_gone']):.1f} |"
        )
    return "\n".join(rows)


def ends_of(entries: Sequence[Entry], name: str) -> str:
    """The least and the greatest mean over the seeds."""
    means = [fmean(it[name]) for it in entries]
    return f"{min(means):.1f} to {max(means):.1f}"


def ordered(recorded: Sequence[Entry]) -> list[Entry]:
    """By what was said, and the fastest first."""
    said = [*COLOURS]

    def order(entry: Entry) -> tuple[int, float]:
        steps = entry["first_steps"]
        return said.index(entry["outcome"]), inf if steps is None else steps / entry["steps"]

    return sorted(recorded, key=order)


def trained(entry: Entry) -> str:
    """Data, network and method."""
    strength = f", {entry['strength']:g}" if entry["strength"] else ""
    return f"{entry['dataset']}, {entry['network']}: {entry['about']}{strength}"


def share_of_run(entry: Entry) -> str:
    """Steps to vanish, in percent of those of the run."""
    if entry["first_steps"] is None:
        return "late" if entry["outcome"] == LATE else "never"
    return f"{100 * entry['first_steps'] / entry['steps']:.0f}"


def silence(entry: Entry) -> str:
    """When a unit has to have fallen silent, to be gone at the end."""
    return "-" if entry["silent_by"] is None else f"{silent_at(entry):.0f}"


def silent_at(entry: Entry) -> float:
    """The same as a number: percent of the run, or `NEVER`."""
    last = entry["silent_by"]
    return NEVER if last is None else 100 * float(last) / float(entry["steps"])


def gone_of(shares: Sequence[float]) -> str:
    """Mean over the seeds, and the ends."""
    if len(shares) == 1:
        return f"{shares[0]:.1f} (one seed)"
    return f"{fmean(shares):.1f} ({min(shares):.1f}-{max(shares):.1f})"


def draw(recorded: Sequence[Entry], out: Path) -> None:
    """Units gone against when they have to fall silent: an SVG, the same each time."""
    import matplotlib as mpl  # noqa: PLC0415 - only where a picture is asked for
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context({"svg.hashsalt": "abscise", "svg.fonttype": "none", "font.size": 11}):
        figure = Figure(figsize=(8.4, 4.6), layout="constrained")
        axes = figure.add_subplot()
        for said, colour in COLOURS.items():
            chosen = [it for it in recorded if it["outcome"] == said]
            if not chosen:
                continue
            means = [fmean(it["gone"]) for it in chosen]
            below = [mean - min(it["gone"]) for mean, it in zip(means, chosen, strict=True)]
            above = [max(it["gone"]) - mean for mean, it in zip(means, chosen, strict=True)]
            _ = axes.errorbar(
                [silent_at(it) for it in chosen],
                means,
                yerr=[below, above],
                fmt="o",
                color=colour,
                capsize=3,
                label=said,
            )
        axes.set_xlim(NEVER - 6, 102)
        places = range(0, 101, 10)
        axes.set_xticks([NEVER, *places], ["late\nor never", *map(str, places)])
        _ = axes.axvline(50, color="#bbbbbb", linewidth=1, zorder=0)
        axes.set_xlabel("foretold: when units must be silent to be gone at the end, % of the run")
        axes.set_ylabel("units below 0.001 at the end, %")
        _ = axes.legend(title="what the doctor said", frameon=False, loc="upper left")
        axes.spines[["top", "right"]].set_visible(b=False)
        figure.savefig(out, format="svg", metadata={"Date": None})
