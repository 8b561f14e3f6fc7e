"""Where weights come from, and weights that several calls use (re-use, ties, computed weights)."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import Parameter, functional
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.parametrize import register_parametrization
from typing_extensions import override

import abscise
from abscise._errors import ModelError
from support.compacting import check, check_compact, noise
from support.equality import assert_equal, untouched
from support.small import Calls, constant_, conv, flat, net, silent_, unread_

IMAGES = noise(8, 3, 8, 8)
EXAMPLE = noise(2, 3, 8, 8, seed=4)
VECTORS = noise(8, 6)


class Direct(nn.Module):
    """A two-layer perceptron on parameters of its own."""

    def __init__(self, *shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.a = Parameter(noise(*shapes[0]))
        self.b = Parameter(noise(*shapes[1], seed=1))


def test_a_transposed_weight_is_cut_on_its_own_axis() -> None:
    class Transposed(Direct):
        @override
        def forward(self, x: Tensor) -> Tensor:
            return functional.linear(functional.linear(x, self.a.t()).relu(), self.b)

    model = Transposed((6, 5), (2, 5))
    with torch.no_grad():
        model.a[:, 3] = 0
    assert check(model, VECTORS).removed_of("a", 1) == {3}


def test_a_matrix_product_with_a_parameter_is_a_linear_layer() -> None:
    class Product(Direct):
        @override
        def forward(self, x: Tensor) -> Tensor:
            return torch.matmul((x @ self.a).relu(), self.b)

    model = Product((6, 5), (5, 2))
    with torch.no_grad():
        model.b[1] = 0
    checked = check(model, VECTORS)
    assert checked.removed_of("a", 1) == checked.removed_of("b", 0) == {1}


def test_a_fused_weight_that_is_chunked_loses_equal_numbers() -> None:
    class Fused(Direct):
        @override
        def forward(self, x: Tensor) -> Tensor:
            left, right = self.a.chunk(2)
            y = functional.linear(x, left).relu() * functional.linear(x, right).sigmoid()
            return functional.linear(y, self.b)

    model = Fused((8, 6), (2, 4))
    with torch.no_grad():
        model.b[:, 1] = 0
    assert check(model, VECTORS).removed_of("a", 0) == {1, 5}


def test_a_fused_output_that_is_chunked_loses_equal_numbers() -> None:
    def forward(m: Calls, x: Tensor) -> Tensor:
        value, gate = m.a(x).chunk(2, -1)
        result: Tensor = m.b(value * gate.sigmoid())
        return result

    model = flat(forward, a=nn.Linear(6, 8), b=nn.Linear(4, 2))
    unread_(model.b, 2)
    assert check(model, VECTORS).removed("a") == {2, 6}


class Standardised(nn.Conv2d):
    """Every row has mean 0 and variance 1."""

    @override
    def forward(self, input: Tensor) -> Tensor:
        weight = self.weight
        mean = weight.mean((1, 2, 3), keepdim=True)
        std = weight.var((1, 2, 3), keepdim=True).add(1e-5).sqrt()
        return functional.conv2d(input, (weight - mean) / std, self.bias, padding=1)


def test_weight_standardisation_makes_a_zero_column_alive() -> None:
    model = net(lambda m, x: m.b(m.a(x).relu()), a=conv(3, 5), b=Standardised(5, 2, 3))
    unread_(model.b, 1)
    assert check(model, EXAMPLE, IMAGES).removed("a") == set()


def test_rows_of_a_standardised_weight_go() -> None:
    model = net(lambda m, x: m.b(m.a(x).relu()), a=Standardised(3, 5, 3), b=conv(5, 2))
    unread_(model.b, 1)
    with torch.no_grad():
        model.a.weight[3] = 0.25  # its deviations from the mean are 0: what is left is the bias
    checked = check_compact(model, EXAMPLE, IMAGES)
    assert checked.removed("a") == {1, 3}


Norm = Callable[[nn.Module], nn.Module]


def old_weight_norm(module: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return torch.nn.utils.weight_norm(module)


def by_hand(module: nn.Module) -> nn.Module:
    class Unit(nn.Module):
        @override
        def forward(self, weight: Tensor) -> Tensor:
            return 2 * weight / weight.flatten(1).norm(2, 1).reshape(-1, 1, 1, 1)

    register_parametrization(module, "weight", Unit())
    return module


NORMS: dict[str, Norm] = {
    "parametrization": weight_norm,
    "hook": old_weight_norm,
    "by hand": by_hand,
}


@pytest.mark.parametrize("name", NORMS)
def test_rows_and_zero_columns_of_a_normed_weight_go(name: str) -> None:
    model = net(
        lambda m, x: m.c(m.b(m.a(x).relu()).relu()),
        a=conv(3, 5),
        b=NORMS[name](conv(5, 4, 3)),
        c=conv(4, 2),
    )
    silent_(model.a, 0)  # its column still counts in the lengths of the rows
    unread_(model.c, 3)
    own = next(key for key, item in model.b.named_parameters() if item.shape == (4, 5, 3, 3))
    with torch.no_grad():
        model.b.get_parameter(own)[:, 2] = 0
        model.b.get_parameter(own)[3, 4] = 1.0
        model.b.get_parameter(own)[:3, 4] = 0  # its only reader goes
    checked = check_compact(model, EXAMPLE, IMAGES)
    assert checked.removed("a") == {2, 4}
    assert checked.removed("c", 1) == {3}
    layer = checked.model.get_submodule("b")
    assert isinstance(layer, nn.Conv2d)
    assert (layer.in_channels, layer.out_channels) == (3, 3)


def test_a_row_of_length_zero_leaves_its_bias() -> None:
    model = net(lambda m, x: m.b(m.a(x).relu()), a=weight_norm(conv(3, 5)), b=conv(5, 2))
    with torch.no_grad():
        model.a.parametrizations.weight.original0[1] = 0
        model.a.bias[1] = 0.5
    assert check_compact(model, EXAMPLE, IMAGES).removed("b", 1) == {1}
    report = abscise.snap_(model, EXAMPLE, threshold=1e3)
    assert report.layers[0].snapped == 4


def test_one_length_for_all_rows_pins_them() -> None:
    # One norm of all is written as -1.
    model = net(lambda m, x: m.b(m.a(x).relu()), a=weight_norm(conv(3, 5), dim=-1), b=conv(5, 2))
    unread_(model.b, 1)
    assert check(model, EXAMPLE, IMAGES).removed("b", 1) == set()


def test_lengths_of_columns_let_zero_rows_go() -> None:
    model = flat(
        lambda m, x: m.c(m.b(m.a(x).relu()).relu()),
        a=nn.Linear(6, 5),
        b=weight_norm(nn.Linear(5, 4), dim=1),
        c=nn.Linear(4, 2),
    )
    unread_(model.c, 1, 2)
    with torch.no_grad():
        model.b.parametrizations.weight.original1[2] = 0
        model.b.parametrizations.weight.original0[0, 3] = 0
    checked = check(model, VECTORS)
    assert checked.removed("c", 1) == {2}
    assert checked.removed("a") == {3}


def test_masked_weights_take_constants_in_their_bias() -> None:
    model = flat(lambda m, x: m.b(m.a(x).relu()), a=nn.Linear(6, 5), b=nn.Linear(5, 2))
    constant_(model.a, {1: 0.5})
    mask = torch.ones(2, 5, dtype=torch.float64)
    mask[0, 1] = mask[1, 3] = 0
    prune.custom_from_mask(model.b, "weight", mask)
    checked = check(model, VECTORS)
    assert checked.removed("a") == {1}
    assert checked.removed_of("b.weight_mask", 1) == {1}


def twice(first: float, second: float) -> Calls:
    """One reader on two streams whose unit 0 is constant in both."""
    model = flat(
        lambda m, x: m.out(m.read(m.a(x)).relu() + 2 * m.read(m.b(x)).tanh()),
        a=nn.Linear(6, 4),
        b=nn.Linear(6, 4),
        read=nn.Linear(4, 5),
        out=nn.Linear(5, 2),
    )
    constant_(model.a, {0: first})
    constant_(model.b, {0: second})
    return model


def test_a_reader_that_runs_twice_takes_a_constant_that_is_the_same_in_both_runs() -> None:
    checked = check(twice(0.5, 0.5), VECTORS)
    assert checked.removed("a") == checked.removed("b") == {0}


def test_a_reader_that_runs_twice_takes_no_constant_that_differs() -> None:
    checked = check(twice(0.5, 0.7), VECTORS)
    assert checked.removed("a") == checked.removed("b") == set()


def test_a_bias_that_two_readers_share_takes_no_constant_of_one() -> None:
    model = flat(
        lambda m, x: m.left(m.a(x).relu()) + 3 * m.right(m.b(x).relu()),
        a=nn.Linear(6, 4),
        b=nn.Linear(6, 4),
        left=nn.Linear(4, 2),
        right=nn.Linear(4, 2),
    )
    model.right.bias = model.left.bias
    constant_(model.a, {1: 0.5})
    checked = check(model, VECTORS)
    left, right = (checked.model.get_submodule(name) for name in ("left", "right"))
    assert left.bias is right.bias


def test_one_weight_under_two_biases_is_cut_once() -> None:
    model = flat(
        lambda m, x: m.left(m.a(x).relu()) * m.right(m.a(x).relu()),
        a=nn.Linear(6, 4),
        left=nn.Linear(4, 3),
        right=nn.Linear(4, 3),
    )
    model.right.weight = model.left.weight
    unread_(model.left, 2)
    checked = check(model, VECTORS)
    assert checked.removed("a") == {2}
    left, right = (checked.model.get_submodule(name) for name in ("left", "right"))
    assert left.weight is right.weight


def test_a_tied_model_is_saved_and_loaded_tied(tmp_path: Path) -> None:
    def build() -> Calls:
        model = flat(
            lambda m, x: m.out(m.c(m.b(m.a(x).relu()).relu()).relu()),
            a=nn.Linear(6, 5),
            b=nn.Linear(5, 5),
            c=nn.Linear(5, 5),
            out=nn.Linear(5, 2),
        )
        model.c.weight = model.b.weight
        return model

    model = build()
    unread_(model.out, 2)
    unread_(model.b, 2)
    abscise.save(tmp_path / "model", abscise.compact(model, VECTORS))
    loaded = abscise.load(tmp_path / "model", build())
    assert loaded.get_submodule("b").weight is loaded.get_submodule("c").weight
    assert_equal(model, loaded, VECTORS)


def test_two_parameters_on_one_storage_are_refused() -> None:
    model = flat(lambda m, x: m.b(m.a(x).relu()), a=nn.Linear(6, 6), b=nn.Linear(6, 6))
    model.b.weight = Parameter(model.a.weight.data)
    with untouched(model), pytest.raises(ModelError, match=r"a\.weight.*b\.weight|storage"):
        _ = abscise.propose(model, VECTORS)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float) -> None:
    model = net(lambda m, x: m.bn(m.a(x)), a=conv(3, 4), bn=nn.BatchNorm2d(4))
    with torch.no_grad():
        model.bn.running_mean[2] = value
    with pytest.raises(ModelError, match=r"bn\.running_mean"):
        _ = abscise.propose(model, EXAMPLE)
    with torch.no_grad():
        model.bn.running_mean[2] = 0
        model.a.weight[0, 0] = value
    with pytest.raises(ModelError, match=r"a\.weight"):
        _ = abscise.propose(model, EXAMPLE)
