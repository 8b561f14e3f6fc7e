"""Grouped and depthwise convolutions: an equal number of units a group, or whole groups."""

import torch
from torch import Tensor, nn

from support.compacting import Checked, check, noise
from support.small import Calls, constant_, conv, dead_scales_, net, silent_, unread_

IMAGES = noise(8, 3, 8, 8)
ONE = noise(1, 3, 8, 8, seed=1)
WIDER = noise(2, 3, 11, 9, seed=3)
EXAMPLE = noise(2, 3, 8, 8, seed=4)


def grouped(groups: int, width: int, inner: int) -> Calls:
    return net(
        lambda m, x: m.out(m.mid(m.a(x).relu()).relu()),
        a=conv(3, width),
        mid=conv(width, inner, 3, groups=groups, padding=1),
        out=conv(inner, 2),
    )


def checked(model: nn.Module) -> Checked:
    return check(model, EXAMPLE, IMAGES, ONE, WIDER)


def test_a_unit_that_dies_in_one_group_only_stays() -> None:
    model = grouped(2, 6, 4)
    silent_(model.a, 1)
    assert checked(model).removed("a") == set()


def test_units_at_the_same_offset_of_every_group_go() -> None:
    model = grouped(2, 6, 4)
    silent_(model.a, 1, 4)
    result = checked(model)
    assert result.removed("a") == {1, 4}
    assert result.model.get_submodule("mid").weight.shape == (4, 2, 3, 3)


def test_units_at_different_offsets_of_every_group_go() -> None:
    model = grouped(3, 9, 6)
    silent_(model.a, 0, 5, 7)
    result = checked(model)
    assert result.removed("a") == {0, 5, 7}
    assert result.model.get_submodule("mid").weight.shape == (6, 2, 3, 3)


def test_of_unequal_deaths_the_smallest_number_goes_in_every_group() -> None:
    model = grouped(2, 8, 4)
    silent_(model.a, 0, 1, 2, 7)
    result = checked(model)
    assert len(result.removed("a") & {0, 1, 2}) == 1
    assert result.removed("a") - {0, 1, 2} == {7}


def test_outputs_of_a_grouped_convolution_go_in_equal_numbers() -> None:
    model = grouped(2, 6, 8)
    unread_(model.out, 0, 6)
    result = checked(model)
    assert result.removed("mid") == {0, 6}
    unread_(model.out, 1)
    assert len(checked(model).removed("mid")) == 2


def test_a_whole_group_goes_with_its_inputs_and_outputs() -> None:
    model = grouped(3, 9, 6)
    unread_(model.out, 2, 3)
    silent_(model.a, 3, 4, 5)
    result = checked(model)
    assert result.removed("a") == {3, 4, 5}
    assert result.removed("mid") == {2, 3}
    middle = result.model.get_submodule("mid")
    assert isinstance(middle, nn.Conv2d)
    assert (middle.groups, middle.in_channels, middle.out_channels) == (2, 6, 4)


def test_inputs_and_outputs_of_a_grouped_convolution_die_independently() -> None:
    model = grouped(2, 8, 6)
    silent_(model.a, 3, 4)
    unread_(model.out, 2, 3)
    result = checked(model)
    assert result.removed("a") == {3, 4}
    assert result.removed("mid") == {2, 3}
    assert result.model.get_submodule("mid").weight.shape == (4, 3, 3, 3)


def depthwise(multiplier: int, padding: int = 1) -> Calls:
    return net(
        lambda m, x: m.out(m.dw(m.a(x).relu()).relu()),
        a=conv(3, 5),
        dw=conv(5, 5 * multiplier, 3, groups=5, padding=padding),
        out=conv(5 * multiplier, 2),
    )


def test_a_depthwise_convolution_joins_its_input_and_output() -> None:
    model = depthwise(1)
    unread_(model.out, 2)
    result = checked(model)
    assert result.removed("a") == result.removed("dw") == {2}
    assert result.model.get_submodule("dw").groups == 4


def test_a_depthwise_convolution_of_which_one_channel_is_left_is_cut_to_it() -> None:
    model = depthwise(1)
    unread_(model.out, 0, 1, 2, 3)
    result = checked(model)
    assert result.removed("a") == result.removed("dw") == {0, 1, 2, 3}
    assert result.model.get_submodule("dw").groups == 1


def test_a_grouped_convolution_of_which_one_group_is_left_is_cut_to_it() -> None:
    model = grouped(3, 9, 6)
    unread_(model.out, 0, 1, 4, 5)
    silent_(model.a, 0, 1, 2, 6, 7, 8)
    result = checked(model)
    assert result.removed("a") == {0, 1, 2, 6, 7, 8}
    assert result.removed("mid") == {0, 1, 4, 5}


def test_a_zero_depthwise_kernel_kills_what_it_reads() -> None:
    model = depthwise(1)
    silent_(model.dw, 0, 4)
    assert checked(model).removed("a") == {0, 4}


def test_a_zero_before_a_depthwise_convolution_leaves_its_bias_alive() -> None:
    model = depthwise(1)
    silent_(model.a, 1)
    with torch.no_grad():
        model.dw.bias[1] = 2.0
    assert checked(model).removed("a") == {1}


def test_a_depth_multiplier_keeps_a_group_while_one_of_its_outputs_is_read() -> None:
    model = depthwise(2)
    unread_(model.out, 4)
    assert checked(model).removed("a") == set()
    unread_(model.out, 5)
    result = checked(model)
    assert result.removed("a") == {2}
    assert result.removed("dw") == {4, 5}
    assert result.model.get_submodule("dw").weight.shape == (8, 1, 3, 3)


def test_a_padded_depthwise_reader_folds_no_constant() -> None:
    model = net(
        lambda m, x: m.out(m.dw(m.bn(m.a(x)).relu()).relu()),
        a=conv(3, 5),
        bn=nn.BatchNorm2d(5),
        dw=conv(5, 5, 3, groups=5, padding=1),
        out=conv(5, 2),
    )
    constant_(model.bn, {1: 0.5, 3: 0.7})
    assert checked(model).removed("a") == set()
    dead_scales_(model.bn, [1, 3], 0.0)
    assert checked(model).removed("a") == {1, 3}


def test_an_unpadded_depthwise_reader_passes_constants_on() -> None:
    model = net(
        lambda m, x: m.out(m.dw(m.bn(m.a(x)).relu())),
        a=conv(3, 5),
        bn=nn.BatchNorm2d(5),
        dw=conv(5, 5, 3, groups=5),
        out=conv(5, 2),
    )
    constant_(model.bn, {1: 0.5, 3: 0.7})
    assert checked(model).removed("a") == {1, 3}


def test_a_grouped_transposed_convolution_is_cut_rightly_or_not_at_all() -> None:
    def forward(m: Calls, x: Tensor) -> Tensor:
        result: Tensor = m.out(m.up(m.a(x).relu()).relu())
        return result

    model = net(
        forward, a=conv(3, 6), up=nn.ConvTranspose2d(6, 4, 2, stride=2, groups=2), out=conv(4, 2)
    )
    silent_(model.a, 0, 3)
    unread_(model.out, 1, 2)
    assert checked(model).removed("a") <= {0, 3}
