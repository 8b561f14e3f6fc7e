"""Constants that hold only for one map size, one call or one draw, and what may go all the same."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import Parameter, functional

import abscise
from abscise.compaction import snap_
from support.compacting import check, noise, trained
from support.equality import TOLERANCE, difference, outputs
from support.small import Calls, constant_, conv, dead_scales_, flat, net, silent_, unread_

IMAGES = noise(8, 3, 8, 8)
EXAMPLE = noise(2, 3, 8, 8, seed=4)
ONE = noise(1, 3, 8, 8, seed=1)
OTHER = noise(3, 3, 13, 10, seed=3)
VECTORS = noise(8, 6)


# --------------------------------------------------------------- windows of a parameter or buffer
def positions(window: int) -> Calls:
    """Tokens plus a position embedding whose unit 1 is constant at the first `window` tokens."""
    model = Calls(
        lambda m, x: m.b((m.a(x) + m.positions[:, :, : x.shape[2]]).relu()),
        a=nn.Conv1d(3, 6, 1),
        b=nn.Conv1d(6, 4, 1),
    )
    model.positions = Parameter(torch.empty(1, 6, 12))
    _ = trained(model, noise(16, 3, 4))
    constant_(model.a, {1: 0.3, 2: 0.0})
    with torch.no_grad():
        model.positions[:, 1, :window] = 0.5
    unread_(model.b, 5)
    return model


@pytest.mark.parametrize("window", [1, 4])
def test_positions_that_agree_in_the_captured_window_are_no_constant(window: int) -> None:
    result = check(positions(window), noise(2, 3, window, seed=1), noise(8, 3, 9), noise(8, 3, 12))
    assert result.removed("a") == {5}


MAPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "added": lambda y, window: y + window,
    "multiplied": lambda y, window: y * window,
}


@pytest.mark.parametrize("kind", MAPS)
def test_a_map_that_is_zero_in_the_captured_window_is_no_constant(kind: str) -> None:
    join = MAPS[kind]
    model = Calls(
        lambda m, x: m.b(join(m.a(x), m.map[:, :, : x.shape[2], : x.shape[3]]).relu()),
        a=conv(3, 6, 3, padding=1),
        b=conv(6, 4),
    )
    model.map = Parameter(torch.empty(1, 6, 16, 16))
    _ = trained(model, IMAGES)
    with torch.no_grad():
        model.map[:, 2] = 0.0
        model.map[:, 2, 12:] = 1.0
    if kind == "added":
        silent_(model.a, 2)
    unread_(model.b, 5)
    assert check(model, EXAMPLE, noise(8, 3, 16, 16), IMAGES, ONE).removed("a") == {5}


def test_a_mask_that_is_zero_in_the_captured_window_silences_nothing() -> None:
    model = Calls(
        lambda m, x: m.b(m.a(x).relu() * m.mask[: x.shape[2]]) + x.sum((1, 2), keepdim=True),
        a=nn.Conv1d(3, 6, 1),
        b=nn.Conv1d(6, 4, 1),
    )
    model.register_buffer("mask", torch.tensor([0.0] * 5 + [1.0] * 5))
    _ = trained(model, noise(16, 3, 4))
    unread_(model.b, 5)
    result = check(model, noise(2, 3, 4, seed=1), noise(8, 3, 9), noise(3, 3, 4))
    assert result.removed("a") == {5}


# -------------------------------------------------------- constants that vary over a padded map
MERGES: dict[str, Callable[[Tensor], Tensor]] = {
    "view": lambda y: y.reshape(y.shape[0], y.shape[1], y.shape[2], -1),
    "flatten": lambda y: y.flatten(3),
}


@pytest.mark.parametrize("merge", MERGES)
def test_a_merge_of_patches_does_not_freeze_the_rest_of_the_map(merge: str) -> None:
    function = MERGES[merge]

    def forward(m: Calls, x: Tensor) -> Tensor:
        y = m.b(m.bn(m.a(x)).relu())
        n, c, h, w = y.shape
        patches = y.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1)
        return m.fc(function(patches.flatten(3, 4)))

    model = net(
        forward,
        a=conv(3, 4, 3, padding=1),
        bn=nn.BatchNorm2d(4),
        b=conv(4, 4, 3, padding=1),
        fc=nn.Linear(16, 3),
    )
    only_a_constant_(model, 0.8)
    result = check(model, noise(2, 3, 2, 2), noise(8, 3, 6, 8), noise(8, 3, 2, 2, seed=5))
    assert 2 not in result.removed("b")


def only_a_constant_(model: Calls, value: float) -> None:
    """Unit 1 of `a` is constant, is read by unit 2 of `b` alone, and is all that it reads."""
    constant_(model.bn, {1: value})
    with torch.no_grad():
        kernel = model.b.weight[2, 1].clone()
        model.b.weight[:, 1] = 0
        model.b.weight[2] = 0
        model.b.weight[2, 1] = kernel


def gated(dilation: int) -> Calls:
    """A gate whose unit 2 is zero wherever its dilated kernel sees nothing but its centre."""

    def forward(m: Calls, x: Tensor) -> Tensor:
        gate = m.gate(m.bn(m.a(x)).relu()).relu()
        return m.out(m.b(m.p(x).relu()) * gate)

    model = net(
        forward,
        a=conv(3, 4, 3, padding=1),
        bn=nn.BatchNorm2d(4),
        gate=conv(4, 4, 3, padding=dilation, dilation=dilation),
        p=conv(3, 5),
        b=conv(5, 4),
        out=conv(4, 2),
    )
    dead_scales_(model.bn, range(4), 1.0)
    with torch.no_grad():
        _ = model.gate.weight.fill_(1.0)
        _ = model.gate.bias.zero_()
        model.gate.weight[2, :, 1, 1] = -1.0
        model.b.weight[[0, 1, 3], 3] = 0.0  # unit 3 of p is read by unit 2 of b alone
    unread_(model.b, 0)
    return model


def test_a_gate_that_is_zero_on_a_small_map_closes_nothing_on_a_larger_one() -> None:
    result = check(gated(6), noise(2, 3, 6, 6), noise(8, 3, 20, 20), noise(8, 3, 6, 6, seed=1))
    assert result.removed("p") == {0}
    assert 2 not in result.removed("b")


def test_a_gate_that_is_zero_on_every_map_closes() -> None:
    model = gated(6)
    silent_(model.gate, 2)
    result = check(model, noise(2, 3, 6, 6), noise(8, 3, 20, 20), noise(8, 3, 6, 6, seed=1))
    assert result.removed("p") == {0, 3}
    assert 2 in result.removed("b")


BOUND: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "padded average, adaptive average": (
        lambda y: functional.adaptive_avg_pool2d(functional.avg_pool2d(y, 3, 1, 1), 2),
        8,
    ),
    "zero padding, adaptive average": (
        lambda y: functional.adaptive_avg_pool2d(functional.pad(y, (1, 1, 1, 1)), 2),
        8,
    ),
    "zero padding, adaptive max": (
        lambda y: functional.adaptive_max_pool2d(functional.pad(-y, (1, 1, 1, 1)), 2),
        8,
    ),
    "padded average, resize": (
        lambda y: functional.interpolate(
            functional.avg_pool2d(y, 3, 1, 1), size=(2, 2), mode="bilinear"
        ),
        2,
    ),
    "padded average, crop": (lambda y: functional.avg_pool2d(y, 3, 1, 1)[:, :, :2, -2:], 8),
    "padded average, crop of all": (lambda y: functional.avg_pool2d(y, 3, 1, 1)[:, :, :2, -2:], 2),
}


@pytest.mark.parametrize("kind", BOUND)
def test_a_constant_map_is_not_folded_where_its_values_depend_on_the_map_size(kind: str) -> None:
    function, size = BOUND[kind]
    model = trained(
        Calls(
            lambda m, x: m.fc(function(m.a(x).relu()).flatten(1)),
            a=conv(3, 6, 3, padding=1),
            fc=nn.Linear(24, 3),
        ),
        noise(16, 3, size, size),
    )
    constant_(model.a, {1: 0.5, 4: 0.0})
    result = check(
        model, noise(2, 3, size, size), noise(8, 3, 13, 10), noise(8, 3, size, size, seed=1)
    )
    assert result.removed("a") == {4}


def vgg(padding: int) -> Calls:
    model = net(
        lambda m, x: m.fc(m.pool(m.b(m.bn(m.a(x)).relu()).relu()).flatten(1)),
        a=conv(3, 6, 3, padding=1),
        bn=nn.BatchNorm2d(6),
        b=conv(6, 6, 3, padding=padding),
        pool=nn.AdaptiveAvgPool2d(2),
        fc=nn.Linear(24, 3),
    )
    only_a_constant_(model, 0.5)
    return model


def test_a_padded_constant_before_adaptive_pooling_is_exact_at_every_size() -> None:
    assert 2 not in check(vgg(1), EXAMPLE, IMAGES, OTHER, ONE).removed("b")


def test_an_unpadded_constant_before_adaptive_pooling_goes_at_every_size() -> None:
    result = check(vgg(0), EXAMPLE, IMAGES, OTHER, ONE)
    assert 1 in result.removed("a")
    assert 2 in result.removed("b")


# ------------------------------------------------------------------------------------ randomness
def test_constants_do_not_pass_a_dropout_that_is_always_on() -> None:
    model = flat(
        lambda m, x: m.b(functional.dropout(m.a(x).relu(), 0.5, training=True)),
        a=nn.Linear(6, 5),
        b=nn.Linear(5, 3),
    )
    constant_(model.a, dict.fromkeys(range(5), 1.0))
    compacted = abscise.apply(abscise.propose(model, VECTORS), model)
    drawn = []
    for network in (model, compacted):
        with torch.random.fork_rng():
            _ = torch.manual_seed(0)
            drawn.append(outputs(network, VECTORS)[0])
    assert torch.equal(*drawn)
    assert float(drawn[1].std(0).min()) > 0.01


# ------------------------------------------------------------------------------------------- snap_
def gate_after_hardsigmoid() -> Calls:
    def forward(m: Calls, x: Tensor) -> Tensor:
        y = m.a(x).relu()
        gate = functional.hardsigmoid(m.up(m.down(y.mean((2, 3), keepdim=True)).relu()))
        return m.out(y * gate)

    model = net(forward, a=conv(3, 6, 3), down=conv(6, 4), up=conv(4, 6), out=conv(6, 3))
    with torch.no_grad():
        model.up.bias[2] = -90.0  # closed on all data; with a bias of 0 it would be half open
    return model


def one_minus_unit() -> Calls:
    model = net(
        lambda m, x: m.out((1 - m.up(m.a(x).relu())).relu()),
        a=conv(3, 6, 3),
        up=conv(6, 6),
        out=conv(6, 3),
    )
    with torch.no_grad():
        model.up.bias[2] = 90.0  # 1 - unit is negative on all data; with a unit of 0 it would be 1
    return model


@pytest.mark.parametrize("make", [gate_after_hardsigmoid, one_minus_unit])
def test_snapping_what_never_fires_on_the_data_does_not_change_the_outputs_on_it(
    make: Callable[[], Calls],
) -> None:
    model = make()
    with torch.no_grad():
        model.a.bias[4] = -90.0
    dense = deepcopy(model)
    report = snap_(model, IMAGES, threshold=0.0, data=IMAGES)
    assert report.max_rel_diff <= TOLERANCE
    assert difference(dense, model, [IMAGES]).relative <= TOLERANCE
    silent = {layer.layer: layer.silent_on_data for layer in report.layers}
    assert silent["a"] == 1
    assert silent["up"] == 0
    assert not model.a.bias[4].any()
