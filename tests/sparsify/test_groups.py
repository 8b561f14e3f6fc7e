"""Which weights a group has: for unlike networks, tied, transposed, joined and normed weights."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.optim import SGD
from typing_extensions import override

import abscise
from abscise import attach
from abscise.penalties import L1, GroupLasso, NofM, Penalty
from abscise.sparsify import Columns, Filters, Groups, Heads, Proximal, Rows
from abscise.sparsify._layers import Layer
from support.sparsifier_cases import unit_map
from support.sparsifying import same, small_network, state_of, train


def layers_of(model: nn.Module, **options: object) -> tuple[Layer, ...]:
    penalty: Penalty = L1() if "groups" not in options else GroupLasso()
    sparsifier = Proximal(penalty, 0.1, **options)  # type: ignore[arg-type]
    return attach(sparsifier, SGD(model.parameters(), 0.1), model).worker.layers


def described(model: nn.Module, **options: object) -> dict[str, tuple[int, int]]:
    """Names of each layer -> how many groups, of which size."""
    return {
        layer.bunch.names: (layer.bunch.groups, layer.bunch.size)
        for layer in layers_of(model, **options)
    }


def units_of(model: nn.Module, *shape: int) -> abscise.UnitMap:
    return abscise.find_units(model, torch.randn(2, *shape))


def test_a_transposed_convolution_writes_along_its_second_axis() -> None:
    model = nn.Sequential(nn.ConvTranspose2d(3, 4, 2), nn.ReLU(), nn.Conv2d(4, 5, 1))
    assert described(model, groups=units_of(model, 3, 4, 4)) == {"0.weight, 0.bias": (4, 13)}
    assert described(model, groups=Filters()) == {"0.weight": (4, 12), "2.weight": (5, 4)}
    assert described(model, groups=Columns()) == {"0.weight": (3, 16), "2.weight": (4, 5)}


class Residual(nn.Module):
    """x + conv(x): the layer writes what it reads."""

    def __init__(self, *, transposed: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.conv = nn.ConvTranspose2d(4, 4, 1) if transposed else nn.Conv2d(4, 4, 1)
        self.last = nn.Conv2d(4, 2, 1)

    @override
    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        result: Tensor = self.last(y + self.conv(y))
        return result


@pytest.mark.parametrize("transposed", [False, True])
def test_of_a_layer_that_writes_what_it_reads_only_the_rows_are_shrunk(transposed: bool) -> None:
    model = Residual(transposed=transposed)
    (layer,) = layers_of(model, groups=units_of(model, 3, 4, 4))
    axes = {piece.name: piece.axis for piece in layer.bunch.slices}
    assert axes == {
        "stem.weight": 0,
        "stem.bias": 0,
        "conv.weight": int(transposed),
        "conv.bias": 0,
    }


class Joined(nn.Module):
    """Two layers side by side under one norm: its scale and shift belong to units of both."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 2, 3, padding=1)
        self.norm, self.last = nn.BatchNorm2d(6), nn.Conv2d(6, 2, 1)

    @override
    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat([self.one(x), self.two(x)], 1)
        result: Tensor = self.last(self.norm(joined).relu())
        return result


def test_a_norm_behind_two_layers_is_divided_among_their_units() -> None:
    model = Joined()
    units = units_of(model, 3, 4, 4)
    assert described(model, groups=units) == {
        "one.weight, one.bias, norm.weight, norm.bias": (4, 6),
        "two.weight, two.bias, norm.weight, norm.bias": (2, 30),
    }
    plain = copy.deepcopy(model)
    for network in (model, plain):
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter)
    optimizer = SGD(model.parameters(), 0.1)
    with attach(Proximal(GroupLasso(), 1.0, groups=units), optimizer, model) as attachment:
        optimizer.step()
        attachment.worker.heal()
        held = attachment.state_dict()["masks"]
    assert plain.two.bias is not None
    rows = [plain.two.weight.flatten(1), plain.two.bias[:, None]]
    rows += [plain.norm.weight[4:, None], plain.norm.bias[4:, None]]
    expected = GroupLasso().prox(torch.cat(rows, 1), 0.1)
    torch.testing.assert_close(model.two.weight.flatten(1).detach(), expected[:, :27])
    torch.testing.assert_close(model.norm.weight[4:].detach(), expected[:, 28])
    assert not any(bool(mask.any()) for mask in held.values())


def test_the_lengths_of_weight_norm_are_shrunk_and_not_the_directions() -> None:
    model = nn.Sequential(weight_norm(nn.Conv2d(3, 4, 1)), nn.ReLU(), nn.Conv2d(4, 2, 1))
    found = described(model, groups=units_of(model, 3, 4, 4))
    assert found == {"0.bias, 0.parametrizations.weight.original0": (4, 2)}
    assert "original1" not in " ".join(described(model))


def test_a_tied_weight_is_shrunk_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    assert list(described(model)) == ["0.weight"]
    assert list(described(model, groups=Rows())) == ["0.weight"]


def test_pinned_units_are_left_alone_unless_asked_for() -> None:
    model = small_network()
    assert "9.weight, 9.bias" not in described(model, groups=unit_map())
    assert described(model, groups=unit_map(), pinned=True)["9.weight, 9.bias"] == (3, 13)


def test_where_and_exclude_name_layers_and_parameters() -> None:
    model = small_network()
    assert list(described(model, where=("0", "9.*"))) == ["0.weight", "9.weight"]
    assert list(described(model, exclude=("0.weight", "3", "7.*"))) == ["9.weight"]
    assert "1.bias" not in " ".join(described(model, groups=unit_map(), exclude=("1.bias",)))


REFUSED: dict[str, tuple[Groups | None, Penalty, dict[str, object], str]] = {
    "heads": (Heads(5), GroupLasso(), {}, r"rows of 7\.weight must be a multiple of 5, got 12"),
    "too many": (
        Heads(24),
        GroupLasso(),
        {},
        r"rows of 7\.weight must be a multiple of 24, got 12",
    ),
    "n of m": (
        Filters(),
        NofM(2, 7),
        {},
        r"^0\.weight: NofM: the size of a row must be a multiple",
    ),
    "no groups": (None, GroupLasso(), {}, "GroupLasso needs groups: a UnitMap"),
    "nothing": (Rows(), L1(), {"where": ("0",)}, "no parameter to act on"),
    "pattern": (None, L1(), {"where": ("head",)}, "where: 'head' matches no parameter"),
    "exclude": (None, L1(), {"exclude": ("head",)}, "exclude: 'head' matches no parameter"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_groups_that_do_not_fit_the_model_are_refused_when_attaching(case: str) -> None:
    groups, penalty, options, text = REFUSED[case]
    model = small_network()
    sparsifier = Proximal(penalty, 0.1, groups=groups, **options)  # type: ignore[arg-type]
    optimizer = SGD(model.parameters(), 0.1)
    with pytest.raises(ValueError, match=text):
        _ = attach(sparsifier, optimizer, model)
    before = state_of(model)
    train(model, optimizer, 1)
    plain = small_network()
    train(plain, SGD(plain.parameters(), 0.1), 1)
    assert not same(before, state_of(model))
    assert same(state_of(plain), state_of(model))


def test_columns_of_a_grouped_convolution_are_refused() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2))
    with pytest.raises(
        ValueError, match=r"0\.weight belongs to a convolution of 2 groups, in which"
    ):
        _ = described(model, groups=Columns())


def test_the_unit_map_of_another_model_is_refused_by_the_first_parameter_that_is_missing() -> None:
    other = small_network()[:3]
    with pytest.raises(ValueError, match=r"the unit map names 3\.weight, which the model does not"):
        _ = layers_of(other, groups=unit_map(), where=("*",))
    same_names = nn.Sequential(nn.Conv2d(2, 5, 3), *list(small_network())[1:])
    with pytest.raises(
        ValueError, match=r"6 indices along axis 0 of 0\.weight, whose shape is \(5,"
    ):
        _ = layers_of(same_names, groups=unit_map())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_half_precision_are_refused(dtype: torch.dtype) -> None:
    model = small_network().to(dtype)
    with pytest.raises(ValueError, match=r"0\.weight is torch\..*16: steps below the rounding"):
        _ = described(model)
