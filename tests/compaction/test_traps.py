"""Networks on which other tools go wrong: each trap is a sentence that is true of abscise."""

import torch
from torch import Tensor, nn
from torch.nn import Parameter, functional
from typing_extensions import override

import abscise
from support.compacting import check, noise
from support.equality import assert_equal
from support.small import Calls, constant_, conv, dead_scales_, flat, net, silent_, unread_

IMAGES = noise(8, 3, 8, 8)
ONE = noise(1, 3, 8, 8, seed=1)
SEVEN = noise(7, 3, 8, 8, seed=2)
WIDER = noise(2, 3, 11, 9, seed=3)
VECTORS = noise(8, 6)
EXAMPLE = noise(2, 3, 8, 8, seed=4)


def test_a_kernel_whose_entries_cancel_is_not_zero() -> None:
    model = net(lambda m, x: m.b(m.a(x)), a=conv(3, 4, bias=False), b=conv(4, 2, 3))
    sobel = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]], dtype=torch.float64)
    with torch.no_grad():
        _ = model.b.weight[:, 1].copy_(sobel)
    checked = check(model, EXAMPLE, IMAGES, ONE, SEVEN, WIDER)
    assert checked.removed("a") == set()


def test_weights_that_sum_to_zero_over_readers_are_not_zero() -> None:
    model = flat(lambda m, x: m.b(m.a(x).relu()), a=nn.Linear(6, 4), b=nn.Linear(4, 2))
    with torch.no_grad():
        model.b.weight[0, 1], model.b.weight[1, 1] = 1.5, -1.5
    assert check(model, VECTORS).removed("a") == set()


def test_a_dead_unit_before_a_flip_of_the_channels_goes_with_its_mirrored_reader() -> None:
    model = net(lambda m, x: m.b(m.a(x).flip(1)), a=conv(3, 5), b=conv(5, 2, 3))
    unread_(model.b, 0)
    assert check(model, EXAMPLE, IMAGES, ONE, WIDER).removed("a") == {4}


def test_a_dead_unit_before_a_flip_in_space_goes() -> None:
    model = net(lambda m, x: m.b(m.a(x).flip(2, 3)), a=conv(3, 5), b=conv(5, 2, 3))
    unread_(model.b, 1)
    assert check(model, EXAMPLE, IMAGES, ONE, WIDER).removed("a") == {1}


def test_a_roll_of_the_channels_never_moves_a_unit_to_another_reader() -> None:
    for dead in range(5):
        model = net(lambda m, x: m.b(m.a(x).roll(1, 1)), a=conv(3, 5), b=conv(5, 2, 3))
        unread_(model.b, dead)
        checked = check(model, EXAMPLE, IMAGES, ONE)
        source = (dead - 1) % 5
        assert checked.removed("a") == (set() if source == 4 else {source})


def test_a_dead_unit_before_a_roll_in_space_goes() -> None:
    model = net(lambda m, x: m.b(m.a(x).roll((1, 2), (2, 3))), a=conv(3, 5), b=conv(5, 2, 3))
    unread_(model.b, 1)
    assert check(model, EXAMPLE, IMAGES, ONE).removed("a") == {1}


def test_a_convolution_with_one_output_channel_is_not_depthwise() -> None:
    model = net(
        lambda m, x: m.b(m.mid(m.a(x).relu())), a=conv(3, 4), mid=conv(4, 1, 3), b=conv(1, 2, 3)
    )
    unread_(model.mid, 0, 2)
    checked = check(model, EXAMPLE, IMAGES, ONE)
    assert checked.removed("a") == {0, 2}
    assert checked.removed("mid") == set()


def test_a_convolution_from_one_channel_is_not_depthwise() -> None:
    model = net(
        lambda m, x: m.c(m.b(m.a(x).relu()).relu()), a=conv(3, 1), b=conv(1, 4, 3), c=conv(4, 2)
    )
    unread_(model.c, 3)
    checked = check(model, EXAMPLE, IMAGES, ONE)
    assert checked.removed("b") == {3}
    assert checked.removed("a") == set()


def shuffled(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def test_a_channel_shuffle_lets_only_equal_offsets_of_both_halves_go() -> None:
    model = net(lambda m, x: m.b(shuffled(m.a(x))), a=conv(3, 6), b=conv(6, 2, 3))
    unread_(model.b, 0)  # channel 0 of the first half
    assert check(model, EXAMPLE, IMAGES, ONE, WIDER).removed("a") == set()
    unread_(model.b, 1)  # channel 0 of the second half
    assert check(model, EXAMPLE, IMAGES, ONE, WIDER).removed("a") == {0, 3}


def test_a_chunk_never_sends_a_unit_to_the_other_half() -> None:
    def forward(m: Calls, x: Tensor) -> Tensor:
        left, right = m.a(x).chunk(2, 1)
        return m.left(left) + m.right(right)

    model = net(forward, a=conv(3, 6), left=conv(3, 2, 3), right=conv(3, 2, 3))
    unread_(model.left, 0)
    assert check(model, EXAMPLE, IMAGES, ONE).removed("a") == set()
    unread_(model.right, 2)
    assert len(check(model, EXAMPLE, IMAGES, ONE).removed("a")) == 2


def test_a_module_used_twice_keeps_a_unit_that_one_use_reads() -> None:
    model = net(
        lambda m, x: m.out(m.same(m.same(m.a(x)).relu())),
        a=conv(3, 5),
        same=conv(5, 5),
        out=conv(5, 2),
    )
    unread_(model.out, 0)  # but the first use of `same` feeds the second
    assert check(model, EXAMPLE, IMAGES, ONE).removed("same") == set()
    unread_(model.same, 0)
    silent_(model.same, 1)
    silent_(model.a, 1)
    checked = check(model, EXAMPLE, IMAGES, ONE)
    assert checked.removed("same") == checked.removed("a") == {0, 1}


def test_a_norm_used_twice_keeps_its_two_inputs_aligned() -> None:
    def forward(m: Calls, x: Tensor) -> Tensor:
        return m.out(m.bn(m.b(m.bn(m.a(x)).relu())).relu())

    model = net(forward, a=conv(3, 5), b=conv(5, 5), bn=nn.BatchNorm2d(5), out=conv(5, 2))
    dead_scales_(model.bn, [1, 4])
    checked = check(model, EXAMPLE, IMAGES, ONE, WIDER)
    assert checked.removed("a") == checked.removed("b") == checked.removed("bn") == {1, 4}


def test_two_modules_that_share_a_parameter_stay_tied_and_lose_the_same_units() -> None:
    model = flat(
        lambda m, x: m.out(m.c(m.b(m.a(x).relu()).relu()).relu()),
        a=nn.Linear(6, 5),
        b=nn.Linear(5, 5, bias=False),
        c=nn.Linear(5, 5, bias=False),
        out=nn.Linear(5, 2),
    )
    model.c.weight = model.b.weight
    unread_(model.out, 2)
    assert check(model, VECTORS).removed("b") == set()
    unread_(model.b, 2)
    checked = check(model, VECTORS)
    assert checked.removed("a") == checked.removed("b") == {2}
    assert checked.model.get_submodule("b").weight is checked.model.get_submodule("c").weight


def test_a_parameter_used_directly_in_forward_kills_and_is_cut() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = conv(3, 5), conv(5, 2, 3, padding=1)
            self.scale = Parameter(noise(5, 1, 1))

        @override
        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x) * self.scale)

    model = Scaled().double().eval()
    with torch.no_grad():
        model.scale[3] = 0
    checked = check(model, EXAMPLE, IMAGES, ONE, WIDER)
    assert checked.removed("a") == {3}
    assert checked.model.get_parameter("scale").shape == (4, 1, 1)


def test_zero_rows_in_the_last_layer_stay() -> None:
    model = flat(lambda m, x: m.b(m.a(x).relu()), a=nn.Linear(6, 4), b=nn.Linear(4, 3))
    silent_(model.b, 1)
    unread_(model.b, 2)
    checked = check(model, VECTORS)
    assert checked.removed("b") == set()
    assert checked.removed("a") == {2}


def test_zero_rows_in_the_last_convolution_stay() -> None:
    model = net(lambda m, x: m.b(m.a(x).relu()), a=conv(3, 4), b=conv(4, 3, 3, padding=1))
    silent_(model.b, 0)
    assert check(model, EXAMPLE, IMAGES, ONE, WIDER).removed("b") == set()


def test_when_everything_is_dead_no_tensor_becomes_empty() -> None:
    model = net(
        lambda m, x: m.fc(m.b(m.bn(m.a(x)).relu()).mean((2, 3))),
        a=conv(3, 5),
        bn=nn.BatchNorm2d(5),
        b=conv(5, 4, 3, padding=1),
        fc=nn.Linear(4, 2),
    )
    dead_scales_(model.bn, range(5), 0.7)
    checked = check(model, EXAMPLE, IMAGES, ONE, SEVEN, WIDER)
    assert len(checked.removed("a")) >= 4
    silent_(model.b, 0, 1, 2, 3)
    silent_(model.fc, 0, 1)
    with torch.no_grad():
        for parameter in model.parameters():
            _ = parameter.zero_()
    checked = check(model, EXAMPLE, IMAGES, ONE, SEVEN, WIDER)
    assert len(checked.removed("b")) == 3


def test_a_norm_after_a_dead_convolution_makes_a_constant_of_it() -> None:
    model = net(
        lambda m, x: m.b(m.bn(m.a(x)).relu()), a=conv(3, 5), bn=nn.BatchNorm2d(5), b=conv(5, 2, 3)
    )
    silent_(model.a, 0, 3)
    with torch.no_grad():  # the constant is beta - gamma * mean / std, here clearly above zero
        model.bn.bias[0] = model.bn.bias[3] = 9.0
    assert check(model, EXAMPLE, IMAGES, ONE, WIDER).removed("a") == {0, 3}


def test_a_positive_constant_through_a_padded_convolution_is_exact_at_two_sizes() -> None:
    model = net(
        lambda m, x: m.b(m.bn(m.a(x)).relu()),
        a=conv(3, 6),
        bn=nn.BatchNorm2d(6),
        b=conv(6, 2, 3, padding=1),
    )
    constant_(model.bn, {0: 0.5, 2: 1.5, 5: 0.1})
    assert len(check(model, EXAMPLE, IMAGES, ONE, WIDER).removed("a")) == 2


def test_residual_branches_that_die_differently_keep_what_one_of_them_writes() -> None:
    model = net(
        lambda m, x: m.out((m.bn1(m.a(x)) + m.bn2(m.b(x))).relu()),
        a=conv(3, 6),
        b=conv(3, 6),
        bn1=nn.BatchNorm2d(6),
        bn2=nn.BatchNorm2d(6),
        out=conv(6, 2, 3, padding=1),
    )
    dead_scales_(model.bn1, [0, 1, 2])
    dead_scales_(model.bn2, [2, 3])
    checked = check(model, EXAMPLE, IMAGES, ONE, WIDER)
    assert checked.removed("a") == checked.removed("b") == {2}


def test_a_stream_unit_that_one_block_still_reads_stays() -> None:
    model = net(
        lambda m, x: m.out(m.a(x) + m.block(m.a(x))), a=conv(3, 4), block=conv(4, 4), out=conv(4, 2)
    )
    unread_(model.out, 1, 2)
    unread_(model.block, 1)
    checked = check(model, EXAMPLE, IMAGES, ONE)
    assert checked.removed("a") == checked.removed("block") == {1}


def test_a_concat_of_partly_dead_branches_cuts_the_right_columns() -> None:
    model = net(
        lambda m, x: m.out(torch.cat((m.a(x), x, m.b(x)), 1)),
        a=conv(3, 4),
        b=conv(3, 5),
        out=conv(12, 2, 3, padding=1),
    )
    silent_(model.a, 1)
    silent_(model.b, 0, 4)
    checked = check(model, EXAMPLE, IMAGES, ONE, WIDER)
    assert checked.removed("a") == {1}
    assert checked.removed("b") == {0, 4}
    assert checked.removed("out", 1) == {1, 7, 11}


def test_flatten_before_a_linear_layer_cuts_a_block_of_columns_a_unit() -> None:
    model = net(lambda m, x: m.fc(m.a(x).relu().flatten(1)), a=conv(3, 4, 3), fc=nn.Linear(144, 2))
    silent_(model.a, 2)
    checked = check(model, EXAMPLE, IMAGES, ONE)
    assert checked.removed("a") == {2}
    assert checked.removed("fc", 1) == set(range(72, 108))


def test_a_unit_that_one_column_after_the_flatten_reads_stays() -> None:
    model = net(lambda m, x: m.fc(m.a(x).relu().flatten(1)), a=conv(3, 4, 3), fc=nn.Linear(144, 2))
    with torch.no_grad():
        model.fc.weight[:, 36:71] = 0
    assert check(model, EXAMPLE, IMAGES).removed("a") == set()
    with torch.no_grad():
        model.fc.weight[:, 71] = 0
    assert check(model, EXAMPLE, IMAGES).removed("a") == {1}


def test_a_transposed_convolution_loses_inputs_and_outputs() -> None:
    model = net(
        lambda m, x: m.out(m.bn(m.up(m.a(x).relu())).relu()),
        a=conv(3, 4),
        up=nn.ConvTranspose2d(4, 5, 3, stride=2, padding=1, output_padding=1),
        bn=nn.BatchNorm2d(5),
        out=conv(5, 2),
    )
    silent_(model.a, 3)
    dead_scales_(model.bn, [0, 2])
    checked = check(model, EXAMPLE, IMAGES, ONE, WIDER)
    assert checked.removed("a") == checked.removed("up", 0) == {3}
    assert checked.removed("up", 1) == checked.removed("bn") == {0, 2}


def test_dropout_changes_nothing() -> None:
    model = net(
        lambda m, x: m.b(functional.dropout(m.drop(m.a(x).relu()), 0.5, m.training)),
        a=conv(3, 4),
        drop=nn.Dropout2d(0.5),
        b=conv(4, 2),
    )
    silent_(model.a, 1)
    assert check(model, EXAMPLE, IMAGES, ONE).removed("a") == {1}


def test_example_inputs_of_one_row_serve_for_seven() -> None:
    model = net(
        lambda m, x: m.fc(m.a(x).relu().view(x.shape[0], -1)), a=conv(3, 4, 3), fc=nn.Linear(144, 2)
    )
    silent_(model.a, 0)
    checked = check(model, ONE, SEVEN, ONE)
    assert checked.removed("a") == {0}


def test_two_calls_do_not_share_state() -> None:
    model = net(lambda m, x: m.b(m.a(x)), a=conv(3, 4), b=conv(4, 2))
    silent_(model.a, 1)
    first, second = abscise.propose(model, EXAMPLE), abscise.propose(model, EXAMPLE)
    assert first == second
    copies = abscise.apply(first, model), abscise.apply(second, model)
    with torch.no_grad():
        for parameter in copies[0].parameters():
            _ = parameter.zero_()
    assert_equal(model, copies[1], IMAGES)
