"""What the page says of a tracker: its figures, drawn wide and narrow, and its sentences."""

from dataclasses import dataclass

from abscise.implicit import Track
from abscise.report import _sections
from abscise.report._tracking import first_rows, gone, ratio_layers, revived, tracked_layers
from abscise.report._words import UNKNOWN, seconds, small


@dataclass(frozen=True, slots=True)
class WeightsRow:
    """One layer by its weights at the end; `dead` is a count for each of the thresholds."""

    layer: str
    by: str
    units: int
    dead: tuple[int, ...]
    revived: int
    ratio: str


@dataclass(frozen=True, slots=True)
class FiringRow:
    """One layer by what its units did in the last pass over data."""

    layer: str
    units: int
    silent: int
    selectivity: str
    of_one_class: str


def tracking_figures(track: Track, widths: tuple[int, int]) -> dict[str, list[str]]:
    """Name -> the wide and the narrow drawing; a figure without data is left out."""
    from abscise.report import figures  # noqa: PLC0415  needs optional packages

    found: dict[str, list[str]] = {}
    rows = tracked_layers(first_rows(track, _sections.DRAWN_LAYERS))
    if rows:
        found["evidence"] = [figures.draw_evidence(rows, width) for width in widths]
    few = _sections.DRAWN_PANELS
    if track.weights:
        sizes = track.weights[-1].layers[:few]
        found["sizes"] = [figures.draw_sizes(sizes, width) for width in widths]
    if track.activity:
        active = track.activity[-1].layers[:few]
        found["selectivity"] = [figures.draw_selectivity(active, width) for width in widths]
    ratios = ratio_layers(track)[:few]
    if ratios:
        found["ratios"] = [figures.draw_ratios(track, ratios, width) for width in widths]
    return found


def thresholds(track: Track) -> tuple[float, ...]:
    """Of the table of weights, the largest first."""
    layers = track.weights[-1].layers if track.weights else ()
    return tuple(sorted({it for layer in layers for it in layer.dead}, reverse=True))


def weights_rows(track: Track) -> tuple[WeightsRow, ...]:
    """The table of weights: all layers at the end of the training."""
    back, columns = revived(track), thresholds(track)
    return tuple(
        WeightsRow(
            layer=it.layer,
            by="gamma" if it.scaled else "weights",
            units=it.units,
            dead=tuple(it.dead.get(threshold, 0) for threshold in columns),
            revived=back[it.layer],
            ratio=UNKNOWN if it.gradient_to_decay is None else small(it.gradient_to_decay),
        )
        for it in (track.weights[-1].layers if track.weights else ())
    )


def firing_rows(track: Track) -> tuple[FiringRow, ...]:
    """The table of the last pass over data."""
    return tuple(
        FiringRow(
            layer=it.layer,
            units=it.units,
            silent=it.silent,
            selectivity=UNKNOWN if it.selectivity is None else f"{it.selectivity:.3f}",
            of_one_class=UNKNOWN if it.of_one_class is None else f"{sum(it.of_one_class):,}",
        )
        for it in (track.activity[-1].layers if track.activity else ())
    )


def came_back(track: Track) -> str:
    """One sentence on units that were dead and are not."""
    count = sum(revived(track).values())
    if not track.weights:
        return ""
    if not count:
        return "No unit that was below 0.001 came back."
    times = "1 time" if count == 1 else f"{count:,} times"
    return f"{times} a unit that was below 0.001 came back."


def whole_layers(track: Track) -> str:
    """One sentence on layers that are dead as a whole; empty where there is none."""
    found = gone(track)
    if not found:
        return ""
    more = f" and {len(found) - 5:,} more" if len(found) > 5 else ""
    return f"Dead as a whole: {', '.join(found[:5])}{more}."


def cost(track: Track) -> str:
    """One sentence on the passes over data; empty where there was none."""
    if not track.activity:
        return ""
    count, last = len(track.activity), track.activity[-1]
    passes = "One look at all" if count == 1 else f"{count:,} looks at all"
    took = seconds(sum(it.wall_s for it in track.activity))
    return f"{passes} {last.samples:,} samples took {took}{' together' * (count > 1)}."
