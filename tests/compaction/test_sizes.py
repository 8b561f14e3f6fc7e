"""Sizes that the user's forward computes or writes down: a removal may not change their meaning."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import abscise
from support.compacting import check, noise, removed, trained
from support.equality import assert_equal
from support.small import Calls, constant_, conv, flat, net, silent_, unread_

# The coverage tracer would double their time; other tests run the same code.
pytestmark = pytest.mark.no_cover

IMAGES = noise(8, 3, 8, 8)
ONE = noise(1, 3, 8, 8, seed=1)
WIDER = noise(2, 3, 12, 8, seed=3)
VECTORS = noise(8, 6)
EXAMPLE = noise(2, 3, 8, 8, seed=4)


def by_index(y: Tensor) -> Tensor:
    return torch.stack([y[:, index] * (index + 1) for index in range(y.shape[1])], 1)


def by_parity(y: Tensor) -> Tensor:
    return y.relu() if y.shape[1] % 2 == 0 else y.tanh()


COUNTED: dict[str, Callable[[Tensor], Tensor]] = {
    "divided by their number": lambda y: y / y.shape[1],
    "divided by the root of their number": lambda y: y * y.shape[1] ** -0.5,
    "divided by the number of all values": lambda y: 100 * y / y.numel(),
    "seen through a hard-coded view": lambda y: y.view(y.shape[0], 6, -1).relu().view(y.shape),
    "seen through a hard-coded reshape": lambda y: y.reshape(-1, 6, 8, 8),
    "split at a hard-coded index": lambda y: torch.cat((y[:, 4:], y[:, :4]), 1),
    "split into hard-coded sizes": lambda y: torch.cat(y.split([2, 4], 1)[::-1], 1),
    "multiplied by their position": by_index,
    "activated by their parity": by_parity,
    "rolled by half of their number": lambda y: y.roll(y.shape[1] // 2, 1),
    "scaled by a range": lambda y: y * torch.arange(6.0).view(1, 6, 1, 1),
    "scaled by a range of their number": lambda y: y * torch.arange(y.shape[1]).view(1, -1, 1, 1),
    "expanded": lambda y: y.unsqueeze(1).expand(-1, 2, 6, -1, -1).mean(1),
}


@pytest.mark.parametrize("form", COUNTED)
@pytest.mark.parametrize("dead", [0, 3, 5])
def test_units_that_are_counted_are_removed_rightly_or_not_at_all(form: str, dead: int) -> None:
    function = COUNTED[form]
    model = net(lambda m, x: m.b(function(m.a(x))), a=conv(3, 6), b=conv(6, 2, 3, padding=1))
    silent_(model.a, dead)
    checked = check(model, EXAMPLE, IMAGES, ONE)
    assert checked.removed("a") <= {dead}


@pytest.mark.parametrize("form", list(COUNTED)[:4])
def test_units_whose_number_is_part_of_the_result_stay(form: str) -> None:
    function = COUNTED[form]
    model = net(lambda m, x: m.b(function(m.a(x))), a=conv(3, 6), b=conv(6, 2, 3, padding=1))
    silent_(model.a, 2)
    assert check(model, EXAMPLE, IMAGES, ONE).removed("a") == set()


def test_a_number_of_values_that_no_unit_belongs_to_keeps_none() -> None:
    model = net(lambda m, x: m.b(m.a(x)) / x.numel(), a=conv(3, 6), b=conv(6, 2, 3, padding=1))
    silent_(model.a, 2)
    assert check(model, EXAMPLE, IMAGES, ONE).removed("a") == {2}


@pytest.mark.parametrize("mode", ["mean", "sum", "max"])
def test_what_reads_a_bag_of_embeddings_loses_its_dead_units(mode: str) -> None:
    """An embedding bag counts the values of its input."""
    model = flat(
        lambda m, x: m.b(m.a(m.bag((100 * x).long() % 12)).relu()),
        bag=nn.EmbeddingBag(12, 6, mode=mode),
        a=nn.Linear(6, 8),
        b=nn.Linear(8, 3),
    )
    silent_(model.a, 1, 4)
    assert check(model, noise(2, 6), VECTORS).removed("a") == {1, 4}


def test_a_hard_coded_slice_lets_what_it_cuts_off_go() -> None:
    model = net(lambda m, x: m.b(m.a(x)[:, :4]), a=conv(3, 6), b=conv(4, 2, 3))
    assert check(model, EXAMPLE, IMAGES, ONE, WIDER).removed("a") == {4, 5}


def test_a_hard_coded_slice_whose_two_sides_are_read_keeps_its_border() -> None:
    def forward(m: Calls, x: Tensor) -> Any:
        y = m.a(x)
        return m.left(y[:, :4]) + m.right(y[:, 4:])

    model = net(forward, a=conv(3, 6), left=conv(4, 2), right=conv(2, 2))
    unread_(model.left, 1)
    assert check(model, EXAMPLE, IMAGES, ONE).removed("a") == set()
    unread_(model.left, 1, 2)
    assert check(model, EXAMPLE, IMAGES, ONE).removed("a") == set()


def test_a_slice_from_the_end_lets_the_last_unit_go_only_with_its_reader() -> None:
    model = net(lambda m, x: m.b(m.a(x)[:, -4:]), a=conv(3, 6), b=conv(4, 2, 3))
    assert check(model, EXAMPLE, IMAGES, ONE).removed("a") == {0, 1}
    unread_(model.b, 3)  # unit 5: without it, the slice would begin at unit 1
    assert check(model, EXAMPLE, IMAGES, ONE).removed("a") in ({0, 1}, {0, 1, 5})


def test_a_linear_layer_seen_as_an_image_loses_whole_channels() -> None:
    model = flat(
        lambda m, x: m.b(m.a(x).view(x.shape[0], -1, 3, 3)), a=nn.Linear(6, 36), b=conv(4, 2, 2)
    )
    unread_(model.b, 1)
    assert check(model, noise(2, 6), VECTORS).removed("a") == set(range(9, 18))


def test_a_linear_layer_seen_as_an_image_through_unflatten_loses_whole_channels() -> None:
    model = flat(
        lambda m, x: m.b(m.to_image(m.a(x).relu())),
        a=nn.Linear(6, 36),
        to_image=nn.Unflatten(1, (-1, 3, 3)),
        b=conv(4, 2, 3, padding=1),
    )
    unread_(model.b, 0, 3)
    dead = set(range(9)) | set(range(27, 36))
    assert check(model, noise(2, 6), VECTORS).removed("a") == dead


def test_a_linear_layer_seen_as_an_image_of_hard_coded_channels_keeps_them() -> None:
    model = flat(lambda m, x: m.b(m.a(x).view(-1, 4, 3, 3)), a=nn.Linear(6, 36), b=conv(4, 2, 3))
    unread_(model.b, 1)
    assert check(model, noise(2, 6), VECTORS).removed("a") == set()


def test_a_pixel_shuffle_takes_four_units_at_once() -> None:
    model = net(lambda m, x: m.b(m.up(m.a(x))), a=conv(3, 12), up=nn.PixelShuffle(2), b=conv(3, 2))
    unread_(model.b, 1)
    assert check(model, EXAMPLE, IMAGES, ONE, WIDER).removed("a") == {4, 5, 6, 7}


def test_a_pixel_shuffle_of_three_dead_units_and_a_live_one_takes_none() -> None:
    model = net(lambda m, x: m.b(m.up(m.a(x))), a=conv(3, 8), up=nn.PixelShuffle(2), b=conv(2, 2))
    silent_(model.a, 0, 1, 2)
    assert check(model, EXAMPLE, IMAGES, ONE).removed("a") == set()


def test_a_pixel_unshuffle_takes_a_unit_that_none_of_its_four_readers_reads() -> None:
    model = net(
        lambda m, x: m.b(m.down(m.a(x))), a=conv(3, 3), down=nn.PixelUnshuffle(2), b=conv(12, 2)
    )
    unread_(model.b, 4, 5, 6)
    assert check(model, EXAMPLE, IMAGES, ONE).removed("a") == set()
    unread_(model.b, 7)
    assert check(model, EXAMPLE, IMAGES, ONE, WIDER).removed("a") == {1}


def test_a_spatial_gate_joins_nothing() -> None:
    def forward(m: Calls, x: Tensor) -> Any:
        y = m.a(x).relu()
        return m.b(y * m.gate(y).sigmoid())

    model = net(forward, a=conv(3, 5), gate=conv(5, 1, 3, padding=1), b=conv(5, 2, 3))
    unread_(model.b, 1, 2)
    unread_(model.gate, 2)
    checked = check(model, EXAMPLE, IMAGES, ONE, WIDER)
    assert checked.removed("a") == {2}
    assert checked.removed("gate") == set()


def test_a_broadcast_unit_axis_of_one_is_read_by_all() -> None:
    model = net(lambda m, x: m.out(m.a(x) + m.b(x)), a=conv(3, 1), b=conv(3, 5), out=conv(5, 2))
    silent_(model.b, 3)  # not dead: the broadcast sum is alive there
    assert check(model, EXAMPLE, IMAGES, ONE).removed("b") == set()
    unread_(model.out, 3)
    assert check(model, EXAMPLE, IMAGES, ONE).removed("b") == {3}


def test_labels_survive_bfloat16() -> None:
    model = flat(lambda m, x: m.b(m.a(x).relu()), a=nn.Linear(6, 700), b=nn.Linear(700, 2))
    silent_(model.a, 257, 300, 511, 699)
    half = model.to(torch.bfloat16)
    plan = abscise.propose(half, noise(2, 6).to(torch.bfloat16))
    assert removed(plan, "a.weight") == {257, 300, 511, 699}
    compacted = abscise.apply(plan, half)
    assert {tensor.dtype for tensor in compacted.state_dict().values()} == {torch.bfloat16}
    assert_equal(half.double(), compacted.double(), VECTORS)


ALONG: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda y: y.mean(1, keepdim=True),
    "var": lambda y: y.var(1, keepdim=True),
    "std": lambda y: y.std(1, keepdim=True),
    "amax": lambda y: y.amax(1, keepdim=True),
    "max": lambda y: y.max(1, keepdim=True).values,
    "amin": lambda y: y.amin(1, keepdim=True),
    "prod": lambda y: y.prod(1, keepdim=True),
    "sort": lambda y: y.sort(1).values[:, -1:],
    "topk": lambda y: y.topk(2, 1).values[:, -1:],
    "argmax": lambda y: y.argmax(1, keepdim=True).to(y),
    "logsumexp": lambda y: y.logsumexp(1, keepdim=True),
    "softmax": lambda y: y.softmax(1),
    "log_softmax": lambda y: y.log_softmax(1),
    "cumsum": lambda y: y.cumsum(1),
    "layer_norm": lambda y: functional.layer_norm(y.permute(0, 2, 3, 1), (y.shape[1],)).permute(
        0, 3, 1, 2
    ),
    "linalg_vector_norm": lambda y: torch.linalg.vector_norm(y, 1.0, 1, keepdim=True),
    "local_response_norm": lambda y: functional.local_response_norm(y, 3),
}


@pytest.mark.parametrize("name", ALONG)
def test_a_reduction_along_the_units_pins_them(name: str) -> None:
    function = ALONG[name]
    width = function(torch.zeros(1, 6, 8, 8)).shape[1]
    model = net(lambda m, x: m.b(function(m.a(x))), a=conv(3, 6), b=conv(width, 2, 3))
    silent_(model.a, 4)
    checked = check(model, EXAMPLE, IMAGES, ONE)
    assert checked.removed("a") == set()
    assert checked.reasons("a")


ZEROS_GO: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda y: y.sum(1, keepdim=True),
    "2-norm": lambda y: y.norm(2, 1, keepdim=True),
    "2-norm of linalg": lambda y: torch.linalg.vector_norm(y, 2.0, 1, keepdim=True),
}


@pytest.mark.parametrize("name", ZEROS_GO)
def test_a_sum_or_norm_along_the_units_lets_zeros_go_but_no_constants(name: str) -> None:
    function = ZEROS_GO[name]
    model = net(lambda m, x: m.b(function(m.a(x))), a=conv(3, 6), b=conv(1, 2, 3))
    silent_(model.a, 4)
    constant_(model.a, {1: 2.0})
    assert check(model, EXAMPLE, IMAGES, ONE, WIDER).removed("a") == {4}


@pytest.mark.parametrize("affine", [True, False])
def test_channels_of_an_instance_norm_go_one_by_one(affine: bool) -> None:
    norm = nn.InstanceNorm2d(6, affine=affine)
    model = net(lambda m, x: m.b(m.norm(m.a(x)).relu()), a=conv(3, 6), norm=norm, b=conv(6, 2, 3))
    unread_(model.b, 2, 3)
    assert check(model, EXAMPLE, IMAGES, ONE).removed("a") == {2, 3}


BY_BATCH: dict[str, Callable[[], nn.Module]] = {
    "BatchNorm1d": lambda: nn.BatchNorm1d(4, track_running_stats=False),
    "InstanceNorm1d": lambda: nn.InstanceNorm1d(4),
    "GroupNorm": lambda: nn.GroupNorm(2, 4),
}


@pytest.mark.parametrize("name", BY_BATCH)
def test_units_along_the_length_count_in_the_statistics_of_the_batch(name: str) -> None:
    model = trained(
        Calls(
            lambda m, x: m.b(m.norm(m.a(x))), a=nn.Linear(6, 5), norm=BY_BATCH[name](),
            b=nn.Linear(5, 2),
        ),
        noise(8, 4, 6),
    )  # fmt: skip
    unread_(model.b, 1)
    assert check(model, noise(2, 4, 6, seed=1), noise(8, 4, 6)).removed("a") == set()


def test_a_reduction_over_space_pins_nothing() -> None:
    model = net(lambda m, x: m.b(m.a(x).flatten(2).mean(2)), a=conv(3, 6), b=nn.Linear(6, 2))
    silent_(model.a, 4)
    assert check(model, EXAMPLE, IMAGES, ONE, WIDER).removed("a") == {4}
