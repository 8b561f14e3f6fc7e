"""The data of a recipe: a known set, a Hugging Face name, a folder, or the user's own function."""

from dataclasses import replace
from pathlib import Path

import torch

from abscise._errors import DataError, RecipeError
from abscise._importing import import_callable, one_line
from abscise.train._data import (
    Data,
    Split,
    check_inputs,
    load_data,
    load_described,
    stratified_split,
)
from abscise.train._datasets import DataFacts, DataName, facts, is_known
from abscise.train._recipe import Recipe

IMAGE_SCALE = 255.0
PARTS = ("train", "validation", "test")


def facts_of(recipe: Recipe) -> DataFacts:
    """What is known about the recipe's data before it is read."""
    if is_known(recipe.data):
        known = facts(DataName(recipe.data))
        return replace(known, validation=recipe.validation or known.validation)
    scale = IMAGE_SCALE if len(recipe.shape) == 3 else 1.0
    return DataFacts(
        recipe.shape,
        recipe.classes,
        recipe.validation,
        recipe.data,
        recipe.inputs,
        scale,
        recipe.label,
        local=_is_folder(recipe.data),
    )


def data_for(recipe: Recipe, root: Path | None = None) -> Data:
    """The recipe's data, read whole; `root` as in `load_data`.

    Raises:
        DataError: It is missing, or is not what the recipe says.
        RecipeError: The function that is to make it cannot be imported.
        MissingExtraError: scikit-learn or `datasets` is not installed.
    """
    if is_known(recipe.data) and not recipe.validation:
        data = load_data(recipe.data, root)
    elif ":" in recipe.data and not _is_folder(recipe.data):
        data = _made(recipe)
    else:
        data = load_described(recipe.data, facts_of(recipe), root)
    for name in PARTS:
        check_inputs(getattr(data, name), f"recipe {recipe.name}: data {recipe.data}, part {name}")
    return limited(data, recipe.limit)


def limited(data: Data, limit: int) -> Data:
    """With at most `limit` training examples, each class in proportion; 0: all of them."""
    if not 0 < limit < len(data.train):
        return data
    _, kept = stratified_split(data.train.labels.cpu().numpy(), limit)
    index = torch.from_numpy(kept).to(data.train.labels.device)
    return replace(data, train=Split(data.train.inputs[index], data.train.labels[index]))


def _is_folder(name: str) -> bool:
    return name.startswith((".", "/", "~")) or Path(name).is_absolute()


def _made(recipe: Recipe) -> Data:
    """What the user's function returns, checked; the name becomes the recipe's."""
    where = f"recipe {recipe.name}: data"
    make = import_callable(recipe.data, where, RecipeError)
    try:
        data = make(**recipe.data_args)
    except Exception as problem:
        message = f"{where} {recipe.data} with {dict(recipe.data_args)}: {one_line(problem)}"
        raise DataError(message) from problem
    if not isinstance(data, Data):
        message = f"{where} {recipe.data} must give abscise.train.Data, got {type(data).__name__}"
        raise DataError(message)
    for name in PARTS:
        _check_part(getattr(data, name), recipe, f"{recipe.data}, part {name}")
    return replace(data, name=recipe.data, classes=recipe.classes)


def _check_part(part: Split, recipe: Recipe, where: str) -> None:
    shape, labels = tuple(part.inputs.shape[1:]), part.labels
    if shape != recipe.shape or not part.inputs.is_floating_point():
        expected, got = list(recipe.shape), f"{list(shape)} of {part.inputs.dtype}"
        message = f"{where}: every example must be floats of shape {expected}, got {got}"
        raise DataError(message)
    if labels.dtype != torch.int64 or labels.shape != part.inputs.shape[:1] or not len(labels):
        got = f"{list(labels.shape)} of {labels.dtype} for {len(part.inputs)} examples"
        message = f"{where}: labels must be int64, one per example, at least one; got {got}"
        raise DataError(message)
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= recipe.classes:
        message = f"{where}: labels must be in 0..{recipe.classes - 1}, got {low}..{high}"
        raise DataError(message)
