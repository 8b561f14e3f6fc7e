"""Numbers and verdicts in words, the same in the text and on the page."""

import re

from abscise._certificate import Certificate
from abscise.report._data import Comparison, Predictions, RemovalSummary, Report, total

UNKNOWN = "-"
# A reason ends with "(file.py:12 the source line)"; a table has room for the place only.
_LINE_OF_CODE = re.compile(r"\((\S+:\d+) (.*)\)$")
_EXPONENT = re.compile(r"(?<=\d)e([+-]\d+)\b")
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def verdict(report: Report) -> str:
    """One sentence: how much is gone, and whether anything changed."""
    gone, free = report.removal.removed_units, report.removal.free_units
    if gone == 0:
        return f"Nothing was removed: none of the {free:,} units that may go is dead."
    return f"{gone:,} of {free:,} units are gone, {_effect(report.certificate, report.predictions)}"


def _effect(certificate: Certificate | None, seen: Predictions | None) -> str:
    if certificate is None:
        return "and nobody has compared the outputs."
    if not certificate.passed:
        unsure = "and it could not be shown that the outputs are the same."
        return unsure if certificate.inconclusive else "but the outputs are not the same."
    if seen is None:
        return "and the outputs are the same."
    changed = f"{seen.changed:,} of {seen.examples:,} predictions changed."
    return f"and {changed if seen.changed else f'all {seen.examples:,} predictions are the same.'}"


def status(certificate: Certificate) -> str:
    """The verdict in capitals."""
    if certificate.inconclusive:
        return "INCONCLUSIVE"
    return "PASSED" if certificate.passed else "NOT EQUAL"


def removed_line(removal: RemovalSummary) -> str:
    """How much of what may go goes, what was counted twice, and what a snap would add."""
    free = removal.free_units
    share = 100 * removal.removed_units / max(free, 1)
    line = (
        f"removed: {removal.removed_units:,} of {free:,} units that are not pinned ({share:.1f} %)"
    )
    if total(removal.layers).units != removal.units:
        line += f"; layers that write the same units count them each, there are {removal.units:,}"
    if removal.near_dead:
        line += f"; {removal.near_dead:,} more are nearly dead: see snap_ (compact --snap 1e-3)"
    return line


def selected_line(removal: RemovalSummary) -> str:
    """How many layers read a part of their inputs only."""
    count = removal.selecting_layers
    layers = "1 layer reads" if count == 1 else f"{count:,} layers read"
    return f"{layers} a selection of the inputs: {removal.dropped_inputs:,} more are cut there"


def conditions_line(removal: RemovalSummary) -> str:
    """For which batches the plan holds."""
    return f"holds where {' and '.join(removal.conditions)}"


def shown_value(quantity: str, value: float | None) -> str:
    """A cell of the before/after table."""
    if value is None:
        return UNKNOWN
    if quantity == "accuracy":
        return percent(value, 2)
    return seconds(value) if quantity == "latency_s" else f"{value:,.0f}"


def shown_change(row: Comparison, times: str) -> str:
    """Dense / compacted, or for the accuracy the difference in points; `times` is the sign."""
    if row.dense is None or row.compacted is None:
        return UNKNOWN
    if row.quantity == "accuracy":
        return f"{100 * (row.compacted - row.dense):+.2f}"
    return UNKNOWN if row.ratio is None else f"{row.ratio:,.2f}{times}"


def percent(share: float, digits: int = 0) -> str:
    """A share in 0..1; never rounded to a whole that it is not.

    Example:
        >>> percent(0.9999), percent(0.0001), percent(0.66)
        ('> 99 %', '< 1 %', '66 %')
    """
    shown = f"{100 * share:.{digits}f}"
    step = f"{10.0**-digits:.{digits}f}"
    if share > 0 and float(shown) == 0:
        return f"< {step} %"
    if share < 1 and float(shown) == 100:
        return f"> {100 - float(step):.{digits}f} %"
    return f"{shown} %"


def seconds(value: float) -> str:
    """A duration with three digits in the unit that fits.

    Example:
        >>> seconds(0.0353), seconds(0.00012), seconds(12.34), seconds(5000)
        ('35.3 ms', '120 µs', '12.3 s', '5,000 s')
    """
    if value >= 1000:
        return f"{value:,.0f} s"
    if value >= 1:
        return f"{value:.3g} s"
    return f"{1000 * value:.3g} ms" if value >= 0.001 else f"{1e6 * value:.3g} µs"


def size(count: float) -> str:
    """Bytes in the unit that fits, decimal as on disks.

    Example:
        >>> size(198724), size(2543936), size(12)
        ('199 kB', '2.54 MB', '12 B')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def times(ratio: float) -> str:
    """A ratio with the digits that matter.

    Example:
        >>> times(12.85), times(2.891), times(24000.2)
        ('12.8×', '2.9×', '24,000×')
    """
    return f"{ratio:.1f}×" if ratio < 100 else f"{ratio:,.0f}×"


def small(value: float) -> str:
    """Two digits, with a power of ten that is read as one.

    Example:
        >>> small(7.546e-7), small(0.303), small(0.0)
        ('7.5×10⁻⁷', '0.3', '0')
    """
    return powers(f"{value:.2g}")


def powers(sentence: str) -> str:
    """`sentence` with 1×10⁻⁷ for 1e-07."""

    def raised(found: re.Match[str]) -> str:
        return "×10" + str(int(found[1])).translate(_SUPERSCRIPT)

    return _EXPONENT.sub(raised, sentence)


def place_only(reason: str) -> str:
    """A reason without the source line, which a narrow table has no room for."""
    return _LINE_OF_CODE.sub(r"(\1)", reason)


def parts_of(reason: str) -> tuple[str, str, str]:
    """(sentence, place in the source, source line); the last two may be empty."""
    found = _LINE_OF_CODE.search(reason)
    if found is None:
        return reason, "", ""
    return reason[: found.start()].rstrip(), found[1], found[2]
