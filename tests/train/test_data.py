"""Data: the digits, the split, and repositories with the hub's layout, good and broken."""

import builtins
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from abscise._errors import DataError, MissingExtraError
from abscise.train import Data, DataName, Split, load_data, stratified_split
from abscise.train import _datasets as catalogue


@pytest.fixture(autouse=True)
def _cache_in_a_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.delenv("ABSCISE_DATA", raising=False)


def rows(data: Data) -> list[set[bytes]]:
    parts = (data.train, data.validation, data.test)
    return [{row.numpy().tobytes() for row in part.inputs} for part in parts]


def test_digits_are_split_without_overlap_and_standardised() -> None:
    data = load_data("digits")
    parts = (data.train, data.validation, data.test)
    assert [len(part) for part in parts] == [1257, 180, 360]
    assert data.train.inputs.shape == (1257, 1, 8, 8)
    assert data.train.inputs.dtype == torch.float32
    assert data.train.labels.dtype == torch.int64
    train, validation, test = rows(data)
    # Each image is in one part only: as many different rows as rows, so no overlap went unseen.
    assert len(train | validation | test) == len(train) + len(validation) + len(test) == 1797
    assert abs(float(data.train.inputs.mean())) < 1e-5
    assert abs(float(data.train.inputs.std()) - 1) < 1e-3


def test_every_part_of_the_digits_has_the_classes_in_proportion() -> None:
    data = load_data(DataName.DIGITS)
    parts = (data.train, data.validation, data.test)
    counts = np.array([np.bincount(part.labels.numpy(), minlength=10) for part in parts])
    shares = counts.sum(axis=0) / 1797
    for count in counts:
        assert np.abs(count - shares * count.sum()).max() <= 2


def test_the_split_is_the_same_whatever_the_global_generators_hold() -> None:
    _ = torch.manual_seed(1)
    one = load_data("digits")
    _ = torch.manual_seed(2)
    two = load_data("digits")
    assert torch.equal(one.validation.inputs, two.validation.inputs)
    assert torch.equal(one.test.labels, two.test.labels)


@given(
    labels=st.lists(st.integers(0, 4), min_size=2, max_size=200),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32),
)
def test_a_stratified_split_is_disjoint_complete_and_in_proportion(
    labels: list[int], share: float, seed: int
) -> None:
    count = min(max(1, int(share * len(labels))), len(labels) - 1)
    values = np.array(labels)
    rest, held = stratified_split(values, count, seed)
    assert len(held) == count
    assert sorted([*rest.tolist(), *held.tolist()]) == list(range(len(labels)))
    for label in set(labels):
        wanted = count * labels.count(label) / len(labels)
        assert abs(int((values[held] == label).sum()) - wanted) <= 1


@pytest.mark.parametrize("count", [0, -1, 4, 5])
def test_a_split_that_leaves_a_part_empty_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=r"held_out must be in 1\.\.3"):
        _ = stratified_split(np.zeros(4, dtype=np.int64), count)


def shrink(monkeypatch: pytest.MonkeyPatch, name: DataName, validation: int) -> None:
    """Let the data set `name` hold out fewer examples, so that made data can be small."""
    about = catalogue.facts(name)
    smaller = catalogue.DataFacts(
        about.shape, about.classes, validation, about.repository, about.columns, about.scale
    )
    monkeypatch.setattr("abscise.train._data.facts", lambda _name: smaller)


def write(folder: Path, columns: dict[str, list[Any]], *, splits: tuple[str, ...]) -> None:
    folder.mkdir(parents=True)
    for split in splits:
        made = datasets.Dataset.from_dict(columns)
        _ = made.to_parquet(str(folder / f"{split}-00000-of-00001.parquet"))


def grey(count: int, side: int = 28) -> list[Image.Image]:
    return [Image.new("L", (side, side), color=10 * index % 256) for index in range(count)]


def test_mnist_is_read_from_a_folder_with_the_layout_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "ylecun" / "mnist" / "mnist"
    columns: dict[str, list[Any]] = {
        "image": grey(20),
        "label": [index % 10 for index in range(20)],
    }
    write(folder, columns, splits=("train", "test"))
    shrink(monkeypatch, DataName.MNIST, 4)
    monkeypatch.setenv("ABSCISE_DATA", str(tmp_path))
    data = load_data("mnist")
    assert data.train.inputs.shape == (16, 1, 28, 28)
    assert data.validation.inputs.shape == (4, 1, 28, 28)
    assert data.test.labels.tolist() == columns["label"]
    # Standardised by the training part: the darkest image is lowest, the steps are equal.
    steps = data.test.inputs[:, 0, 0, 0].diff()
    assert torch.allclose(steps, steps[0].expand(19), atol=1e-5)
    assert not datasets.are_progress_bars_disabled()


def test_colour_images_become_channels_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    red = [Image.new("RGB", (32, 32), color=(20 * index, 0, 7)) for index in range(10)]
    columns: dict[str, list[Any]] = {"img": red, "label": list(range(10))}
    write(tmp_path / "uoft-cs" / "cifar10" / "plain_text", columns, splits=("train", "test"))
    shrink(monkeypatch, DataName.CIFAR10, 2)
    data = load_data("cifar10", tmp_path)
    assert data.test.inputs.shape == (10, 3, 32, 32)
    assert float(data.test.inputs[:, 0].std()) > 0.5
    assert float(data.test.inputs[:, 1:].abs().max()) < 1e-6  # never varies: stays 0, not NaN


def test_a_table_becomes_one_feature_per_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns: dict[str, list[Any]] = {f"f{i:02d}": list(range(i, i + 10)) for i in range(16)}
    columns["label"] = list(range(10))
    write(tmp_path / "uci" / "pendigits", columns, splits=("train", "test"))
    shrink(monkeypatch, DataName.PENDIGITS, 2)
    assert load_data("pendigits", tmp_path).train.inputs.shape == (8, 16)


BROKEN: dict[str, tuple[dict[str, list[Any]], tuple[str, ...], str]] = {
    "a split is missing": ({"image": grey(6), "label": [0] * 6}, ("train",), "no split 'test'"),
    "the images are missing": ({"label": [0] * 6}, ("train", "test"), "no column 'image'"),
    "the labels are missing": ({"image": grey(6)}, ("train", "test"), "no column 'label'"),
    "a label is too high": (
        {"image": grey(6), "label": [0, 1, 2, 3, 4, 10]},
        ("train", "test"),
        r"labels must be in 0\.\.9, got 0\.\.10",
    ),
    "a label is negative": (
        {"image": grey(6), "label": [0, 1, 2, 3, 4, -1]},
        ("train", "test"),
        r"labels must be in 0\.\.9, got -1\.\.4",
    ),
    "labels are text": (
        {"image": grey(6), "label": list("abcdef")},
        ("train", "test"),
        "labels must be integers",
    ),
    "the images are too large": (
        {"image": grey(6, side=29), "label": [0] * 6},
        ("train", "test"),
        r"must have the shape \[1, 28, 28\], got \[1, 29, 29\]",
    ),
    "the images differ in size": (
        {"image": [*grey(5), *grey(1, side=20)], "label": [0] * 6},
        ("train", "test"),
        r"must have the shape \[1, 28, 28\]",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_repository_that_does_not_fit_is_refused(case: str, tmp_path: Path) -> None:
    columns, splits, text = BROKEN[case]
    write(tmp_path / "ylecun" / "mnist", columns, splits=splits)
    with pytest.raises(DataError, match=text):
        _ = load_data("mnist", tmp_path)


def test_a_missing_folder_is_named_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder .*ylecun.*ABSCISE_DATA"):
        _ = load_data("mnist", tmp_path)


def test_without_a_folder_the_hub_is_asked_and_its_failure_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def offline(source: str) -> None:
        asked.append(source)
        message = "no network\nand a second line"
        raise ConnectionError(message)

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(DataError, match=r"mnist \(ConnectionError: no network\); .* ABSCISE_DATA"):
        _ = load_data("mnist")
    assert asked == ["ylecun/mnist"]


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "ylecun" / "mnist"
    write(folder, {"image": grey(6), "label": [0] * 6}, splits=("train", "test"))
    file = folder / "test-00000-of-00001.parquet"
    _ = file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match="cannot read the data set"):
        _ = load_data("mnist", tmp_path)


def test_an_unknown_data_set_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(DataError, match=r"no data set 'fashon_mnist' \(did you mean fashion_mnist"):
        _ = load_data("fashon_mnist")


@pytest.mark.parametrize(("name", "package"), [("digits", "sklearn"), ("mnist", "datasets")])
def test_a_missing_extra_is_answered_with_its_pip_command(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [key for key in sys.modules if key.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    imported = builtins.__import__

    def refuse(wanted: str, *arguments: Any, **options: Any) -> Any:
        if wanted.split(".", maxsplit=1)[0] == package:
            raise ModuleNotFoundError(wanted)
        return imported(wanted, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'abscise\[train\]'"):
        _ = load_data(name)


def test_a_split_moves_with_its_labels() -> None:
    split = Split(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64))
    moved = split.to(torch.device("meta"))
    assert moved.inputs.is_meta
    assert moved.labels.is_meta
    assert len(moved) == 3
