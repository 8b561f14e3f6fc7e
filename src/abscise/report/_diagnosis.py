"""The printed form of a diagnosis: the verdict, the numbers, and what to change."""

import math

from rich.console import Group, RenderableType
from rich.text import Text

from abscise.implicit import Diagnosis, Fate, Part
from abscise.report._blocks import Blocks
from abscise.report._words import UNKNOWN

_LATE = "late"


def diagnosis_view(diagnosis: Diagnosis) -> RenderableType:
    """Verdict, a table that fits 60 columns, and lines."""
    threshold = f"{diagnosis.threshold:g}"
    cells = [_steps(part, diagnosis) for part in diagnosis.parts]
    late = f"; {_LATE}: after the run" if any(it.endswith(_LATE) for it in cells) else ""
    lines: list[RenderableType] = [
        Text(diagnosis.verdict),
        Text(),
        parts_table(diagnosis),
        Text(f"steps: until below {threshold}, once the data gradient is gone;"),
        Text(f"of layers, the first to get there and the last{late}"),
        Text("noise: how far it keeps a living weight from zero"),
        Text("share: of a weight, what one step takes at most (a*lam/eps)"),
    ]
    for title, found in (
        ("What matters:", diagnosis.findings),
        ("For more dead units:", diagnosis.more),
        ("For fewer:", diagnosis.less),
    ):
        if found:
            lines += [Text(), Text(title), *(Text(f"* {line}") for line in found)]
    return Group(*lines)


def parts_table(diagnosis: Diagnosis) -> Blocks:
    """One row per parameter group and kind of parameter."""
    header = ("group", "numbers", "size", "lam", "share", "steps", "noise")
    rows = [
        (
            f"{part.group} {part.kind}",
            f"{part.numbers:,}",
            _short(part.start),
            _short(part.strength),
            _short(part.ceiling),
            _steps(part, diagnosis),
            _short(part.noise_floor),
        )
        for part in diagnosis.parts
    ]
    return Blocks(header, rows, ruled=True)


def _steps(part: Part, diagnosis: Diagnosis) -> str:
    steps = part.steps_at_least if part.steps is None else part.steps
    if steps is None:
        return UNKNOWN
    known = [it.soonest for it in part.layers if (it.steps is None) == (part.steps is None)]
    last = max(known, default=steps)
    if diagnosis.scheduled and math.isinf(last):
        return _late(part, steps)
    first, final = _thousands(steps), _thousands(last)
    shown = _count(steps) if first == final else f"{first}-{final}"
    return f">{shown}" if part.steps is None and not math.isinf(steps) else shown


def _late(part: Part, first: float) -> str:
    """Where the run ends before the last layer, or before all of them, gets there."""
    if math.isinf(first):
        return _LATE if part.fate in {Fate.DIES_LATER, Fate.DEPENDS} else _count(first)
    return f">{_count(first)}" if part.steps is None else f"{_thousands(first)}-{_LATE}"


def _count(steps: float) -> str:
    if math.isinf(steps):
        return "never"
    return f"{steps:,.0f}" if steps < 1e6 else _short(steps)


def _thousands(steps: float) -> str:
    """Shorter, for two of them in one cell."""
    if 10_000 <= steps < 999_500:
        return f"{steps / 1e3:.0f}k"
    return f"{steps / 1e6:.1f}M" if 999_500 <= steps < 1e9 else _count(steps)


def _short(value: float | None) -> str:
    if value is None or math.isinf(value):
        return UNKNOWN
    return f"{value:.2g}".replace("e-0", "e-").replace("e+0", "e+")
