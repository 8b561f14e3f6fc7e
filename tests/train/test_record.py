"""Recorded runs: whole lines, every field, null where unknown."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from abscise._errors import StoreError
from abscise.train import Run, fit, load_recipe, record_run, run_of
from abscise.train._record import run_fields

RUN = Run(
    experiment="e", method="m", dataset="d", network="n", seed=0, recipe={"a": [1]}, device="cpu"
)
FIELDS = {
    *("experiment", "method", "dataset", "network", "seed", "error_percent", "parameters"),
    *("nonzero", "compression", "units", "units_removed", "macs", "bytes_on_disk", "wall_s"),
    *("device", "versions", "commit", "recipe"),
}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_holds_every_field_and_null_where_nothing_is_known(tmp_path: Path) -> None:
    path = tmp_path / "results" / "e.jsonl"
    record_run(path, RUN)
    (line,) = lines(path)
    assert set(line) >= FIELDS
    assert set(line) == set(run_fields())
    assert line["macs"] is None
    assert line["compression"] is None
    assert line["recipe"] == {"a": [1]}
    assert line["versions"]["torch"]


def test_runs_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    for seed in range(3):
        record_run(path, replace(RUN, seed=seed))
    assert [line["seed"] for line in lines(path)] == [0, 1, 2]


def test_compression_is_dense_over_nonzero(tmp_path: Path) -> None:
    record_run(tmp_path / "e.jsonl", replace(RUN, parameters=30, nonzero=20))
    assert lines(tmp_path / "e.jsonl")[0]["compression"] == 1.5
    assert replace(RUN, parameters=30, nonzero=0).compression is None


def test_a_training_is_recorded_with_its_recipe(tmp_path: Path) -> None:
    changes = {"widths": [2, 2], "hidden": [4], "epochs": 1, "batch_size": 400}
    trained = fit(load_recipe("digits-adam-l2", changes))
    record_run(tmp_path / "e.jsonl", run_of(trained, "demo"))
    (line,) = lines(tmp_path / "e.jsonl")
    assert line["experiment"] == "demo"
    assert line["network"] == "ConvNet"
    assert line["error_percent"] == pytest.approx(100 - 100 * trained.test_accuracy)
    assert line["parameters"] == sum(w.numel() for w in trained.model.parameters())
    assert load_recipe("digits-adam-l2", line["recipe"]) == trained.recipe


def test_nan_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="error_percent must be finite, got nan"):
        record_run(tmp_path / "e.jsonl", replace(RUN, error_percent=float("nan")))
    assert not (tmp_path / "e.jsonl").exists()


def test_a_folder_in_the_way_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"cannot append to {tmp_path}: Is a directory"):
        record_run(tmp_path, RUN)


def test_a_full_disk_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "e.jsonl"
    record_run(path, RUN)
    before = path.read_bytes()
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, line: write(descriptor, line[:10]))
    with pytest.raises(StoreError, match="no space for a whole line"):
        record_run(path, RUN)
    assert path.read_bytes() == before
