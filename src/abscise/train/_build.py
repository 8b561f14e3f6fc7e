"""The recipe's network with fresh weights: one that comes with the package, or the user's own."""

from collections.abc import Callable

import torch
from torch import nn

from abscise._errors import RecipeError
from abscise._importing import import_callable, one_line
from abscise.train._models import MLP, ConvNet, DeepMnist, LeNet5, LeNet300
from abscise.train._names import ModelName
from abscise.train._recipe import Recipe
from abscise.train._recipe_data import facts_of
from abscise.train._resnet import ResNet
from abscise.train._vgg import VGG, BasicNet


def build_model(recipe: Recipe) -> nn.Module:
    """The recipe's network with fresh weights, on the CPU.

    Raises:
        RecipeError: The user's own callable is not found, fails, or gives no module; or
            `model_args` do not belong to the network.
    """
    where = f"recipe {recipe.name}: model"
    try:
        model = _build(recipe)
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as problem:
        message = f"{where} {recipe.model} with {dict(recipe.model_args)}: {one_line(problem)}"
        raise RecipeError(message) from problem
    if not isinstance(model, nn.Module):
        message = f"{where} {recipe.model} must give a torch.nn.Module, got {type(model).__name__}"
        raise RecipeError(message)
    return model


def _build(recipe: Recipe) -> object:
    about = facts_of(recipe)
    numbers, side = torch.Size(about.shape).numel(), about.shape[-1]
    channels, classes = about.shape[0], about.classes
    given = recipe.model_args
    makers: dict[str, Callable[[], nn.Module]] = {
        ModelName.BASICNET: lambda: BasicNet(channels, classes, side=side, **given),
        ModelName.CONV: lambda: ConvNet(
            recipe.widths, recipe.hidden[0], channels=channels, side=side, classes=classes, **given
        ),
        ModelName.DEEPMNIST: lambda: DeepMnist(**given),
        ModelName.LENET300: lambda: LeNet300(**given),
        ModelName.LENET5: lambda: LeNet5(**given),
        ModelName.MLP: lambda: MLP(numbers, recipe.hidden, classes, **given),
        ModelName.RESNET20: lambda: ResNet(20, channels, classes, **given),
        ModelName.RESNET56: lambda: ResNet(56, channels, classes, **given),
        ModelName.VGG11: lambda: VGG(11, channels, classes, **given),
        ModelName.VGG16: lambda: VGG(16, channels, classes, **given),
    }
    return makers[recipe.model]() if recipe.model in makers else _own(recipe)


def _own(recipe: Recipe) -> object:
    where = f"recipe {recipe.name}: model"
    make = import_callable(recipe.model, where, RecipeError)
    try:
        return make(**recipe.model_args)
    except Exception as problem:
        message = f"{where} {recipe.model} with {dict(recipe.model_args)}: {one_line(problem)}"
        raise RecipeError(message) from problem
