"""GroupNorm: a whole group goes or stays (rule R6); its convolution's rows are one unit."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from support.compacting import Checked, check, check_compact, noise
from support.small import Calls, conv, dead_scales_, net, silent_, unread_

IMAGES = noise(8, 3, 8, 8)
EXAMPLE = noise(2, 3, 8, 8, seed=4)
ONE = noise(1, 3, 8, 8, seed=5)
WIDER = noise(2, 3, 12, 10, seed=6)


def normed(norm: nn.Module, kernel: int = 1) -> Calls:
    return net(
        lambda m, x: m.b(m.norm(m.a(x)).relu()),
        a=conv(3, 6, 3),
        norm=norm,
        b=conv(6, 2, kernel, padding=kernel // 2),
    )


def run(model: Calls) -> Checked:
    return check_compact(model, EXAMPLE, IMAGES, ONE, WIDER)


@pytest.mark.parametrize("affine", [True, False])
def test_an_unread_group_goes_whole(affine: bool) -> None:
    model = normed(nn.GroupNorm(3, 6, affine=affine))
    unread_(model.b, 2, 3)
    checked = run(model)
    assert checked.removed("a") == {2, 3}
    norm = checked.model.get_submodule("norm")
    assert isinstance(norm, nn.GroupNorm)
    assert (norm.num_groups, norm.num_channels) == (2, 4)


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_group_of_zeros_leaves_its_shift_to_the_reader(kernel: int) -> None:
    model = normed(nn.GroupNorm(3, 6), kernel)
    silent_(model.a, 0, 1, 4, 5)
    with torch.no_grad():
        model.norm.bias[0] = 0.7
        model.norm.bias[1] = -0.5
        model.norm.bias[4:] = 0.2
    left = {0, 1, 4, 5} - run(model).removed("a")
    # With padding one of the groups carries the constants of the other.
    assert len(left) == (0 if kernel == 1 else 2)


def test_a_group_whose_scales_are_zero_goes() -> None:
    model = normed(nn.GroupNorm(2, 6))
    dead_scales_(model.norm, {3, 4, 5})
    assert run(model).removed("a") == {3, 4, 5}


def test_zeros_of_a_group_with_a_live_channel_stay() -> None:
    model = normed(nn.GroupNorm(2, 6))
    silent_(model.a, 3, 4)
    assert run(model).removed("a") == set()


def test_a_dead_output_of_a_live_group_is_still_in_its_mean() -> None:
    model = normed(nn.GroupNorm(2, 6))
    unread_(model.b, 0, 1)
    assert run(model).removed("a") == set()


def test_one_channel_is_left() -> None:
    model = normed(nn.GroupNorm(6, 6))
    unread_(model.b, 0, 1, 2, 4, 5)
    assert run(model).removed("a") == {0, 1, 2, 4, 5}


def test_a_single_group_stays_with_a_reason() -> None:
    model = normed(nn.GroupNorm(1, 6))
    unread_(model.b, 2, 3)
    checked = run(model)
    assert checked.removed("a") == set()
    assert "reduced over" in checked.reasons("a")


def test_a_single_group_does_not_hold_the_layers_behind_it() -> None:
    model = net(
        lambda m, x: m.c(m.b(m.norm(m.a(x)).relu()).relu()),
        a=conv(3, 6, 3),
        norm=nn.GroupNorm(1, 6),
        b=conv(6, 5),
        c=conv(5, 2),
    )
    unread_(model.c, 1, 2)
    checked = run(model)
    assert checked.removed("a") == set()
    assert checked.removed("b") == {1, 2}


def test_groups_join_what_a_residual_stream_joins() -> None:
    model = net(
        lambda m, x: m.out((m.a(x) + m.n2(m.b(m.n1(m.a(x)).relu()))).relu()),
        a=conv(3, 6),
        n1=nn.GroupNorm(3, 6),
        b=conv(6, 6, 3, padding=1),
        n2=nn.GroupNorm(2, 6),
        out=conv(6, 2),
    )
    unread_(model.out, 0, 1, 2)
    # Groups of two and of three over one stream have no boundary in common but its ends.
    assert run(model).removed("b") == set()
    model.n1 = nn.GroupNorm(2, 6).double()
    unread_(model.b, 0, 1, 2)
    assert run(model).removed("b") == run(model).removed("a") == {0, 1, 2}


@pytest.mark.parametrize("fixed", [True, False])
def test_the_number_of_groups_in_forward(fixed: bool) -> None:
    def forward(m: Calls, x: Tensor) -> Tensor:
        y = m.a(x)
        result: Tensor = m.b(functional.group_norm(y, 4 if fixed else y.shape[1] // 2))
        return result

    model = net(forward, a=conv(3, 8), b=conv(8, 2))
    unread_(model.b, 0, 1, 4, 5)
    # Four groups of the four that are left would hold one channel each.
    assert check(model, EXAMPLE, IMAGES).removed("a") == (set() if fixed else {0, 1, 4, 5})


def test_without_epsilon_zeros_are_no_constant() -> None:
    model = normed(nn.GroupNorm(3, 6, eps=0.0))
    unread_(model.b, 2)
    assert run(model).removed("a") == set()
