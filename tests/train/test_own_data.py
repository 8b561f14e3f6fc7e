"""Data of the user's own: hub names, folders of tables or images, and functions."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from abscise._errors import DataError, RecipeError
from abscise.train import Data, Recipe, Split, data_for, fit, load_data, load_recipe, recipe_from

TABLE: dict[str, Any] = {
    "name": "own",
    "shape": [3],
    "classes": 2,
    "model": "mlp",
    "hidden": [4],
    "epochs": 2,
    "batch_size": 4,
}
IMAGES = TABLE | {"shape": [3, 8, 8], "augment": "crop-flip"}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.delenv("ABSCISE_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


def rows(count: int = 20) -> dict[str, list[Any]]:
    features = {name: [at * index for index in range(count)] for at, name in enumerate("abc", 1)}
    return features | {"label": [index % 2 for index in range(count)]}


def write(folder: Path, kind: str, columns: dict[str, list[Any]]) -> None:
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        table = datasets.Dataset.from_dict(columns)
        _ = getattr(table, f"to_{kind}")(str(folder / f"{split}.{kind}"))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_folder_of_tables_is_read_with_every_column_but_the_label(
    kind: str, tmp_path: Path
) -> None:
    write(tmp_path / "set", kind, rows())
    data = data_for(recipe_from(TABLE | {"data": "./set"}))
    assert (len(data.train), len(data.validation), len(data.test)) == (18, 2, 20)
    assert data.train.inputs.shape == (18, 3)
    # c = 3 a, so standardised both are the same
    assert torch.allclose(data.test.inputs[:, 0], data.test.inputs[:, 2], atol=1e-6)
    assert data.test.labels.tolist() == rows()["label"]


def test_columns_and_label_are_the_recipes(tmp_path: Path) -> None:
    columns = rows()
    columns["y"] = columns.pop("label")
    write(tmp_path / "set", "parquet", columns)
    chosen = {"data": "./set", "inputs": ["c", "a"], "label": "y", "shape": [2], "validation": 5}
    data = data_for(recipe_from(TABLE | chosen))
    assert data.train.inputs.shape == (15, 2)
    assert len(data.validation) == 5


def test_a_hub_name_is_looked_for_below_the_data_root(tmp_path: Path) -> None:
    write(tmp_path / "root" / "me" / "mine", "parquet", rows())
    recipe = recipe_from(TABLE | {"data": "me/mine"})
    data = data_for(recipe, tmp_path / "root")
    assert data.name == "me/mine"
    assert fit(recipe, data=data).data is data


def picture(folder: Path, index: int, side: int = 8) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(index).integers(0, 255, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / f"{index}.png")


def pictures(root: Path) -> None:
    for split in ("train", "test"):
        for index in range(20):
            picture(root / split / ("cat" if index % 2 else "dog"), index)


def test_a_folder_of_images_has_its_sub_folders_as_classes_and_can_be_learned(
    tmp_path: Path,
) -> None:
    pictures(tmp_path / "animals")
    recipe = recipe_from(IMAGES | {"data": "./animals"})
    data = data_for(recipe)
    assert data.train.inputs.shape == (18, 3, 8, 8)
    assert sorted(data.test.labels.tolist()) == [0] * 10 + [1] * 10
    assert len(fit(recipe, data=data).history) == 1


def test_images_of_different_sizes_are_refused_with_the_sizes(tmp_path: Path) -> None:
    pictures(tmp_path / "animals")
    picture(tmp_path / "animals" / "train" / "cat", 99, side=6)
    with pytest.raises(DataError, match=r"images of different sizes \(6x6x3, 8x8x3\)"):
        _ = data_for(recipe_from(IMAGES | {"data": "./animals"}))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"inputs": ["a", "z"]}, r"no column 'z', it has \['a', 'b', 'c', 'label'\]"),
        ({"label": "y"}, r"no column 'y', it has \['a', 'b', 'c', 'label'\]"),
        ({"shape": [4]}, r"must have the shape \[4\], got \[3\]"),
        ({"data": "./gone"}, "no folder gone, which the recipe names as its data"),
        ({"validation": 20}, r"20 of 20 training examples cannot be held out"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused_in_one_line(
    changes: dict[str, Any], text: str, tmp_path: Path
) -> None:
    write(tmp_path / "set", "parquet", rows())
    with pytest.raises(DataError, match=text) as refused:
        _ = data_for(recipe_from(TABLE | {"data": "./set"} | changes))
    assert "\n" not in str(refused.value)


def test_a_label_out_of_range_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "set", "parquet", rows() | {"label": [2] * 20})
    with pytest.raises(DataError, match=r"labels must be in 0\.\.1, got 2\.\.2"):
        _ = data_for(recipe_from(TABLE | {"data": "./set"}))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_a_row_that_is_not_finite_is_refused_by_its_number(value: float, tmp_path: Path) -> None:
    columns = rows()
    columns["b"] = [float(entry) for entry in columns["b"]]
    columns["b"][11] = value
    write(tmp_path / "set", "parquet", columns)
    with pytest.raises(DataError, match=r"split train: inputs must be finite, .* row 11 are not"):
        _ = data_for(recipe_from(TABLE | {"data": "./set"}))


def test_a_broken_table_is_refused_with_what_is_wrong_and_no_word_of_a_network(
    tmp_path: Path,
) -> None:
    for split in ("train", "test"):
        path = tmp_path / "set" / f"{split}.csv"
        path.parent.mkdir(exist_ok=True)
        _ = path.write_text("a,b,label\n1,2,0\n1,2,3,4,5\n")
    with pytest.raises(DataError, match=r"ParserError: .*Expected 3 fields in line 3") as refused:
        _ = data_for(recipe_from(TABLE | {"data": "./set"}))
    assert "network" not in str(refused.value)


def make(count: int = 8, label: int = 1, width: int = 3) -> Data:
    part = Split(torch.randn(count, width), torch.full((count,), label))
    return Data("whatever", 2, part, part, part)


def no_data() -> int:
    return 3


def test_a_function_makes_the_data_from_its_arguments() -> None:
    recipe = recipe_from(TABLE | {"data": f"{__name__}:make", "data_args": {"count": 12}})
    data = data_for(recipe)
    assert (data.name, len(data.train)) == (f"{__name__}:make", 12)
    assert fit(recipe).history[-1].accuracy == 1.0  # there is one class only


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"data_args": {"label": 2}}, r"part train: labels must be in 0\.\.1, got 2\.\.2"),
        ({"data_args": {"width": 4}}, r"floats of shape \[3\], got \[4\] of torch.float32"),
        ({"data_args": {"sise": 4}}, "unexpected keyword argument 'sise'"),
        ({"data": f"{__name__}:no_data"}, "must give abscise.train.Data, got int"),
    ],
)
def test_a_function_that_gives_something_else_is_refused_in_one_line(
    changes: dict[str, Any], text: str
) -> None:
    with pytest.raises(DataError, match=text) as refused:
        _ = data_for(recipe_from(TABLE | {"data": f"{__name__}:make"} | changes))
    assert "\n" not in str(refused.value)


def test_a_function_that_cannot_be_imported_is_the_recipes_mistake() -> None:
    with pytest.raises(RecipeError, match="recipe own: data no_such:f: ModuleNotFoundError"):
        _ = data_for(recipe_from(TABLE | {"data": "no_such:f"}))


def test_a_limit_keeps_the_classes_in_proportion_and_the_other_parts_whole() -> None:
    recipe = load_recipe("digits-adam-l2", {"limit": 100})
    data, whole = data_for(recipe), load_data("digits")
    assert (len(data.train), len(data.validation), len(data.test)) == (100, 180, 360)
    assert torch.bincount(data.train.labels).sub(10).abs().max() <= 1
    assert torch.equal(data.test.inputs, whole.test.inputs)


def test_a_limit_holds_for_data_that_is_given_to_fit() -> None:
    small = {"limit": 64, "epochs": 1, "widths": [2, 2], "hidden": [4]}
    recipe = load_recipe("digits-adam-l2", small)
    assert len(fit(recipe, data=load_data("digits")).data.train) == 64


def test_a_known_set_holds_out_as_many_as_the_recipe_says() -> None:
    data = data_for(load_recipe("digits-adam-l2", {"validation": 300}))
    assert (len(data.train), len(data.validation)) == (1437 - 300, 300)


def test_cifar100_is_read_by_its_fine_labels(tmp_path: Path) -> None:
    count = 5010
    image = Image.new("RGB", (32, 32), color=(3, 2, 1))
    folder = tmp_path / "uoft-cs" / "cifar100"
    columns: dict[str, list[Any]] = {
        "img": [image] * count,
        "fine_label": [index % 100 for index in range(count)],
        "coarse_label": [0] * count,
    }
    write(folder, "parquet", columns)
    data = load_data("cifar100", tmp_path)
    assert data.classes == 100
    assert int(data.test.labels.max()) == 99


MISFITS: dict[str, tuple[dict[str, Any], str]] = {
    "no shape": ({"shape": []}, r"shape must be the sizes of one example of \./set, got \[\]"),
    "two sizes": ({"shape": [8, 8]}, "shape must be one or three sizes"),
    "one class": ({"classes": 1}, "classes must be the number of classes of ./set, got 1"),
    "two columns of images": ({"shape": [3, 8, 8], "inputs": ["a", "b"]}, "one column for images"),
    "known set": ({"data": "digits"}, "shape must be left out, as digits is a known set"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_recipe_that_says_too_little_about_its_data_is_refused(case: str) -> None:
    changes, text = MISFITS[case]
    with pytest.raises(RecipeError, match=text):
        _ = recipe_from(TABLE | {"data": "./set"} | changes)


def test_augmentation_needs_images() -> None:
    recipe: Recipe = recipe_from(TABLE | {"data": f"{__name__}:make", "augment": "flip"})
    with pytest.raises(DataError, match=r"augment flip needs images, .* has \[3\]"):
        _ = fit(recipe)


def test_data_of_another_shape_than_the_recipe_says_is_refused() -> None:
    recipe = recipe_from(TABLE | {"data": f"{__name__}:make"})
    given = replace(make(width=5), name=recipe.data)
    with pytest.raises(DataError, match=r"has examples of \[3\], got \[5\]"):
        _ = fit(recipe, data=given)
