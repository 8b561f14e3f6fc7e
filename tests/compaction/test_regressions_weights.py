"""Traps of weights that forward computes, and of sizes that modules keep beside them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import Parameter, functional
from torch.nn.utils.parametrizations import weight_norm
from typing_extensions import override

import abscise
from support.compacting import check, noise
from support.equality import difference
from support.small import conv, flat, net, silent_, unread_

EXAMPLE, IMAGES = noise(2, 3, 8, 8, seed=4), noise(8, 3, 8, 8)
ONE, SEVEN, WIDER = noise(1, 3, 8, 8, seed=5), noise(7, 3, 8, 8, seed=9), noise(2, 3, 12, 10)
ALL = (IMAGES, ONE, SEVEN, WIDER)
VECTORS = noise(8, 6), noise(1, 6, seed=3), noise(7, 6, seed=2)
PAIR = VECTORS[0][:2]


def assert_exact(model: nn.Module, example: Tensor, *batches: Tensor) -> abscise.Plan:
    plan = abscise.propose(model, example)
    assert difference(model, abscise.apply(plan, model), batches).relative < 1e-9
    return plan


class Frobenius(nn.Linear):
    @override
    def forward(self, input: Tensor) -> Tensor:
        return functional.linear(input, self.weight / self.weight.norm(), self.bias)


class Total(nn.Linear):
    @override
    def forward(self, input: Tensor) -> Tensor:
        return functional.linear(input, self.weight * self.weight.abs().sum(), self.bias)


def assert_the_crossing_counts(model: nn.Module, weight: Tensor, example: Tensor) -> None:
    """Row 1 is unread, column 2 reads for row 1 alone; yet their crossing is in the norm."""
    with torch.no_grad():
        weight[1] = 0
        weight[:, 2] = 0
        weight[1, 2] = 5.0
    assert_exact(model, example, *(VECTORS if example.ndim == 2 else ALL))


@pytest.mark.parametrize("layer", [Frobenius, Total])
def test_an_element_that_is_normed_with_all_others_counts_even_where_its_row_goes(
    layer: type[nn.Linear],
) -> None:
    model = flat(
        lambda m, x: m.c(m.b(m.a(x).relu()).relu()),
        a=nn.Linear(6, 5),
        b=layer(5, 4),
        c=nn.Linear(4, 2),
    )
    unread_(model.c, 1)
    assert_the_crossing_counts(model, model.b.weight, PAIR)


def test_the_same_where_the_norm_leaves_the_kernel_axis() -> None:
    model = net(
        lambda m, x: m.c(m.b(m.a(x).relu()).relu()),
        a=conv(3, 5),
        b=weight_norm(conv(5, 4, 3), dim=2),
        c=conv(4, 2),
    )
    unread_(model.c, 1)
    assert_the_crossing_counts(model, model.b.parametrizations.weight.original1, EXAMPLE)


class LowRank(nn.Linear):
    """A weight, and beside it a product of two small ones."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.down = Parameter(torch.randn(2, inputs))
        self.up = Parameter(torch.randn(outputs, 2))

    @override
    def forward(self, input: Tensor) -> Tensor:
        own = functional.linear(input, self.weight, self.bias)
        return own + (input @ self.down.T @ self.up.T) / self.in_features


def test_a_module_that_multiplies_other_weights_too_keeps_its_own_sizes() -> None:
    model = flat(
        lambda m, x: m.c(m.b(m.a(x).relu()).relu()),
        a=nn.Linear(6, 5),
        b=LowRank(5, 4),
        c=nn.Linear(4, 2),
    )
    result = check(model, PAIR, *VECTORS)
    assert isinstance(result.model.b, LowRank)
    assert result.model.b.in_features == 5
    layers = [row.layer for row in result.plan.layers]
    assert layers == ["a", "b", "b.down", "b.up", "c"]


def test_every_weight_of_one_forward_has_a_name_of_its_own() -> None:
    class Stack(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            sizes = {"a": (5, 6), "b": (4, 5), "c": (2, 4)}
            self.v = nn.ParameterDict({k: Parameter(noise(*size)) for k, size in sizes.items()})
            self.g = nn.ParameterDict(
                {k: Parameter(noise(size[0], 1).abs()) for k, size in sizes.items()}
            )

        @override
        def forward(self, x: Tensor) -> Tensor:
            for key in ("a", "b", "c"):
                x = functional.linear(x.relu(), torch._weight_norm(self.v[key], self.g[key], 0))
            return x

    model = Stack().eval()
    with torch.no_grad():
        model.v["c"][:, 2] = 0
    plan = assert_exact(model, PAIR, *VECTORS)
    assert plan.removed_units == 1
    assert len({row.layer for row in plan.layers}) == 3


class Shuffle(nn.Module):
    """Its `num_groups` are those of the shuffle, not of the norm."""

    num_groups = 2

    @override
    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x = functional.group_norm(x, 4)
        return x.view(n, self.num_groups, -1, h, w).transpose(1, 2).reshape(n, c, h, w)


def test_an_attribute_that_only_sounds_like_a_norms_stays() -> None:
    model = net(lambda m, x: m.b(m.s(m.a(x))), a=conv(3, 8), s=Shuffle(), b=conv(8, 2))
    assert not abscise.propose(model, EXAMPLE).attributes
    assert_exact(model, EXAMPLE, *ALL)


class OwnNorm(nn.Module):
    """Groups of two channels, however many channels there are."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = Parameter(torch.ones(channels))

    @property
    def num_groups(self) -> int:
        return self.weight.shape[0] // 2

    @override
    def forward(self, x: Tensor) -> Tensor:
        return functional.group_norm(x, self.num_groups, self.weight)


def test_a_size_that_a_module_computes_needs_no_edit() -> None:
    model = net(lambda m, x: m.b(m.n(m.a(x)).relu()), a=conv(3, 6), n=OwnNorm(6), b=conv(6, 2))
    unread_(model.b, 2, 3)
    assert assert_exact(model, EXAMPLE, *ALL).removed_units == 1


def test_a_forward_that_uses_half_of_its_weight_keeps_its_sizes() -> None:
    class Slim(nn.Conv2d):
        @override
        def forward(self, input: Tensor) -> Tensor:
            half = self.out_channels // 2
            return functional.conv2d(input, self.weight[:half])

    model = net(lambda m, x: m.b(m.a(x).relu()), a=Slim(3, 8, 1), b=conv(4, 2))
    assert_exact(model, EXAMPLE, *ALL)


def test_the_last_unit_of_a_weight_normed_layer_stays_alone() -> None:
    model = net(lambda m, x: m.c(m.a(x).relu()), a=weight_norm(conv(3, 4)), c=conv(4, 2))
    unread_(model.c, 0, 1, 2)
    assert assert_exact(model, EXAMPLE, *ALL).removed_units == 3


@pytest.mark.parametrize(
    ("layer", "dim", "slices"),
    [(nn.Linear(6, 5), 1, 0), (nn.ConvTranspose2d(3, 5, 1), 0, (slice(None), 0))],
    ids=["linear", "transposed"],
)
def test_snap_leaves_lengths_that_are_not_the_units_own(
    layer: nn.Module, dim: int, slices: int | tuple[slice, int]
) -> None:
    linear = isinstance(layer, nn.Linear)
    build = flat if linear else net
    reader = nn.Linear(5, 2) if linear else conv(5, 2)
    model = build(lambda m, x: m.b(m.a(x).relu()), a=weight_norm(layer, dim=dim), b=reader)
    with torch.no_grad():
        model.a.parametrizations.weight.original1[slices] *= 1e-9
        model.a.bias[3] = -1e6
    data = VECTORS[0] if linear else IMAGES
    before = model.a.weight.clone()
    report = abscise.snap_(model, data, threshold=1e-3, data=data)
    assert torch.equal(model.a.weight, before)
    assert report.max_abs_diff == 0


class Standardised(nn.Conv2d):
    @override
    def forward(self, input: Tensor) -> Tensor:
        w, dims = self.weight, (1, 2, 3)
        spread = w.var(dims, keepdim=True).add(1e-10).sqrt()
        return functional.conv2d(input, (w - w.mean(dims, keepdim=True)) / spread, padding=1)


def test_rounding_that_forward_has_is_no_zero() -> None:
    model = net(
        lambda m, x: m.b(m.a(m.z(x)).relu()),
        z=conv(3, 6),
        a=Standardised(6, 5, 3),
        b=conv(5, 2),
    )
    with torch.no_grad():
        model.a.weight[1] = 0.1  # its standardised row is rounding divided by a tiny number
    model = model.float()
    plan = abscise.propose(model, EXAMPLE.float())
    compacted = abscise.apply(plan, model)
    assert difference(model, compacted, [IMAGES.float()]).relative < 1e-5


Cut = Callable[[Any, Tensor], Tensor]


@pytest.mark.parametrize(
    ("cut", "vectors"),
    [
        (lambda m, x: m.pos.weight[:, : x.shape[0]], True),
        (lambda m, x: functional.pad(m.pos.weight, (0, x.shape[0])), True),
        (lambda m, x: m.pos.weight[:, : x.shape[-1]], False),
    ],
    ids=["cut to the batch", "padded by the batch", "cut to the width"],
)
def test_a_table_that_follows_the_inputs_size_is_no_constant(cut: Cut, *, vectors: bool) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        table = cut(m, x).mean(1)
        if vectors:
            return m.b((m.a(x) + table).relu())
        return m.b((m.a(x).mean(3) + table[:, None]).mean(2).relu())

    build, first = (flat, nn.Linear(6, 5)) if vectors else (net, conv(3, 5))
    model = build(forward, a=first, pos=nn.Linear(16, 5), b=nn.Linear(5, 2))
    silent_(model.a, 1)
    with torch.no_grad():
        model.pos.weight[1] = torch.arange(16.0) + 1
    assert_exact(model, PAIR if vectors else EXAMPLE, *(VECTORS if vectors else ALL))


def test_element_wise_steps_on_weights_round_as_forward_does() -> None:
    class Shifted(Standardised):
        def __init__(self) -> None:
            super().__init__(6, 5, 3, bias=False)
            self.shift = Parameter(noise(5, 6, 3, 3, seed=8))

        @override
        def forward(self, input: Tensor) -> Tensor:
            w, dims = self.weight + self.shift - self.shift, (1, 2, 3)
            spread = w.var(dims, keepdim=True).add(1e-10).sqrt()
            return functional.conv2d(input, (w - w.mean(dims, keepdim=True)) / spread, padding=1)

    model = net(
        lambda m, x: m.b(m.a(m.z(x)).relu()), z=conv(3, 6), a=Shifted(), b=conv(5, 2)
    ).float()
    with torch.no_grad():
        model.a.weight[1] = 0.25
    compacted = abscise.apply(abscise.propose(model, EXAMPLE.float()), model)
    assert difference(model, compacted, [IMAGES.float()]).relative < 1e-5
