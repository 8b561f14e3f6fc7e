"""The networks that come with the package: their sizes, and that removal fits them."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

import abscise
from abscise._errors import DataError, RecipeError
from abscise.train import (
    MLP,
    VGG,
    BasicNet,
    ConvNet,
    DeepMnist,
    LeNet5,
    LeNet300,
    ResNet,
    data_for,
    recipe_from,
)
from abscise.train import build_model as build
from abscise.train._fitting import check_fit


def conv(read: int, written: int, side: int = 3) -> int:
    """Weights of a convolution without bias."""
    return read * written * side**2


def linear(read: int, written: int) -> int:
    return read * written + written


def chain(sizes: list[int]) -> int:
    """Weights of 3x3 convolutions in a row, with their batch norms; the first size is read only."""
    return sum(conv(a, b) + 2 * b for a, b in pairwise(sizes))


def resnet(blocks: int, *, projection: bool = False) -> int:
    stages = [[16] * (2 * blocks + 1), [16, *[32] * (2 * blocks)], [32, *[64] * (2 * blocks)]]
    shortcuts = 16 * 32 + 32 * 64 + 2 * (32 + 64) if projection else 0
    return chain([3, 16]) + sum(map(chain, stages)) + shortcuts + linear(64, 10)


VGG11 = [3, 64, 128, 256, 256, 512, 512, 512, 512]
VGG16 = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
BASIC = [64, 128, 128, 256, 256, 512, 512]
COUNTS: dict[str, tuple[nn.Module, int, int]] = {
    # network, its closed form, the number in its docstring or paper
    "lenet300": (LeNet300(), linear(784, 300) + linear(300, 100) + linear(100, 10), 266_610),
    "lenet5": (
        LeNet5(),
        conv(1, 20, 5) + 20 + conv(20, 50, 5) + 50 + linear(800, 500) + linear(500, 10),
        431_080,
    ),
    "deepmnist": (
        DeepMnist(),
        conv(1, 32, 5) + 32 + conv(32, 64, 5) + 64 + linear(3136, 1024) + linear(1024, 10),
        3_274_634,
    ),
    "conv": (
        ConvNet((64, 128, 256), 256),
        chain([1, 64, 128, 256]) + linear(256 * 4, 256) + linear(256, 10),
        635_082,
    ),
    "mlp": (MLP(16, (256, 128), 10), linear(16, 256) + linear(256, 128) + linear(128, 10), 38_538),
    "basicnet": (
        BasicNet(),
        conv(3, 64, 5) + 2 * 64 + chain(BASIC) + linear(2048, 256) + linear(256, 10),
        5_180_490,
    ),
    "vgg11": (VGG(11), chain(VGG11) + linear(512, 10), 9_228_362),
    "vgg16": (VGG(16), chain(VGG16) + linear(512, 10), 14_724_042),
    "resnet20": (ResNet(20), resnet(3), 269_722),
    "resnet56": (ResNet(56), resnet(9), 853_018),
    "resnet20, projection": (ResNet(20, projection=True), resnet(3, projection=True), 272_474),
}


@pytest.mark.parametrize("name", COUNTS)
def test_a_network_has_as_many_parameters_as_its_source_says(name: str) -> None:
    model, closed, said = COUNTS[name]
    assert sum(weight.numel() for weight in model.parameters()) == closed == said


def test_basicnet_pools_four_times_and_says_so_of_images_that_are_too_small() -> None:
    for side, left in ((16, 1), (28, 1), (32, 2), (64, 4)):
        assert BasicNet(side=side, width=1 / 16).hidden.in_features == 32 * left**2
    with pytest.raises(ValueError, match="at least 16 pixels a side: it pools four times, got 8"):
        _ = BasicNet(side=8)
    recipe = {"name": "made", "data": "digits", "model": "basicnet", "epochs": 1, "batch_size": 10}
    with pytest.raises(RecipeError, match="at least 16 pixels"):
        _ = build(recipe_from(recipe))
    with pytest.raises(DataError, match="basicnet reads square images of 16 pixels or more"):
        check_fit(recipe_from(recipe), data_for(recipe_from(recipe)))


def test_basicnet_has_the_filters_and_weights_of_the_paper() -> None:
    convolutions = [m for m in BasicNet().modules() if isinstance(m, nn.Conv2d)]
    assert sum(m.out_channels for m in convolutions) == 1856
    assert sum(m.weight.numel() for m in convolutions) == 4_649_664


SMALL: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "lenet300": (LeNet300(), (1, 28, 28)),
    "lenet5": (LeNet5(), (1, 28, 28)),
    "deepmnist": (DeepMnist(), (1, 28, 28)),
    "conv": (ConvNet((8, 8), 16), (1, 8, 8)),
    "mlp": (MLP(16, (12, 8), 10), (16,)),
    "basicnet": (BasicNet(width=1 / 16), (3, 32, 32)),
    "basicnet of digits": (BasicNet(1, side=28, width=1 / 16), (1, 28, 28)),
    "vgg11": (VGG(11, width=1 / 16), (3, 32, 32)),
    "vgg16": (VGG(16, width=1 / 16), (3, 32, 32)),
    "resnet20": (ResNet(20, width=0.25), (3, 16, 16)),
    "resnet56": (ResNet(56, width=0.25), (3, 16, 16)),
    "resnet20, projection": (ResNet(20, width=0.25, projection=True), (3, 16, 16)),
}

DEEP = ("vgg16", "resnet56", "resnet20, projection")


def plant(model: nn.Module) -> None:
    """Kill the first unit of every norm, or of every hidden layer where there is none."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)][:-1]
    with torch.no_grad():
        for module in norms or layers:
            assert module.weight is not None
            module.weight[0] = 0
            assert isinstance(module.bias, nn.Parameter)
            module.bias[0] = -0.1


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.thorough if name in DEEP else ()) for name in SMALL],
)
def test_dead_units_of_every_network_are_removed_with_a_passed_certificate(name: str) -> None:
    model, shape = SMALL[name]
    x = torch.randn(16, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():  # the norms learn their statistics, so that the outputs depend on x
        for _ in range(20):
            _ = model.train()(x)
    plant(model.eval())
    result = abscise.compact(model, x)
    assert result.certificate.passed
    assert result.plan.removed_units >= 1
    assert result.model(x).shape == (16, 10)


@pytest.mark.parametrize(
    ("make", "text"),
    [(lambda: VGG(13), "depth must be one of"), (lambda: ResNet(21), "depth must be 6 n")],
)
def test_a_depth_that_does_not_exist_is_refused(make: object, text: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=text):
        make()


OWN = {
    "name": "own",
    "data": "./set",
    "shape": [3, 32, 32],
    "classes": 7,
    "epochs": 1,
    "batch_size": 1,
}


@pytest.mark.parametrize("name", ["basicnet", "vgg11", "vgg16", "resnet20", "resnet56"])
def test_a_recipe_gives_channels_classes_and_arguments_to_the_network(name: str) -> None:
    model = build(recipe_from(OWN | {"model": name, "model_args": {"width": 0.125}}))
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    assert sum(w.numel() for w in model.parameters()) < 300_000


def own(size: int = 3) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, size), nn.ReLU(), nn.Linear(size, 7))


def not_a_module() -> float:
    return math.pi


def test_the_users_own_network_gets_its_arguments() -> None:
    model = build(recipe_from(OWN | {"model": f"{__name__}:own", "model_args": {"size": 5}}))
    assert model.get_submodule("1").weight.shape == (5, 3072)


@pytest.mark.parametrize(
    ("model", "arguments", "text"),
    [
        (f"{__name__}:gone", {}, "AttributeError"),
        ("no_such_module:net", {}, "ModuleNotFoundError"),
        (f"{__name__}:not_a_module", {}, "must give a torch.nn.Module, got float"),
        (f"{__name__}:OWN", {}, "must be a class or function, got dict"),
        (f"{__name__}:own", {"sise": 5}, "unexpected keyword argument 'sise'"),
        ("vgg11", {"depht": 5}, "unexpected keyword argument 'depht'"),
        (":own", {}, "must be named package.module:callable"),
    ],
)
def test_a_network_that_cannot_be_made_is_refused_in_one_line(
    model: str, arguments: dict[str, object], text: str
) -> None:
    recipe = recipe_from(OWN | {"model": model, "model_args": arguments})
    with pytest.raises(RecipeError, match=text) as refused:
        _ = build(recipe)
    assert "\n" not in str(refused.value)
