"""Whether data and network of a recipe belong together."""

from collections.abc import Sequence

import torch

from abscise._errors import DataError, RecipeError
from abscise.train._data import Data, check_inputs
from abscise.train._names import Augment, ModelName
from abscise.train._parts import Attachment, reshapes
from abscise.train._recipe import Recipe
from abscise.train._recipe_data import facts_of


def check_fit(recipe: Recipe, data: Data) -> None:
    """The data is the recipe's, suits the network, and is enough for one batch.

    Raises:
        DataError: It does not.
    """
    where = f"recipe {recipe.name}"
    about = facts_of(recipe)
    shape, found = about.shape, tuple(data.train.inputs.shape[1:])
    if data.name != recipe.data:
        message = f"{where}: wants the data set {recipe.data}, got {data.name}"
        raise DataError(message)
    rule = _rule(recipe.model, shape)
    if rule is not None:
        message = f"{where}: {recipe.model} reads {rule}, {recipe.data} has {list(shape)}: use mlp"
        raise DataError(message)
    if found != shape:
        message = f"{where}: {recipe.data} has examples of {list(shape)}, got {list(found)}"
        raise DataError(message)
    if recipe.augment is not Augment.NONE and len(shape) != 3:
        message = f"{where}: augment {recipe.augment} needs images, {recipe.data} has {list(shape)}"
        raise DataError(message)
    if len(data.train) < recipe.batch_size:
        message = f"{where}: batch_size {recipe.batch_size} exceeds the {len(data.train)} examples"
        raise DataError(message)
    # The test part was checked where it was read: here nothing looks at it.
    for name, part in (("train", data.train), ("validation", data.validation)):
        check_inputs(part, f"{where}: data {recipe.data}, part {name}")


def _rule(model: str, shape: tuple[int, ...]) -> str | None:
    """What the network reads, if `shape` is something else; None if it fits."""
    images = len(shape) == 3
    square = images and shape[1] == shape[2]
    small = (images and shape[1:] == (32, 32), "32x32 images")
    rules: dict[str, tuple[bool, str]] = {
        ModelName.BASICNET: (square and shape[2] >= 16, "square images of 16 pixels or more"),
        ModelName.CONV: (square and shape[2] % 4 == 0, "images of side 4n"),
        ModelName.DEEPMNIST: (shape == (1, 28, 28), "grey 28x28 images"),
        ModelName.LENET300: (torch.Size(shape).numel() == 784, "28x28 images"),
        ModelName.LENET5: (shape == (1, 28, 28), "grey 28x28 images"),
        ModelName.RESNET20: (images, "images"),
        ModelName.RESNET56: (images, "images"),
        ModelName.VGG11: small,
        ModelName.VGG16: small,
    }
    fits, text = rules.get(model, (True, ""))
    return None if fits else text


def check_attachments(recipe: Recipe, attached: Sequence[Attachment]) -> None:
    """Compiled code is made for the shapes that the parameters have.

    Raises:
        RecipeError: The recipe compiles, and an attachment changes shapes.
    """
    if recipe.compile and any(map(reshapes, attached)):
        message = (
            f"recipe {recipe.name}: compile must be false where parameters shrink while training"
        )
        raise RecipeError(message)
