"""Activations change what a network computes, and neither its weights nor their names."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import relu

import abscise
from abscise._errors import RecipeError
from abscise.train import Activation, BasicNet, LeNet5, LeNet300, build_model, recipe_from
from abscise.train._activations import activation_of

NETWORKS = {"lenet300": (1, 28, 28), "lenet5": (1, 28, 28), "basicnet": (3, 32, 32)}
OTHERS = [it.value for it in Activation if it is not Activation.RELU]


def network(name: str, activation: str | None = None) -> nn.Module:
    args: dict[str, object] = {} if activation is None else {"activation": activation}
    if name == "basicnet":
        args["width"] = 0.125
    data = "cifar10" if name == "basicnet" else "mnist"
    recipe = {"name": "made", "data": data, "model": name, "model_args": args}
    torch.manual_seed(0)
    return build_model(recipe_from(recipe | {"epochs": 1, "batch_size": 10})).eval()


def examples(name: str) -> Tensor:
    return torch.randn(16, *NETWORKS[name], generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_default_is_relu_bit_for_bit(name: str) -> None:
    x = examples(name)
    assert torch.equal(network(name)(x), network(name, "relu")(x))
    assert not torch.equal(network(name)(x), network(name, "tanh")(x))


def test_lenet300_computes_what_its_docstring_says() -> None:
    model, x = network("lenet300"), examples("lenet300")
    assert isinstance(model, LeNet300)
    hidden = relu(model.fc2(relu(model.fc1(x.flatten(1)))))
    assert torch.equal(model(x), model.fc3(hidden))
    assert not torch.equal(model(x), model.fc3(relu(hidden - 1)))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("activation", OTHERS)
def test_another_activation_has_the_same_weights_under_the_same_names(
    name: str, activation: str
) -> None:
    one, other = network(name).state_dict(), network(name, activation).state_dict()
    assert list(one) == list(other)
    assert all(torch.equal(one[key], other[key]) for key in one)
    x = examples(name)
    assert not torch.equal(network(name)(x), network(name, activation)(x))


def test_the_names_of_the_weights_are_those_of_checkpoints_of_old() -> None:
    layers = {"fc1", "fc2", "fc3"}
    assert {key.partition(".")[0] for key in LeNet300().state_dict()} == layers
    assert {key.partition(".")[0] for key in LeNet5().state_dict()} == {"conv1", "conv2"} | (
        layers - {"fc3"}
    )
    names = BasicNet(width=0.125).state_dict()
    assert {key.split(".")[2] for key in names if key.startswith("features.")} == {"conv", "norm"}


@pytest.mark.parametrize("activation", list(Activation))
def test_a_unit_without_incoming_weights_is_removed_behind_every_activation(
    activation: Activation,
) -> None:
    model, x = network("lenet300", activation), examples("lenet300")
    with torch.no_grad():
        model.get_parameter("fc1.weight")[:5] = 0.0
    made = abscise.compact(model, x)
    assert made.certificate.passed
    assert made.plan.removed_units == 5


def test_an_activation_that_does_not_exist_is_refused_in_one_line() -> None:
    with pytest.raises(RecipeError, match="relu, leaky-relu, elu, gelu, tanh, got 'rleu'") as no:
        _ = network("lenet300", "rleu")
    assert "\n" not in str(no.value)
    assert type(activation_of("elu")) is nn.ELU


@pytest.mark.parametrize("wrong", ["leaky-relu:", "leaky-relu:x", "leaky-relu:0", "leaky-relu:1"])
def test_a_slope_that_is_none_is_refused_in_one_line(wrong: str) -> None:
    with pytest.raises(RecipeError, match=f"number between 0 and 1, got '{wrong}'") as no:
        _ = network("lenet300", wrong)
    assert "\n" not in str(no.value)


def test_only_leaky_relu_takes_a_slope() -> None:
    with pytest.raises(RecipeError, match=r"activation must be one of .*, got 'elu:0.1'"):
        _ = network("lenet300", "elu:0.1")
    made = activation_of("leaky-relu:0.25")
    assert isinstance(made, nn.LeakyReLU)
    assert made.negative_slope == 0.25
