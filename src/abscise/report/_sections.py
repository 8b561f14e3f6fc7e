"""What the page's sections say, as texts in order; a section without data is empty."""

from collections.abc import Callable
from dataclasses import dataclass

from abscise._certificate import Certificate
from abscise._measure import Measurement
from abscise.report._data import Comparison, Report, reasons
from abscise.report._words import (
    UNKNOWN,
    parts_of,
    percent,
    powers,
    seconds,
    shown_change,
    shown_value,
    size,
    small,
    status,
    times,
)

DRAWN_LAYERS = 400
DRAWN_PANELS = 48
LISTED_ROWS = 1000
"""More would make a page that browsers are slow to show; the whole is in report.json."""
_NOISY = 0.5
_NONE_THERE = "no subnormals"


@dataclass(frozen=True, slots=True)
class Tile:
    """One big number; `state` is "good", "bad" or "" and colours it."""

    label: str
    value: str
    detail: str
    state: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One row of the before/after table; `share` is compacted / dense, where that is drawn."""

    label: str
    dense: str
    compacted: str
    change: str
    share: float | None = None


@dataclass(frozen=True, slots=True)
class Reason:
    """Why units stay; `who` is how many, or which layer."""

    who: str
    why: str
    place: str
    code: str


@dataclass(frozen=True, slots=True)
class Fact:
    """A term and what is to be said about it."""

    term: str
    words: str


def tiles(report: Report) -> tuple[Tile, ...]:
    """The numbers that a reader should see first; at most four."""
    removal, seen = report.removal, report.predictions
    gone = percent(removal.removed_units / max(removal.free_units, 1))
    found = [
        Tile("units removed", f"{removal.removed_units:,}", f"{gone} of {removal.free_units:,}")
    ]
    if report.dense is not None and report.compacted is not None:
        found.append(_smaller(report.dense, report.compacted))
    if seen is not None:
        of = f"of {seen.examples:,} examples"
        state = "good" if seen.changed == 0 else ""
        found.append(Tile("predictions changed", f"{seen.changed:,}", of, state))
    if report.certificate is not None:
        found.append(_proof(report.certificate))
    return tuple(found)


def _smaller(dense: Measurement, compacted: Measurement) -> Tile:
    before, after = dense.parameters, compacted.parameters
    fewer = times(before / after) if after else UNKNOWN
    return Tile("fewer parameters", fewer, f"{before:,} → {after:,}")


def _proof(certificate: Certificate) -> Tile:
    state = "good" if certificate.passed else "bad"
    return Tile("certificate", status(certificate).capitalize(), certificate.inputs, state)


def changes(report: Report) -> tuple[Change, ...]:
    """The before/after table: only what was looked at."""
    known = [row for row in report.comparisons() if (row.dense, row.compacted) != (None, None)]
    return tuple(map(_change, known))


def _change(row: Comparison) -> Change:
    labels = {
        "nonzero": "nonzero parameters",
        "MACs": "multiply-accumulates",
        "bytes": "saved size",
        "bytes on disk": "file of weights",
        "latency_s": "time of one forward",
        "accuracy": "accuracy on the test set",
    }
    dense, compacted = (shown_value(row.quantity, value) for value in (row.dense, row.compacted))
    of_files = row.quantity in {"bytes", "bytes on disk"}
    if of_files and row.dense is not None and row.compacted is not None:
        dense, compacted = size(row.dense), size(row.compacted)
    drawn = row.dense and row.compacted is not None and row.quantity != "accuracy"
    share = row.compacted / row.dense if drawn and row.dense and row.compacted else None
    return Change(
        label=labels.get(row.quantity, row.quantity),
        dense=dense,
        compacted=compacted,
        change=shown_change(row, "×") + (" points" if row.quantity == "accuracy" else ""),
        share=None if share is None else min(share, 1.0),
    )


def pins(report: Report) -> tuple[Reason, ...]:
    """Why units may not be removed, the most frequent reason first."""
    return tuple(
        Reason(f"{count:,}", *parts_of(why)) for count, why in reasons(report.removal.pinned)
    )


def held(report: Report) -> tuple[Reason, ...]:
    """Why units stay that are dead and not pinned, layer by layer."""
    return tuple(
        Reason(row.layer, *parts_of(why))
        for row in report.layers
        for why in row.reasons
        if why not in report.removal.pinned
    )


def proof(certificate: Certificate) -> tuple[Fact, ...]:
    """What was compared, how different it was, and that a wrong removal would have been seen."""
    shapes = ", ".join("×".join(map(str, shape)) for shape in certificate.shapes)
    facts = [Fact("compared on", f"{certificate.inputs}; shapes {shapes}; {certificate.dtype}")]
    if certificate.max_abs_diff is not None and certificate.max_rel_diff is not None:
        words = f"{small(certificate.max_rel_diff)} of the outputs’ spread"
        words += f" ({small(certificate.max_abs_diff)} in absolute terms)"
        if certificate.float64_rel_diff is not None:
            words += f"; in float64 {small(certificate.float64_rel_diff)} of it"
        facts.append(Fact("largest difference", words))
    if certificate.tolerance is not None:
        words = f"{small(certificate.tolerance)} of the spread; {certificate.tolerance_from}"
        facts.append(Fact("tolerance", words.removesuffix("; ")))
    facts += _planted(certificate)
    if certificate.predictions_equal is not None:
        same = "the same for every sample" if certificate.predictions_equal else "not all the same"
        facts.append(Fact("predicted class", same))
    return tuple(facts)


def _planted(certificate: Certificate) -> list[Fact]:
    planted = certificate.planted_error
    if planted is None:
        return []
    words = (
        f"live slices of the compacted model were wrongly set to 0 ({', '.join(planted.slices)}): "
        f"the outputs moved by {small(planted.smallest)} to {small(planted.largest)} of their "
        "spread"
    )
    if certificate.tolerance:
        words += f", at least {times(planted.smallest / certificate.tolerance)} the tolerance"
    return [Fact("planted errors", words)]


def latency(report: Report) -> tuple[tuple[str, str, str], ...]:
    """Rows of (what, dense, compacted)."""
    if report.dense is None or report.compacted is None or report.dense.latency_s is None:
        return ()
    both = (report.dense, report.compacted)
    rows = (
        ("median", *_each([it.latency_s for it in both], seconds)),
        ("distance of the quartiles / median", *_each([it.latency_spread for it in both], percent)),
        ("median, subnormals taken as 0", _flushed(report.dense), _flushed(report.compacted)),
    )
    return tuple(row for row in rows if row[1] != row[2] or row[1] not in {UNKNOWN, _NONE_THERE})


def _each(values: list[float | None], shown: Callable[[float], str]) -> tuple[str, str]:
    before, after = (UNKNOWN if value is None else shown(value) for value in values)
    return before, after


def _flushed(measured: Measurement) -> str:
    if measured.latency_flushed_s is not None:
        return seconds(measured.latency_flushed_s)
    return UNKNOWN if measured.subnormal else _NONE_THERE


def latency_note(report: Report) -> str:
    """Under which conditions the times were taken, and how far to trust them."""
    if report.dense is None or report.compacted is None:
        return ""
    threads = f"{report.dense.threads:,} thread{'s' * (report.dense.threads != 1)}"
    note = f"One forward of {report.dense.batch:,} samples on {threads}."
    spreads = [report.dense.latency_spread or 0.0, report.compacted.latency_spread or 0.0]
    if max(spreads) > _NOISY:
        note += " The machine was busy: the quartiles are far apart, so the ratio says little."
    return note


def counting(report: Report) -> str:
    """How many samples the table speaks of, and what its multiply-accumulates leave out."""
    if report.dense is None or report.compacted is None:
        return ""
    batch = report.dense.batch
    note = f"Multiply-accumulates and time are for {batch:,} sample{'s' * (batch != 1)} at once."
    uncounted = sorted({*report.dense.macs_uncounted, *report.compacted.macs_uncounted})
    return note + (f" Not counted: {', '.join(uncounted)}." if uncounted else "")


def pinned_only(report: Report) -> bool:
    """Is there a layer whose kept units are all pinned, which is drawn in grey?"""
    return any(row.units - row.removed == row.pinned > 0 for row in report.layers)


def surroundings(report: Report) -> tuple[Fact, ...]:
    """Device, versions, commit and day."""
    here = report.environment
    if here is None:
        return ()
    facts = [
        Fact("device", here.device),
        Fact("threads", f"{here.threads:,}"),
        Fact("versions", ", ".join(f"{name} {it}" for name, it in sorted(here.versions.items()))),
    ]
    if here.commit is not None:
        facts.append(Fact("commit", here.commit))
    return (*facts, Fact("date", here.date))


def course(report: Report) -> str:
    """One sentence on how the dense model was trained."""
    how = report.training
    if how is None:
        return ""
    steps = f", {how.points[-1].step:,} steps" if how.points else ""
    recipe = f"recipe {how.recipe}, seed {how.seed}{steps}, {seconds(how.wall_s)}"
    return powers(f"{how.network} on {how.dataset}, {how.method}, {recipe}.")


def rate_drops(report: Report) -> str:
    """One sentence on where the learning rate dropped; empty where it did not."""
    drops = () if report.training is None else report.training.drops()
    if not drops:
        return ""
    shown = [f"{before:.2g} to {after:.2g} by step {step:,}" for step, before, after in drops[:4]]
    more = f", and {len(drops) - 4:,} times more" if len(drops) > 4 else ""
    return powers(f"Dashed lines: the learning rate drops from {', from '.join(shown)}{more}.")


def left_out(count: int, most: int, what: str) -> str:
    """One sentence on the rows after the first `most`; empty where all are there.

    Example:
        >>> left_out(1200, 400, "drawn")
        'The last 800 of 1,200 layers are not drawn; report.json has them.'
    """
    if count <= most:
        return ""
    return f"The last {count - most:,} of {count:,} layers are not {what}; report.json has them."
