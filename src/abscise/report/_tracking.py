"""What a tracker noted, arranged for the pictures: a row per layer, a course per evidence."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from abscise.implicit import DEAD, LayerRecord, Track

Course = tuple[tuple[int, int, int], ...]
"""Step, dead units, all units, in order of time; units that were removed count as dead."""


@dataclass(frozen=True, slots=True)
class TrackedLayer:
    """One row: a layer, the norm right behind it, and what its units do behind the ReLU.

    Args:
        layer: Its name; a norm that follows no layer of its size has a row of its own.
        gamma: Units whose scale is below 1e-3; empty where there is no norm.
        weights: Units all of whose incoming weights are below 1e-3.
        silent: Units that fire for no sample; empty where nobody looked.
    """

    layer: str
    gamma: Course = ()
    weights: Course = ()
    silent: Course = ()


def tracked_layers(track: Track) -> tuple[TrackedLayer, ...]:
    """The rows, in the order in which the layers run."""
    rows: dict[str, TrackedLayer] = {}
    previous: LayerRecord | None = None
    for layer in track.weights[-1].layers if track.weights else ():
        course = _dead_course(track, layer.layer)
        if not layer.scaled:
            rows[layer.layer] = TrackedLayer(layer.layer, weights=course)
        elif previous is not None and not previous.scaled and previous.units == layer.units:
            rows[previous.layer] = replace(rows[previous.layer], gamma=course)
        else:
            rows[layer.layer] = TrackedLayer(layer.layer, gamma=course)
        previous = layer
    for active in track.activity[-1].layers if track.activity else ():
        row = rows.get(active.layer, TrackedLayer(active.layer))
        rows[active.layer] = replace(row, silent=_silent_course(track, active.layer))
    return tuple(rows.values())


def ratio_layers(track: Track) -> tuple[str, ...]:
    """Layers of which two records or more know the gradient over the decay."""
    known: dict[str, int] = {}
    for record in track.weights:
        for layer in record.layers:
            known[layer.layer] = known.get(layer.layer, 0) + bool(layer.gradient_to_decay)
    return tuple(name for name, count in known.items() if count > 1)


def gone(track: Track) -> tuple[str, ...]:
    """Layers that are dead as a whole at the end, by weights or by activation."""
    found = track.weights[-1].gone if track.weights else ()
    return tuple(dict.fromkeys([*found, *(track.activity[-1].gone if track.activity else ())]))


def revived(track: Track) -> Mapping[str, int]:
    """Layer -> how often a unit of it came back, over the whole training."""
    found: dict[str, int] = {}
    for record in track.weights:
        for layer in record.layers:
            found[layer.layer] = found.get(layer.layer, 0) + layer.revived
    return found


def first_rows(track: Track, most: int) -> Track:
    """`track` with the first `most` layers of every record."""
    return Track(
        tuple(replace(it, layers=it.layers[:most]) for it in track.weights),
        tuple(replace(it, layers=it.layers[:most]) for it in track.activity),
    )


def _dead_course(track: Track, name: str) -> Course:
    return _course(
        [
            (record.step, layer.dead[DEAD], layer.units)
            for record in track.weights
            for layer in record.layers
            if layer.layer == name
        ]
    )


def _silent_course(track: Track, name: str) -> Course:
    return _course(
        [
            (firing.step, layer.silent, layer.units)
            for firing in track.activity
            for layer in firing.layers
            if layer.layer == name
        ]
    )


def _course(seen: list[tuple[int, int, int]]) -> Course:
    most = max((units for _, _, units in seen), default=0)
    return tuple((step, dead + most - units, most) for step, dead, units in seen)
