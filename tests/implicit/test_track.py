"""A tracker's file is read back as what was noted; anything else is refused with its line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import Adam

from abscise._errors import StoreError
from abscise.implicit import (
    Activity,
    JsonLines,
    LayerActivity,
    Look,
    Record,
    Sink,
    Track,
    Tracker,
    read_track,
    track_of,
)
from abscise.implicit._firing import CURVE
from support.effort import examples

X = torch.randn(12, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(12) % 3


def tracked(path: Path) -> Track:
    """What a short training left in memory; the same is in the file `path`."""
    with torch.random.fork_rng():
        _ = torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 3))
    optimizer = Adam(model.parameters(), weight_decay=0.1)
    seen: list[Record | Activity] = []
    look = Look([(X, LABELS)], every=2, labelled=True)
    sinks: list[Sink] = [JsonLines(path), seen.append]
    with Tracker(model, X, optimizer, every=1, look=look, sinks=sinks):
        for _ in range(4):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(X), LABELS).backward()
            _ = optimizer.step()
    return track_of(seen)


def test_what_is_written_is_read_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "units.jsonl"
    track = tracked(path)
    assert read_track(path) == track
    assert ([it.step for it in track.weights], [it.step for it in track.activity]) == (
        [1, 2, 3, 4],
        [2, 4],
    )
    lines = path.read_text().splitlines()
    changed = json.loads(lines[0])
    changed["layers"][0]["revived"] = 1
    _ = path.write_text("\n".join([json.dumps(changed), *lines[1:]]))
    assert read_track(path) != track


Change = Callable[[list[Any]], object]
BAD: dict[str, tuple[Change, str]] = {
    "other version": (lambda c: c[1].update(format=9), "line 2: format must be 1, got 9"),
    "unknown kind": (lambda c: c[0].update(kind="x"), "line 1: kind must be weights or activity"),
    "missing field": (lambda c: c[3].pop("step"), "line 4: missing fields ['step']"),
    "not an object": (lambda c: c.insert(1, [1]), "line 2: kind must be"),
    "more dead than units": (
        lambda c: c[0]["layers"][0]["dead"].update({"0.001": 99}),
        "line 1: layers[0]: dead: 0.001 must be an integer from 0 to 9",
    ),
    "no count below 1e-3": (
        lambda c: c[0]["layers"][0]["dead"].pop("0.001"),
        "of which one is below 0.001",
    ),
    "a threshold that is none": (
        lambda c: c[0]["layers"][0]["dead"].update({"nan": 0}),
        "thresholds > 0 (not 'nan')",
    ),
    "bins that do not add up": (
        lambda c: c[0]["layers"][0]["histogram"].append(1),
        "histogram must be 15 counts of 9 units",
    ),
    "a curve that falls": (
        lambda c: c[2]["layers"][0].update(curve=[0.5] * 8 + [0.1]),
        "line 3: layers[0]: curve must be rising",
    ),
    "a curve of other units": (
        lambda c: c[2]["layers"][0].update(curve=[0.5]),
        "curve must be a list of 9 items",
    ),
    "a mean where nothing fires": (
        lambda c: c[2]["layers"][0].update(silent=9),
        "selectivity must be null where all units are silent",
    ),
    "steps that fall": (
        lambda c: c.append(c[0]),
        "line 7: step must be more than 4, got 1: a file holds one run",
    ),
    "two trackers in one file": (lambda c: c.insert(1, c[0]), "line 2: step must be more than 1"),
    "no layers": (lambda c: c[0]["layers"].clear(), "layers must be at least one layer, and each"),
    "a layer twice": (lambda c: c[0]["layers"].append(c[0]["layers"][0]), "and each once, got a"),
    "a pass over no layers": (lambda c: c[2]["layers"].clear(), "line 3: layers must be at least"),
    "nothing": (lambda c: c.clear(), "holds no record"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_line_is_refused_by_its_number(name: str, tmp_path: Path) -> None:
    change, words = BAD[name]
    path = tmp_path / "units.jsonl"
    _ = tracked(path)
    lines: list[Any] = [json.loads(line) for line in path.read_text().splitlines()]
    _ = change(lines)
    _ = path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(StoreError) as found:
        _ = read_track(path)
    assert words in str(found.value)
    assert str(path) in str(found.value)
    assert "\n" not in str(found.value)


def test_a_cut_off_line_a_missing_file_and_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "units.jsonl"
    _ = tracked(path)
    _ = path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StoreError, match="line 6: not valid JSON"):
        _ = read_track(path)
    _ = path.write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(StoreError, match="line 1: not valid JSON"):
        _ = read_track(path)
    with pytest.raises(StoreError, match=r"cannot read .*No such file"):
        _ = read_track(tmp_path / "none.jsonl")
    with pytest.raises(StoreError, match=r"cannot read .*directory"):
        _ = read_track(tmp_path)


def test_a_second_run_does_not_go_into_the_file_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "units.jsonl"
    _ = tracked(path)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="holds an earlier run: name another file"):
        _ = tracked(path)
    assert path.read_bytes() == before


@examples(40)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=300))
def test_the_curve_is_the_sorted_selectivities_or_evenly_chosen_ones(quiet: list[int]) -> None:
    shares = torch.tensor(quiet) / 50
    layer = LayerActivity("a", torch.ones(len(quiet)), shares, None)
    (found,) = Activity((layer,), 50, 0.1).summary().layers
    ordered = [round(float(it), 4) for it in shares.sort().values]
    assert (found.curve[0], found.curve[-1]) == (ordered[0], ordered[-1])
    if len(quiet) <= CURVE:
        assert list(found.curve) == ordered
    else:
        assert len(found.curve) == CURVE
        assert set(found.curve) <= set(ordered)
        middle = sorted(found.curve)[CURVE // 2]
        assert ordered[len(quiet) // 2 - 2] <= middle <= ordered[len(quiet) // 2 + 2]
