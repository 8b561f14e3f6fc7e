"""Where the constants of removed units go, and which constants cannot go anywhere."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import abscise
from support.compacting import Checked, check, noise
from support.equality import difference
from support.small import Calls, constant_, conv, flat, net

IMAGES = noise(8, 3, 8, 8)
ONE = noise(1, 3, 8, 8, seed=1)
WIDER = noise(2, 3, 11, 9, seed=3)
EXAMPLE = noise(2, 3, 8, 8, seed=4)
VECTORS = noise(8, 6)


def checked(model: nn.Module) -> Checked:
    return check(model, EXAMPLE, IMAGES, ONE, WIDER)


def into(result: Checked) -> dict[str, str]:
    """Reader -> where its constants go."""
    return {fold.reader: fold.into for fold in result.plan.folds}


def reader(layer: nn.Module, width: int = 6) -> Calls:
    """Convolution, norm, ReLU and `layer`, which reads `width` channels."""
    return net(
        lambda m, x: m.b(m.bn(m.a(x)).relu()),
        a=conv(3, width),
        bn=nn.BatchNorm2d(width),
        b=layer,
    )


def test_an_unpadded_reader_takes_constants_into_its_bias() -> None:
    model = reader(conv(6, 2, 3, stride=2, dilation=2))
    constant_(model.bn, {0: 0.5, 4: 2.0})
    result = checked(model)
    assert result.removed("a") == {0, 4}
    assert into(result) == {"b": "bias"}
    assert [fold.target for fold in result.plan.folds] == ["b.bias"]


def test_a_reader_without_bias_and_norm_gets_a_new_bias_that_the_plan_lists() -> None:
    model = reader(conv(6, 2, 3, bias=False))
    constant_(model.bn, {1: 0.5})
    result = checked(model)
    assert result.removed("a") == {1}
    assert into(result) == {"b": "new_bias"}
    assert isinstance(result.model.get_submodule("b").bias, nn.Parameter)


def test_a_linear_layer_without_bias_gets_a_new_bias() -> None:
    model = flat(
        lambda m, x: m.c(m.b(m.a(x).relu()).tanh()),
        a=nn.Linear(6, 4),
        b=nn.Linear(4, 5, bias=False),
        c=nn.Linear(5, 2),
    )
    constant_(model.a, {2: 1.5})
    result = check(model, VECTORS)
    assert result.removed("a") == {2}
    assert into(result) == {"b": "new_bias"}


def normed(padding: int) -> Calls:
    return net(
        lambda m, x: m.out(m.bn2(m.b(m.bn(m.a(x)).relu())).relu()),
        a=conv(3, 6),
        bn=nn.BatchNorm2d(6),
        b=conv(6, 4, 3, bias=False, padding=padding),
        bn2=nn.BatchNorm2d(4),
        out=conv(4, 2),
    )


def test_a_reader_without_bias_before_its_norm_takes_constants_into_the_running_mean() -> None:
    model = normed(0)
    constant_(model.bn, {1: 0.5, 5: 2.0})
    result = checked(model)
    assert result.removed("a") == {1, 5}
    assert into(result) == {"b": "running_mean"}
    assert [fold.target for fold in result.plan.folds] == ["bn2.running_mean"]
    assert result.model.get_submodule("b").bias is None


def test_constants_in_the_running_mean_are_exact_in_train_mode_too() -> None:
    model = normed(0)
    constant_(model.bn, {1: 0.5, 5: 2.0})
    compacted = abscise.apply(abscise.propose(model, EXAMPLE), model)
    assert difference(model.train(), compacted.train(), [IMAGES]).relative < 1e-10


def test_a_norm_that_is_not_the_only_reader_takes_no_constants() -> None:
    def forward(m: Calls, x: Tensor) -> Tensor:
        y = m.b(m.a(x).relu())
        result: Tensor = m.out(m.bn(y) + y)
        return result

    model = net(
        forward, a=conv(3, 5), b=conv(5, 4, bias=False), bn=nn.BatchNorm2d(4), out=conv(4, 2)
    )
    constant_(model.a, {3: 0.8})
    result = checked(model)
    assert result.removed("a") == {3}
    assert into(result) == {"b": "new_bias"}


def test_a_norm_that_serves_two_readers_takes_no_constants_of_one() -> None:
    def forward(m: Calls, x: Tensor) -> Tensor:
        result: Tensor = m.bn(m.b(m.a(x).relu())) * m.bn(m.c(x))
        return result

    model = net(forward, a=conv(3, 5), b=conv(5, 4, bias=False), c=conv(3, 4), bn=nn.BatchNorm2d(4))
    constant_(model.a, {3: 0.8})
    _ = checked(model)


def test_one_kept_constant_carries_all_others_through_a_padded_reader() -> None:
    model = reader(conv(6, 2, 3, padding=1, stride=2, dilation=2))
    constant_(model.bn, {0: 0.5, 2: 1.5, 4: 0.1, 5: 2e-3})
    result = checked(model)
    assert len(result.removed("a")) == 3
    assert 2 not in result.removed("a")
    assert into(result) == {"b": "carrier"}


def test_one_constant_alone_before_a_padded_reader_stays() -> None:
    model = reader(conv(6, 2, 3, padding=1))
    constant_(model.bn, {3: 0.5})
    assert checked(model).removed("a") == set()


def test_zeros_need_no_carrier() -> None:
    model = reader(conv(6, 2, 3, padding=1))
    constant_(model.bn, {3: 0.0, 1: -2.0, 5: 0.5})
    result = checked(model)
    assert result.removed("a") == {1, 3}
    assert result.plan.folds == ()


def test_a_constant_below_a_thousandth_of_the_largest_is_no_carrier() -> None:
    def forward(m: Calls, x: Tensor) -> Tensor:
        y = m.bn(m.a(x)).relu()
        result: Tensor = m.b(y) + m.c(y)
        return result

    model = net(
        forward,
        a=conv(3, 5),
        bn=nn.BatchNorm2d(5),
        b=conv(5, 2, 3, padding=1),
        c=conv(5, 2, 3, padding=1),
    )
    constant_(model.bn, {0: 1e-7, 1: 3.0})
    assert checked(model).removed("a") == {0}


def test_two_padded_readers_of_one_layer_share_the_carrier() -> None:
    def forward(m: Calls, x: Tensor) -> Tensor:
        y = m.bn(m.a(x)).relu()
        result: Tensor = m.b(y) * m.c(y)
        return result

    model = net(
        forward,
        a=conv(3, 6),
        bn=nn.BatchNorm2d(6),
        b=conv(6, 2, 3, padding=1),
        c=conv(6, 2, 5, padding=2),
    )
    constant_(model.bn, {0: 0.5, 2: 1.5, 4: 0.1})
    assert len(checked(model).removed("a")) == 2


def test_a_carrier_that_one_reader_does_not_read_carries_there_too() -> None:
    def forward(m: Calls, x: Tensor) -> Tensor:
        y = m.bn(m.a(x)).relu()
        result: Tensor = m.b(y) * m.c(y)
        return result

    model = net(
        forward,
        a=conv(3, 6),
        bn=nn.BatchNorm2d(6),
        b=conv(6, 2, 3, padding=1),
        c=conv(6, 2, 3, padding=1),
    )
    constant_(model.bn, {0: 0.5, 2: 1.5})
    with torch.no_grad():
        model.b.weight[:, 0] = 0
        model.c.weight[:, 2] = 0
    assert len(checked(model).removed("a")) <= 1


def test_a_padded_and_an_unpadded_reader_take_constants_each_in_its_way() -> None:
    def forward(m: Calls, x: Tensor) -> Tensor:
        y = m.bn(m.a(x)).relu()
        result: Tensor = m.b(y) + m.c(y)
        return result

    model = net(
        forward, a=conv(3, 6), bn=nn.BatchNorm2d(6), b=conv(6, 2, 3, padding=1), c=conv(6, 2)
    )
    constant_(model.bn, {0: 0.5, 2: 1.5, 4: 0.1})
    result = checked(model)
    assert len(result.removed("a")) == 2
    assert into(result) == {"b": "carrier", "c": "bias"}


def test_every_group_of_a_padded_grouped_reader_has_its_own_carrier() -> None:
    model = reader(conv(8, 4, 3, padding=1, groups=2), width=8)
    constant_(model.bn, {0: 0.5, 2: 1.5, 5: 0.3, 6: 0.9})
    assert len(checked(model).removed("a")) == 2


def test_a_carrier_in_one_group_carries_nothing_for_the_other() -> None:
    model = reader(conv(8, 4, 3, padding=1, groups=2), width=8)
    constant_(model.bn, {0: 0.5, 2: 1.5})
    assert checked(model).removed("a") == set()


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_a_reader_padded_with_what_is_there_takes_constants_into_its_bias(mode: str) -> None:
    model = reader(conv(6, 2, 3, padding=1, padding_mode=mode))
    constant_(model.bn, {0: 0.5, 2: 1.5})
    result = checked(model)
    assert result.removed("a") == {0, 2}
    assert into(result) == {"b": "bias"}


def padded(padding: tuple[int, ...], value: float) -> Calls:
    model = net(
        lambda m, x: m.b(functional.pad(m.bn(m.a(x)).relu(), padding, value=value)),
        a=conv(3, 6),
        bn=nn.BatchNorm2d(6),
        b=conv(6, 2, 3),
    )
    constant_(model.bn, {0: 0.5, 2: 1.5})
    return model


def test_an_explicit_pad_with_zeros_needs_a_carrier() -> None:
    assert len(checked(padded((1, 1, 1, 1), 0.0)).removed("a")) == 1


def test_an_explicit_pad_with_another_number_is_exact_or_keeps_the_units() -> None:
    assert checked(padded((1, 0, 2, 1), 0.25)).removed("a") <= {0, 2}


def test_constants_with_different_padding_masks_do_not_carry_each_other() -> None:
    def forward(m: Calls, x: Tensor) -> Tensor:
        y = m.bn(m.a(x)).relu()
        left = functional.pad(m.left(x).relu(), (1, 1, 1, 1))
        right = functional.pad(y, (2, 0, 2, 0))
        result: Tensor = m.b(torch.cat((left, right), 1))
        return result

    model = net(forward, a=conv(3, 4), left=conv(3, 4), bn=nn.BatchNorm2d(4), b=conv(8, 2, 3))
    constant_(model.bn, {1: 0.5})
    constant_(model.left, {2: 0.8})
    result = checked(model)
    assert result.removed("a") == result.removed("left") == set()


def test_a_constant_through_flatten_and_linear_goes_into_the_bias() -> None:
    model = net(
        lambda m, x: m.fc(m.pool(m.bn(m.a(x)).relu()).flatten(1)),
        a=conv(3, 6),
        bn=nn.BatchNorm2d(6),
        pool=nn.MaxPool2d(2),
        fc=nn.Linear(96, 2),
    )
    constant_(model.bn, {0: 0.5, 2: 1.5})
    result = check(model, EXAMPLE, IMAGES, ONE)
    assert result.removed("a") == {0, 2}
    assert into(result) == {"fc": "bias"}


def test_a_fixed_map_before_flatten_and_linear_goes_into_the_bias() -> None:
    """Behind a padded convolution a constant varies over space; the linear layer freezes it."""
    model = net(
        lambda m, x: m.fc(m.b(m.bn(m.a(x)).relu()).relu().flatten(1)),
        a=conv(3, 4),
        bn=nn.BatchNorm2d(4),
        b=conv(4, 3, 3, padding=1),
        fc=nn.Linear(192, 2),
    )
    constant_(model.bn, {0: 0.5})
    with torch.no_grad():
        model.b.weight[1, 1:] = 0  # channel 1 of b sees only the constant
    result = check(model, EXAMPLE, IMAGES, ONE)
    assert 1 in result.removed("b")


POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "max": lambda y: functional.max_pool2d(y, 3, 2, 1),
    "average": lambda y: functional.avg_pool2d(y, 2),
    "average that does not count its padding": lambda y: functional.avg_pool2d(
        y, 3, 2, 1, count_include_pad=False
    ),
    "adaptive average": lambda y: functional.adaptive_avg_pool2d(y, (3, 2)),
    "adaptive max": lambda y: functional.adaptive_max_pool2d(y, (3, 3)),
    "mean": lambda y: y.mean((2, 3), keepdim=True),
    "slice": lambda y: y[:, :, 1:-1, ::2],
    "transpose": lambda y: y.transpose(2, 3),
}


@pytest.mark.parametrize("pool", POOLS)
def test_a_constant_passes_a_pool_that_averages_or_selects(pool: str) -> None:
    function = POOLS[pool]
    model = net(
        lambda m, x: m.b(function(m.bn(m.a(x)).relu())),
        a=conv(3, 6),
        bn=nn.BatchNorm2d(6),
        b=conv(6, 2),
    )
    constant_(model.bn, {0: 0.5, 2: 1.5, 3: 0.0})
    assert checked(model).removed("a") == {0, 2, 3}


@pytest.mark.parametrize(
    "pool",
    [
        lambda y: functional.avg_pool2d(y, 3, 2, 1),
        lambda y: y.sum((2, 3), keepdim=True),
        lambda y: functional.interpolate(y, scale_factor=2, mode="bilinear"),
        lambda y: functional.interpolate(y, scale_factor=2),
        lambda y: functional.lp_pool2d(y, 2, 2),
    ],
    ids=["padded average", "sum", "bilinear", "nearest", "norm"],
)
def test_other_pools_pass_zeros_and_are_exact_with_constants(
    pool: Callable[[Tensor], Tensor],
) -> None:
    model = net(
        lambda m, x: m.b(pool(m.bn(m.a(x)).relu())),
        a=conv(3, 6),
        bn=nn.BatchNorm2d(6),
        b=conv(6, 2),
    )
    constant_(model.bn, {0: 0.5, 2: 1.5, 3: 0.0})
    assert checked(model).removed("a") <= {0, 2, 3}


def test_a_layer_of_constants_alone_is_folded_or_keeps_one_unit() -> None:
    for padding in (0, 1):
        model = net(
            lambda m, x: m.b(m.bn(m.a(x)).relu()) + m.c(x),
            a=conv(3, 6),
            bn=nn.BatchNorm2d(6),
            b=conv(6, 2, 3, padding=padding),
            c=conv(3, 2, 3, padding=padding),
        )
        constant_(model.bn, {unit: 0.3 + unit for unit in range(6)})
        assert len(checked(model).removed("a")) >= 5


def test_constants_chain_through_layers() -> None:
    model = net(
        lambda m, x: m.c(m.bn2(m.b(m.bn(m.a(x)).relu())).sigmoid()),
        a=conv(3, 5),
        bn=nn.BatchNorm2d(5),
        b=conv(5, 4, bias=False),
        bn2=nn.BatchNorm2d(4),
        c=conv(4, 2, 3),
    )
    constant_(model.bn, {0: 0.5, 1: 1.5})
    with torch.no_grad():
        model.b.weight[2, 2:] = 0  # reads only constants, and so is one
    result = checked(model)
    assert result.removed("a") == {0, 1}
    assert result.removed("b") == {2}


def test_a_known_zero_factor_kills_the_other_factor() -> None:
    def forward(m: Calls, x: Tensor) -> Tensor:
        result: Tensor = m.out(m.a(x).relu() * m.gate(x.mean((2, 3), keepdim=True)).relu())
        return result

    model = net(forward, a=conv(3, 5), gate=conv(3, 5), out=conv(5, 2, 3, padding=1))
    constant_(model.gate, {1: 0.0, 4: -1.0})
    result = checked(model)
    assert result.removed("a") == result.removed("gate") == {1, 4}


def test_a_gate_that_is_dead_halves_and_does_not_kill() -> None:
    def forward(m: Calls, x: Tensor) -> Tensor:
        result: Tensor = m.out(m.a(x) * m.gate(x.mean((2, 3), keepdim=True)).sigmoid())
        return result

    model = net(forward, a=conv(3, 5), gate=conv(3, 5), out=conv(5, 2))
    constant_(model.gate, dict.fromkeys(range(5), 0.0))
    assert checked(model).removed("a") == set()
