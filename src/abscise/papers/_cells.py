"""Cells of tables: what is said of the runs of one method, one per seed, in every experiment."""

from collections.abc import Callable, Sequence
from statistics import mean

from abscise.papers._finished import Finished
from abscise.papers._points import Range

Runs = Sequence[Finished]
Count = Callable[[Finished], int | None]
UNKNOWN = "-"


def share_left(runs: Runs, left: Count, of: Count) -> float | None:
    """What is left in percent of the dense network's, the mean; None where it is not known."""
    pairs = [(left(run), of(run)) for run in runs]
    shares = [100 * one / whole for one, whole in pairs if one is not None and whole]
    return mean(shares) if len(shares) == len(pairs) else None


def weights_left(runs: Runs) -> float | None:
    """Parameters that are not 0, in percent of the dense network's."""
    return share_left(runs, lambda run: run.nonzero, lambda run: run.parameters)


def macs_left(runs: Runs) -> float | None:
    """Multiply-accumulates, in percent of the dense network's."""
    return share_left(runs, lambda run: run.macs, lambda run: run.dense_macs)


def percent(share: float | None) -> str:
    """A share with its sign; a dash where it is not known."""
    return UNKNOWN if share is None else f"{share:.1f} %"


def kilobytes(runs: Runs) -> str:
    """Mean size of the compacted weights' file."""
    known = [run.bytes_on_disk for run in runs if run.bytes_on_disk is not None]
    return f"{mean(known) / 1000:,.1f}" if len(known) == len(runs) else UNKNOWN


def certificates(runs: Runs) -> str:
    """How many have one that passed."""
    return f"{sum(run.certified for run in runs)} of {len(runs)}"


def ends(found: Range, form: str = ".2f") -> str:
    """The least and the largest value."""
    return f"{found[0]:{form}}-{found[1]:{form}}"


def mean_of(values: Sequence[float]) -> str:
    """The mean, and of several the least and the largest value."""
    least, largest = min(values), max(values)
    return f"{mean(values):.2f}" + (f" ({ends((least, largest))})" if len(values) > 1 else "")
