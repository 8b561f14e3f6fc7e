"""Readers that drop inputs which live on for others: what may be selected, and what may not."""

import copy
import importlib.util
import io
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

import abscise
from abscise._errors import PlanError
from abscise._explain import explain
from abscise.compaction import Plan, Selection, _selecting, plan_from_json, plan_to_json
from abscise.compaction._select_inputs import may_select
from abscise.compaction._selecting import pays
from support.compacting import Checked, check, check_compact, noise, trained
from support.effort import examples
from support.equality import assert_equal, difference, untouched
from support.networks import FAMILIES
from support.planting import kill_columns_, kill_scales_, plant_
from support.small import Calls, constant_, conv, dead_scales_, flat, net, silent_, unread_
from support.torchvision_shim import torchvision_models

IMAGES = noise(8, 3, 8, 8)
ONE = noise(1, 3, 8, 8, seed=1)
SEVEN = noise(7, 3, 12, 10, seed=2)
EXAMPLE = noise(2, 3, 8, 8, seed=4)
VECTORS = noise(8, 6)


def selected(plan: Plan) -> dict[str, set[int]]:
    """Reader -> the inputs that it alone drops."""
    return {item.module: set(item.dropped) for item in plan.selections}


def checked(model: nn.Module) -> Checked:
    return check(model, EXAMPLE, IMAGES, ONE, SEVEN)


def shared(reader: nn.Module, *, width: int = 12) -> Calls:
    """A layer whose units `b`, of `reader`'s type, and `c` read; the head reads both."""
    return net(
        lambda m, x: torch.cat([t.mean((2, 3)) for t in two(m, m.a(x).relu())], 1),
        a=conv(3, width),
        b=reader,
        c=conv(width, 2),
    )


def two(m: Calls, x: Tensor) -> tuple[Tensor, Tensor]:
    return m.b(x), m.c(x)


def dense_block() -> Calls:
    """Two layers of a dense block: each has a norm of its own over what it reads."""

    def layer(m: Calls, x: Tensor, n: int) -> Tensor:
        norm, first, mid, last = (getattr(m, f"{name}{n}") for name in ("norm", "in", "mid", "out"))
        return torch.cat((x, last(mid(first(norm(x).relu())).relu())), 1)

    children: dict[str, nn.Module] = {"stem": conv(3, 16, 3, padding=1), "head": nn.Linear(32, 4)}
    for n, width in ((1, 16), (2, 24)):
        children[f"norm{n}"] = nn.BatchNorm2d(width)
        children[f"in{n}"] = conv(width, 64, bias=False)
        children[f"mid{n}"] = nn.BatchNorm2d(64)
        children[f"out{n}"] = conv(64, 8, 3, padding=1, bias=False)
    return net(lambda m, x: m.head(layer(m, layer(m, m.stem(x), 1), 2).mean((2, 3))), **children)


def planted_block() -> Calls:
    model = dense_block()
    dead_scales_(model.norm1, range(7))
    dead_scales_(model.norm2, range(5, 20))
    return model


def test_a_slice_that_is_dead_for_one_layer_of_a_dense_block_goes_there_only() -> None:
    model = planted_block()
    result = checked(model)
    assert result.plan.removals == ()
    assert selected(result.plan) == {"in1": set(range(7)), "in2": set(range(5, 20))}
    first, second = result.model.get_submodule("in1"), result.model.get_submodule("in2")
    assert first.get_buffer("kept_inputs").tolist() == list(range(7, 16))
    assert second.get_buffer("kept_inputs").tolist() == [*range(5), *range(20, 24)]
    assert first.in_channels == 9
    dense, small = abscise.measure(model, IMAGES), abscise.measure(result.model, IMAGES)
    assert dense.macs is not None
    assert small.macs is not None
    assert dense.macs - small.macs == (7 + 15) * 64 * IMAGES[:, 0].numel()


def test_a_live_slice_that_is_wrongly_dropped_is_seen() -> None:
    """The twin: the plan of a model in which the slice is dead, applied to one where it lives."""
    model = planted_block()
    live = copy.deepcopy(model)
    with torch.no_grad():
        live.norm2.weight[11] = 1
    plan = abscise.propose(model, EXAMPLE)
    with pytest.raises(PlanError, match=r"in2 can tell 1 of the inputs .* in2\[:, 11\]"):
        _ = abscise.apply(plan, live)
    wrong = abscise.apply(plan, live, structure_only=True)
    assert difference(live, wrong, [IMAGES]).relative > 1e-6


def test_a_wrong_index_in_the_buffer_is_seen() -> None:
    model = planted_block()
    compacted = abscise.apply(abscise.propose(model, EXAMPLE), model)
    compacted.get_submodule("in2").get_buffer("kept_inputs")[0] += 1
    assert difference(model, compacted, [IMAGES]).relative > 1e-6
    assert not abscise.verify(model, compacted, IMAGES).passed


def test_units_that_go_whole_shift_the_selection() -> None:
    model = planted_block()
    silent_(model.stem, 2, 9)
    result = checked(model)
    assert result.removed("stem") == {2, 9}
    dropped = selected(result.plan)
    assert dropped["in1"] == set(range(7)) - {2}
    assert dropped["in2"] == set(range(5, 20)) - {9}
    kept = result.model.get_submodule("in2").get_buffer("kept_inputs")
    assert kept.tolist() == [0, 1, 2, 3, *range(18, 22)]  # of 24 inputs, 2 and 9 are gone
    assert result.removed("in2", 1) == {2, 9}


@pytest.mark.parametrize("shift", [0.7, -0.7])
def test_another_constant_goes_into_the_running_mean_of_the_norm_behind(shift: float) -> None:
    model = dense_block()
    dead_scales_(model.norm2, range(5, 20), shift)
    result = checked(model)
    assert selected(result.plan) == {"in2": set(range(5, 20))}
    into = [(fold.reader, fold.into) for fold in result.plan.folds]
    assert into == ([("in2", "running_mean")] if shift > 0 else [])


def test_another_constant_goes_into_the_bias_of_the_reader() -> None:
    model = net(
        lambda m, x: m.b(m.n(m.a(x))).mean((2, 3)) + m.c(m.a(x)).mean((2, 3)),
        a=conv(3, 12),
        n=nn.BatchNorm2d(12),
        b=conv(12, 64),
        c=conv(12, 64),
    )
    dead_scales_(model.n, range(8), 0.5)
    result = checked(model)
    assert selected(result.plan) == {"b": set(range(8))}
    assert [fold.target for fold in result.plan.folds] == ["b.bias"]


def test_constants_in_front_of_padding_stay() -> None:
    model = net(
        lambda m, x: m.b(m.n(m.a(x))).mean((2, 3)) + m.c(m.a(x)).mean((2, 3)),
        a=conv(3, 12),
        n=nn.BatchNorm2d(12),
        b=conv(12, 64, 3, padding=1),
        c=conv(12, 64),
    )
    dead_scales_(model.n, range(8), 0.5)
    assert selected(checked(model).plan) == {}
    dead_scales_(model.n, range(8), 0.0)
    assert selected(checked(model).plan) == {"b": set(range(8))}


def test_a_carrier_whose_own_weights_are_zero_is_not_dropped() -> None:
    model = net(
        lambda m, x: (
            m.b(m.a(x).relu()).mean((2, 3))
            + m.d(m.a(x).relu() * x.mean(1, keepdim=True)).mean((2, 3))
        ),
        a=conv(3, 12),
        b=conv(12, 64, 3, padding=1),
        d=conv(12, 64),
    )
    constant_(model.a, {0: 3.0, 1: 1.0, 2: 0.5})
    unread_(model.b, 0, *range(4, 12))  # 0 would carry 1 and 2 into b
    unread_(model.d, 1, 2)
    result = checked(model)
    assert selected(result.plan) == {"b": set(range(4, 12))}
    assert result.removed("a") == {1, 2}
    restored = abscise.apply(result.plan, model)
    assert_equal(model, restored, IMAGES, SEVEN)


def test_a_residual_stream_is_dropped_where_only_one_block_does_not_read_it() -> None:
    model = net(
        lambda m, x: m.head((m.stem(x) + m.q(m.p(m.stem(x)).relu())).mean((2, 3))),
        stem=conv(3, 16),
        p=conv(16, 64, 3, padding=1),
        q=conv(64, 16),
        head=nn.Linear(16, 4),
    )
    unread_(model.p, *range(9))
    result = checked(model)
    assert result.plan.removals == ()
    assert selected(result.plan) == {"p": set(range(9))}


def test_border_pixels_that_a_perceptron_never_reads_go() -> None:
    model = flat(lambda m, x: m.b(m.a(x).relu()), a=nn.Linear(6, 96), b=nn.Linear(96, 3))
    unread_(model.a, 0, 5)
    result = check(model, VECTORS, VECTORS, noise(1, 6), noise(7, 6, seed=3))
    assert selected(result.plan) == {"a": {0, 5}}
    assert result.model.get_submodule("a").in_features == 4


def test_single_positions_of_flattened_channels_go() -> None:
    model = net(
        lambda m, x: m.b(m.a(x).relu().flatten(1)), a=conv(3, 3, 8, bias=False), b=nn.Linear(3, 80)
    )
    model = net(
        lambda m, x: m.b(functional.max_pool2d(m.a(x), 4).flatten(1)),
        a=conv(3, 3),
        b=nn.Linear(12, 80),
    )
    silent_(model.a, 0)
    unread_(model.b, 4, 7, 9, 11)
    result = check(model, EXAMPLE, IMAGES, ONE)
    assert result.removed("b", 1) == {0, 1, 2, 3}
    assert selected(result.plan) == {"b": {4, 7, 9, 11}}
    assert result.model.get_submodule("b").get_buffer("kept_inputs").tolist() == [1, 2, 4, 6]


def test_a_reader_keeps_one_input_at_least() -> None:
    model = shared(conv(12, 64))
    unread_(model.b, *range(12))
    assert selected(checked(model).plan) == {}
    model = shared(conv(12, 64))
    unread_(model.b, *range(11))
    assert selected(checked(model).plan) == {"b": set(range(11))}


def test_rows_that_go_do_not_read() -> None:
    model = shared(nn.Sequential(conv(12, 64), conv(64, 32)))
    silent_(model.b[0], 3)
    unread_(model.b[0], *range(7))
    with torch.no_grad():
        _ = model.b[0].weight[5, :7].fill_(1.0)  # a row that nothing reads
    unread_(model.b[1], 5)
    result = checked(model)
    assert result.removed("b.0") == {3, 5}
    assert selected(result.plan) == {"b.0": set(range(7))}


@pytest.mark.parametrize(
    "layer",
    [
        conv(12, 96, groups=3),
        conv(12, 96, groups=12),
        nn.ConvTranspose2d(12, 64, 1),
        conv(12, 64, 3, padding=1, padding_mode="circular"),
        weight_norm(conv(12, 64)),
    ],
    ids=["grouped", "depthwise", "transposed", "circular", "weight norm"],
)
def test_these_layers_read_all_their_inputs(layer: nn.Module) -> None:
    model = shared(layer)
    with torch.no_grad():
        weight = layer.weight if isinstance(layer.weight, nn.Parameter) else None
        for name, parameter in layer.named_parameters():
            if parameter.ndim > 1 and (weight is None or name == "weight"):
                axis = 0 if isinstance(layer, nn.ConvTranspose2d) else 1
                _ = parameter.narrow(axis, 0, max(1, parameter.shape[axis] * 2 // 3)).zero_()
    assert selected(abscise.propose(model, EXAMPLE)) == {}
    assert not may_select(layer)


Forward = Callable[[Calls, Tensor], Tensor]


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: m.b(x).mean((2, 3)) + m.b(x.flip(3)).std((2, 3)),
        lambda m, x: functional.conv2d(x, m.b.weight, m.b.bias).mean((2, 3)),
        lambda m, x: m.b(x).mean((2, 3)) * m.b.weight.sum(),
    ],
    ids=["called twice", "called by another", "weight read elsewhere"],
)
def test_a_weight_that_is_used_otherwise_reads_all_its_inputs(forward: Forward) -> None:
    model = net(
        lambda m, x: forward(m, m.a(x)) + m.c(m.a(x)).mean((2, 3)),
        a=conv(3, 12),
        b=conv(12, 64),
        c=conv(12, 64),
    )
    unread_(model.b, *range(8))
    assert selected(checked(model).plan) == {}


def test_tied_weights_read_all_their_inputs() -> None:
    model = shared(conv(12, 64))
    model.d = conv(12, 64).to(torch.float64)
    model.d.weight = model.b.weight
    unread_(model.b, *range(8))
    assert selected(checked(model).plan) == {}


def test_a_forward_of_its_own_reads_all_its_inputs() -> None:
    model = shared(conv(12, 64))
    layer = model.b
    layer.forward = lambda x: functional.conv2d(x, layer.weight, layer.bias)
    assert not may_select(layer)

    class Own(nn.Linear):
        """A subclass may do what it likes with its weight."""

    assert not may_select(Own(2, 2))


def test_few_slices_stay_because_the_copy_costs_more() -> None:
    model = shared(conv(12, 64))
    unread_(model.b, 3)
    assert abscise.propose(model, EXAMPLE).selections == ()
    assert pays(3200, 100)
    assert not pays(3199, 100)
    assert not pays(0, 0)


def test_a_stride_makes_a_selection_pay_less() -> None:
    every, fourth = shared(conv(12, 64)), shared(conv(12, 64, stride=2))
    for model in (every, fourth):
        unread_(model.b, *range(5))
    assert selected(checked(every).plan) == {"b": set(range(5))}
    assert selected(checked(fourth).plan) == {}


def test_a_size_that_forward_reads_gives_up_the_selection_and_no_unit() -> None:
    model = flat(
        lambda m, x: m.b(m.a(x).relu().view(-1, m.b.in_features)) + m.c(m.a(x)).sum(),
        a=nn.Linear(6, 12),
        b=nn.Linear(12, 96),
        c=nn.Linear(12, 2),
    )
    unread_(model.b, *range(8))
    silent_(model.a, 10)
    result = check(model, VECTORS)
    assert selected(result.plan) == {}
    assert result.removed("a") == {10}


def test_kept_layers_read_all_their_inputs() -> None:
    model = shared(conv(12, 64))
    unread_(model.b, *range(8))
    assert selected(abscise.propose(model, EXAMPLE)) == {"b": set(range(8))}
    assert selected(abscise.propose(model, EXAMPLE, keep=("b",))) == {}


def test_the_input_may_be_given_by_keyword() -> None:
    model = net(
        lambda m, x: m.b(input=m.a(x)).mean((2, 3)) + m.c(m.a(x)).mean((2, 3)),
        a=conv(3, 12),
        b=conv(12, 64),
        c=conv(12, 64),
    )
    unread_(model.b, *range(8))
    assert selected(checked(model).plan) == {"b": set(range(8))}


def test_an_image_without_a_batch_is_selected_too() -> None:
    model = net(
        lambda m, x: torch.stack([m.b(y).mean((1, 2)) + m.c(y).mean((1, 2)) for y in m.a(x)]),
        a=conv(3, 12),
        b=conv(12, 64),
        c=conv(12, 64),
    )
    unread_(model.b, *range(8))
    assert selected(abscise.propose(model, EXAMPLE)) == {}  # called once for every image

    def single(m: Calls, x: Tensor) -> Tensor:
        y = m.a(x[0])
        result: Tensor = m.b(y).mean((1, 2)) + m.c(y).mean((1, 2))
        return result[None]

    model.function = single
    plan = abscise.propose(model, EXAMPLE)
    assert selected(plan) == {"b": set(range(8))}
    compacted = abscise.apply(plan, model)
    for image in IMAGES:
        assert torch.allclose(model(image[None]), compacted(image[None]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_number_formats_and_layouts_are_selected_too(dtype: torch.dtype) -> None:
    model = planted_block().to(dtype)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    data = IMAGES.to(dtype, memory_format=torch.channels_last)
    plan = abscise.propose(model, data)
    compacted = abscise.apply(plan, model)
    assert selected(plan) == {"in1": set(range(7)), "in2": set(range(5, 20))}
    weight = compacted.get_submodule("out1").get_parameter("weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert compacted.get_submodule("in1").get_buffer("kept_inputs").dtype == torch.int64
    tolerance = 1e-4 if dtype == torch.float32 else 0.1
    assert torch.allclose(model(data), compacted(data), rtol=0, atol=tolerance)


def test_a_compacted_model_trains_through_the_selection() -> None:
    model = planted_block()
    compacted = abscise.apply(abscise.propose(model, EXAMPLE), model).train()
    compacted(IMAGES).square().sum().backward()
    for name, parameter in compacted.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all())
    gradient = compacted.get_parameter("stem.weight").grad
    assert gradient is not None
    assert gradient.abs().amax((1, 2, 3)).gt(0).all()


def test_pre_hooks_of_the_user_run_before_the_selection() -> None:
    model = shared(conv(12, 64))
    _ = model.b.register_forward_pre_hook(lambda _m, args: (args[0].flip(1),))
    unread_(model.b, *range(8))
    result = checked(model)
    assert selected(result.plan) == {"b": set(range(8))}
    assert len(model.b._forward_pre_hooks) == 1


def vectors_checked(model: nn.Module) -> Checked:
    return check(model, noise(2, 6), noise(8, 6), noise(1, 6), noise(7, 6))


def test_units_in_front_of_a_selection_may_go_in_a_later_round() -> None:
    model = flat(
        lambda m, x: m.b(m.a(x).relu()) + m.c(m.a(x).relu()),
        a=nn.Linear(6, 96),
        b=nn.Linear(96, 64),
        c=nn.Linear(96, 64),
    )
    unread_(model.b, *range(60))
    once = vectors_checked(model).model
    assert hasattr(once.b, "kept_inputs")
    unread_(once.get_submodule("c"), 0, 1)  # as if it had been trained on: dead for both now
    twice = vectors_checked(once)
    assert twice.removed("a") == {0, 1}
    assert twice.model.get_buffer("b.kept_inputs").tolist() == list(range(58, 94))
    again = vectors_checked(twice.model)
    assert not again.plan.removals


def test_an_index_of_the_user_that_would_leave_its_range_pins() -> None:
    model = flat(
        lambda m, x: m.b(m.a(x)[:, [3, 4, 5, 6, 7, 8, 9]]) + m.c(m.a(x)),
        a=nn.Linear(6, 10),
        b=nn.Linear(7, 3),
        c=nn.Linear(10, 3),
    )
    unread_(model.c, 0, 1)
    assert not vectors_checked(model).plan.removals


def test_a_hook_of_the_user_cannot_take_the_place_of_the_selection() -> None:
    model = planted_block()
    once = checked(model).model
    layer = next(m for m in once.modules() if hasattr(m, "kept_inputs"))
    assert [str(key) for key in layer._forward_pre_hooks] == ["kept_inputs"]
    seen: list[int] = []
    for _ in range(20):
        _ = layer.register_forward_pre_hook(lambda _module, _args: seen.append(1))
    with torch.no_grad():
        assert torch.equal(once(IMAGES), checked(model).model(IMAGES))
    assert len(seen) == 20


def test_compacting_again_removes_nothing_more() -> None:
    model = planted_block()
    once = checked(model).model
    with untouched(once):
        again = abscise.propose(once, EXAMPLE)
        assert not again.removals
        assert again.edits == ()
        assert len(again.selections) == len(abscise.propose(model, EXAMPLE).selections)
        assert explain(once, EXAMPLE, "stem", 0).readers
        assert abscise.find_units(once, EXAMPLE).layers.keys() >= {"stem", "in1"}
        _ = abscise.inspect(once, EXAMPLE)
    assert_equal(once, abscise.apply(again, once), IMAGES)


def test_a_selection_survives_saving_and_copying(tmp_path: Path) -> None:
    model = planted_block()
    compaction = abscise.compact(model, EXAMPLE, verify_inputs=IMAGES)
    assert compaction.certificate.passed
    abscise.save(tmp_path / "small", compaction)
    fresh = dense_block()
    with torch.no_grad():
        for parameter in fresh.parameters():
            _ = parameter.fill_(0.5)
    loaded = abscise.load(tmp_path / "small", fresh)
    assert_equal(model, loaded, IMAGES, SEVEN)
    assert_equal(model, copy.deepcopy(loaded), IMAGES)
    plan = plan_from_json(json.loads(json.dumps(plan_to_json(compaction.plan))))
    assert plan == compaction.plan


def test_a_layer_that_selects_is_saved_whole_and_exported() -> None:
    model = nn.Sequential(nn.Linear(6, 96), nn.ReLU(), nn.Linear(96, 3)).double()
    unread_(model[0], 0, 5)
    compacted = abscise.apply(abscise.propose(model, VECTORS), model)
    file = io.BytesIO()
    torch.save(compacted, file)
    _ = file.seek(0)
    whole = torch.load(file, weights_only=False)  # noqa: TID251 - the bytes written above
    assert_equal(model, whole, VECTORS)
    exported = torch.export.export(compacted, (VECTORS,)).module()
    assert torch.equal(exported(VECTORS), compacted(VECTORS))
    with pytest.warns(DeprecationWarning, match="jit"):
        traced = torch.jit.trace(compacted, VECTORS)
    assert torch.equal(traced(VECTORS), compacted(VECTORS))
    again = abscise.apply(abscise.propose(model, VECTORS), model)
    _ = again.load_state_dict(compacted.state_dict())
    assert_equal(model, again, VECTORS)


HOSTILE: list[tuple[Selection, str]] = [
    (Selection("head", 32, (31,)), "which forward does not call once|can tell"),
    (Selection("gone", 16, (0,)), "names module gone"),
    (Selection("norm1", 16, (0,)), "axis 1 of norm1.weight"),
    (Selection("in1", 17, (0,)), "axis 1 of in1.weight to have size 17"),
]


@pytest.mark.parametrize(("item", "message"), HOSTILE)
def test_a_selection_that_does_not_fit_the_model_is_refused(item: Selection, message: str) -> None:
    model = dense_block()
    found = plan_to_json(abscise.propose(planted_block(), EXAMPLE))
    found["selections"] = [{"module": item.module, "size": item.size, "dropped": [*item.dropped]}]
    found["attributes"] = []
    plan = plan_from_json(found)
    if item.module == "head":
        with pytest.raises(PlanError, match=message):
            _ = abscise.apply(plan, model)
        return
    with pytest.raises(PlanError, match=message):
        _ = abscise.apply(plan, model, structure_only=True)


SEEDS = st.integers(0, 2**20)


@pytest.mark.no_cover
@pytest.mark.parametrize("name", ["densenet", "resnet", "mlp", "inception", "unet", "vgg-bn"])
@given(seed=SEEDS)
@examples(2)
def test_selections_of_every_size_are_exact(name: str, seed: int) -> None:
    """The laws, with a cost model that takes every selection."""
    family = FAMILIES[name]
    network = family.build(seed)
    _ = plant_(network, seed)
    dice = Random(seed)
    with torch.no_grad():
        for _ in range(4):
            dice.choice([kill_scales_, kill_columns_])(network, dice)
    example = family.inputs(2, seed)
    with patch.object(_selecting, "MACS_PER_COPY", 0):
        result = check_compact(network, example, *(family.inputs(n, seed + n) for n in (8, 1, 7)))
        _ = check(result.model, example, *(family.inputs(n, seed + n) for n in (8, 1, 7)))


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed"
)
def test_torchvisions_densenet_multiplies_less() -> None:
    torch.manual_seed(0)
    model = trained(torchvision_models().densenet121(weights=None), noise(8, 3, 64, 64))
    slices = 0
    for name, module in model.named_modules():
        if name.endswith("norm1") and isinstance(module, nn.BatchNorm2d):
            dead_scales_(module, range(0, module.num_features, 2))
            slices += 1
    result = check_compact(model, noise(2, 3, 64, 64, seed=1), noise(6, 3, 64, 64, seed=2))
    assert len(result.plan.selections) == slices == 58
    data = noise(1, 3, 64, 64)
    dense, small = (abscise.measure(m, data).macs for m in (model, result.model))
    assert dense is not None
    assert small is not None
    assert small < 0.8 * dense
