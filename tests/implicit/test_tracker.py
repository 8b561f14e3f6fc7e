"""Tracker: counts what is dead, in any loop, and leaves the model as it was."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.nn.utils.prune import l1_unstructured
from torch.optim import Adam, AdamW
from torch.utils.data import DataLoader, TensorDataset
from typing_extensions import override

from abscise._errors import InputError, ModelError, StoreError
from abscise.implicit import (
    HISTOGRAM,
    Activity,
    JsonLines,
    Look,
    Record,
    TensorBoard,
    Tracker,
    activity,
)
from support.torchvision_shim import torchvision_models

X = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(8) % 4


class Net(nn.Module):
    """Convolution, norm, ReLU by function, a linear layer, ReLU by module, and the classes."""

    def __init__(self) -> None:
        super().__init__()
        _ = torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)
        self.hidden, self.relu = nn.Linear(80, 7), nn.ReLU()
        self.classes = nn.Linear(7, 4)

    @override
    def forward(self, images: Tensor) -> Tensor:
        features = torch.relu(self.norm(self.conv(images)))
        return self.classes(self.relu(self.hidden(features.flatten(1))))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(model(X), LABELS).backward()
        _ = optimizer.step()


def test_units_go_by_gamma_or_by_rows_and_the_outputs_are_no_units() -> None:
    model = Net()
    with torch.no_grad():
        model.norm.weight[:2] = torch.tensor([-5e-4, 5e-3])
        model.hidden.weight[0] = 2e-5
        model.hidden.weight[1] = torch.tensor([0.0] * 79 + [0.5])  # one weight left: it lives
    record = Tracker(model, X).record()
    shown = [(it.layer, it.units, it.scaled, it.dead[1e-3], it.dead[1e-2]) for it in record.layers]
    assert shown == [
        ("conv", 5, False, 0, 0),
        ("norm", 5, True, 1, 2),
        ("hidden", 7, False, 1, 1),
    ]
    assert (record.dead, record.units, record.gone) == (2, 17, ())


def test_each_unit_is_in_one_bin_of_the_histogram() -> None:
    model = Net()
    with torch.no_grad():
        model.norm.weight[:] = torch.tensor([0.0, 2e-12, 5e-4, -1.0, 500.0])
    layer = Tracker(model, X).record().layers[1]
    bins = [index for index, count in enumerate(layer.histogram) for _ in range(count)]
    assert bins == [0, 1, 9, 13, len(HISTOGRAM)]
    assert HISTOGRAM[8] <= 5e-4 < HISTOGRAM[9]


def test_a_unit_that_comes_back_is_counted_once() -> None:
    model, records = Net(), list[Record | Activity]()
    tracker = Tracker(model, X, every=1, sinks=[records.append])
    with torch.no_grad():
        for value in (1e-9, 1.0, 1.0):
            model.norm.weight[3] = value
            tracker.step()
    revived = [it.layers[1].revived for it in records if isinstance(it, Record)]
    assert revived == [0, 1, 0]


def test_a_layer_that_is_dead_as_a_whole_is_said() -> None:
    model = Net()
    with torch.no_grad():
        _ = model.norm.weight.fill_(1e-9)
    record = Tracker(model, X).record()
    assert record.gone == ("norm",)
    assert "all of norm is dead" in str(record)


def test_of_many_layers_that_are_dead_as_a_whole_the_first_are_named() -> None:
    layers = [layer for _ in range(6) for layer in (nn.Linear(4, 4), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(4, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            _ = parameter.zero_()
    assert "; all of 0, 2, 4 and 3 more is dead" in str(Tracker(model, torch.ones(2, 4)).record())
    assert "; no unit of 0, 2, 4 and 3 more ever fires" in str(activity(model, [torch.ones(2, 4)]))


def test_the_ratio_of_gradient_to_decay_is_that_of_their_sizes() -> None:
    model = Net()
    optimizer = Adam(model.parameters(), weight_decay=0.1)
    tracker = Tracker(model, X, optimizer)
    assert {layer.gradient_to_decay for layer in tracker.record().layers} == {None}
    cross_entropy(model(X), LABELS).backward()
    assert model.hidden.weight.grad is not None
    expected = float(model.hidden.weight.grad.norm() / (0.1 * model.hidden.weight.norm()).detach())
    assert tracker.record().layers[2].gradient_to_decay == pytest.approx(expected)
    plain = Tracker(model, X, Adam(model.parameters()))
    assert {layer.gradient_to_decay for layer in plain.record().layers} == {None}


def test_the_optimizers_steps_are_counted_until_it_is_left() -> None:
    model, records = Net(), list[Record | Activity]()
    optimizer = Adam(model.parameters())
    with Tracker(model, X, optimizer, every=2, sinks=[records.append]) as tracker:
        train(model, optimizer, 5)
        with pytest.raises(ValueError, match="leave out step"):
            tracker.step()
    train(model, optimizer, 5)
    assert [record.step for record in records] == [2, 4]
    assert tracker.state_dict()["steps"] == 5


def test_training_is_the_same_with_a_tracker_bit_for_bit() -> None:
    def trained(*, tracked: bool) -> tuple[dict[str, Tensor], Tensor]:
        model = Net()
        optimizer = Adam(model.parameters(), weight_decay=1e-3)
        tracker = Tracker(model, X, optimizer, every=1, look=Look([X], every=2))
        if tracked:
            with tracker:
                train(model, optimizer, 6)
        else:
            train(model, optimizer, 6)
        return model.state_dict(), torch.get_rng_state()

    (ours, random), (plain, other) = trained(tracked=True), trained(tracked=False)
    assert all(torch.equal(value, plain[name]) for name, value in ours.items())
    assert torch.equal(random, other)


def test_attached_twice_is_refused_and_after_leaving_it_is_not() -> None:
    model = Net()
    optimizer = Adam(model.parameters())
    first, second = Tracker(model, X, optimizer), Tracker(model, X, optimizer)
    with first:
        with pytest.raises(ValueError, match="attached to this optimizer already"):
            _ = second.__enter__()
        with pytest.raises(ValueError, match="attached to this optimizer already"):
            _ = first.__enter__()
    with second:
        pass
    with pytest.raises(ValueError, match="needs the optimizer"):
        _ = Tracker(model, X).__enter__()


def test_after_an_exception_model_and_optimizer_are_as_before() -> None:
    class StopError(Exception):
        pass

    def stop(_: object) -> None:
        raise StopError

    model = Net().eval()
    optimizer = Adam(model.parameters())
    before = set(vars(optimizer))
    modes = [module.training for module in model.modules()]
    with Tracker(model, X, optimizer, every=2, sinks=[stop]), pytest.raises(StopError):
        train(model, optimizer, 2)
    assert set(vars(optimizer)) == before
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks for module in model.modules())
    train(model, optimizer, 2)


def test_a_step_that_the_scaler_skips_does_not_count() -> None:
    model = Net()
    optimizer = AdamW(model.parameters(), fused=True)  # called even for a skipped step
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    counted = []
    with Tracker(model, X, optimizer) as tracker:
        for factor in (1.0, torch.inf, 1.0):
            optimizer.zero_grad()
            _ = scaler.scale(cross_entropy(model(X), LABELS) * factor).backward()
            _ = scaler.step(optimizer)
            scaler.update()
            counted.append(tracker.state_dict()["steps"])
    assert counted == [1, 1, 2]


def test_a_step_that_calls_the_one_of_its_base_class_counts_once() -> None:
    class Own(Adam):
        @override
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    model, calls = Net(), list[None]()
    optimizer = Own(model.parameters())
    _ = optimizer.register_step_post_hook(lambda *_: calls.append(None))
    with Tracker(model, X, optimizer) as tracker:
        train(model, optimizer, 3)
    assert (tracker.state_dict()["steps"], len(calls)) == (3, 6)


def mask(layer: nn.Module) -> None:
    _ = l1_unstructured(layer, "weight", 300)


@pytest.mark.parametrize("how", [weight_norm, spectral_norm, mask])
def test_weights_that_are_computed_are_looked_at_as_they_run(how: Any) -> None:
    model = Net()
    how(model.hidden)
    optimizer = Adam(model.parameters())
    with Tracker(model, X, optimizer) as tracker:
        train(model, optimizer, 1)
        _ = model(X)  # a mask is laid on before each forward
        before = {name: value.clone() for name, value in model.state_dict().items()}
        record = tracker.record().layers[-1]
        again = model.eval().state_dict()
    assert all(torch.equal(value, again[name]) for name, value in before.items())
    sizes = model.hidden.weight.detach().abs().amax(1).double()
    assert (record.layer, record.units) == ("hidden", 7)
    edges = torch.tensor(HISTOGRAM, dtype=torch.float64)
    expected = torch.bucketize(sizes, edges, right=True).bincount(minlength=len(HISTOGRAM) + 1)
    assert list(record.histogram) == expected.tolist()


def test_a_state_is_gone_on_from() -> None:
    model, records = Net(), list[Record | Activity]()
    first = Tracker(model, X, every=1)
    with torch.no_grad():
        model.norm.weight[0] = 0.0
    first.step()
    second = Tracker(model, X, every=1, sinks=[records.append])
    second.load_state_dict(first.state_dict())
    with torch.no_grad():
        model.norm.weight[0] = 1.0
    second.step()
    (record,) = records
    assert isinstance(record, Record)
    assert (record.step, record.layers[1].revived) == (2, 1)
    with pytest.raises(ValueError, match="other layers"):
        Tracker(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), X[:, :, 0, :3]).load_state_dict(
            first.state_dict()
        )


def test_lines_of_json_are_whole_and_a_resumed_run_writes_none_twice(tmp_path: Path) -> None:
    path, model = tmp_path / "new" / "units.jsonl", Net()
    tracker = Tracker(model, X, every=1, look=Look([X], every=2), sinks=[JsonLines(path)])
    tracker.step()
    state = tracker.state_dict()
    for _ in range(3):
        tracker.step()
    again = Tracker(model, X, every=1, look=Look([X], every=2), sinks=[JsonLines(path)])
    again.load_state_dict(state)
    again.step()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(it["step"], it["kind"]) for it in lines] == [
        (1, "weights"),
        (2, "weights"),
        (2, "activity"),
    ]
    _ = path.write_text('{"step": 1}\n{"st')
    with pytest.raises(StoreError, match="cannot be continued"):
        again.load_state_dict(state)


def test_what_a_lost_power_supply_left_of_a_line_is_written_again(tmp_path: Path) -> None:
    path, model = tmp_path / "units.jsonl", Net()
    tracker = Tracker(model, X, every=1, sinks=[JsonLines(path)])
    for _ in range(3):
        tracker.step()
    whole, state = path.read_bytes(), {**tracker.state_dict(), "steps": 1}
    _ = path.write_bytes(whole[:-9])
    again = Tracker(model, X, every=1, sinks=[JsonLines(path)])
    again.load_state_dict(state)
    again.step()
    again.step()
    assert path.read_bytes() == whole
    for other in (b"a note of mine", b"[" * 100_000 + b"\n"):
        _ = path.write_bytes(other)
        with pytest.raises(StoreError, match="cannot be continued"):
            again.load_state_dict(state)
        assert path.read_bytes() == other


class Numbers:
    """What a TensorBoard writer is asked to write."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, int], float] = {}

    def add_scalar(self, tag: str, scalar_value: float, global_step: int, /) -> None:
        self.seen[tag, global_step] = scalar_value


def test_a_writer_of_the_users_gets_the_share_of_dead_units() -> None:
    model, writer = Net(), Numbers()
    with torch.no_grad():
        _ = model.norm.weight[:2].fill_(0.0)
        _ = model.norm.bias[:2].fill_(-1.0)
    tracker = Tracker(model, X, every=1, look=Look([X], every=1), sinks=[TensorBoard(writer)])
    tracker.step()
    assert writer.seen["dead/norm", 1] == 0.4
    assert writer.seen["silent/conv", 1] == 0.4
    assert 0 <= writer.seen["selectivity/conv", 1] <= 1


def one_unit_each() -> nn.Module:
    """Units: fires for class 0; for both classes; never; for one sample of class 1."""
    layer = nn.Linear(3, 4)
    with torch.no_grad():
        layer.weight[:] = torch.tensor([[1.0, 0, 0], [1, 1, 0], [-1, -1, -1], [0, 0, 1]])
        _ = layer.bias.zero_()
    return nn.Sequential(layer, nn.ReLU(), nn.Linear(4, 2))


def test_selectivity_silence_and_classes_are_those_counted_by_hand() -> None:
    data = torch.tensor([[1.0, 0, 0], [2, 0, 0], [0, 3, 0], [0, 1, 1]])
    labels = torch.tensor([0, 0, 1, 1])
    batches = [(data[:3], labels[:3]), (data[3:], labels[3:])]
    found = activity(one_unit_each(), batches, labelled=True)
    (layer,) = found.layers
    assert (layer.layer, layer.silent, found.samples) == ("0", 1, 4)
    assert layer.selectivity.tolist() == [0.5, 0.0, 1.0, 0.75]
    assert layer.mean_universality == pytest.approx((0.5 + 1 + 0.25) / 3)
    assert layer.of_one_class == (1, 1)
    assert layer.fired is not None
    assert layer.fired.tolist() == [[2, 2, 0, 0], [0, 2, 0, 1]]
    assert "1 of 4 units silent on 4 samples (this pass took" in str(found)
    assert json.loads(json.dumps(found.to_json()))["layers"][0]["of_one_class"] == [1, 1]


def test_one_batch_or_many_make_no_difference() -> None:
    model = Net()
    whole, parts = activity(model, [X]), activity(model, list(X.split(3)))
    assert [it.layer for it in whole.layers] == ["conv", "hidden"]
    for one, other in zip(whole.layers, parts.layers, strict=True):
        assert torch.equal(one.selectivity, other.selectivity)
        torch.testing.assert_close(one.peaks, other.peaks)


def test_the_largest_activation_over_the_map_counts() -> None:
    model = Net().eval()
    features = torch.relu(model.norm(model.conv(X))).detach().abs()
    (conv, _) = activity(model, [X]).layers
    torch.testing.assert_close(conv.peaks, features.amax((0, 2, 3)))


def test_a_layer_that_never_fires_is_said_and_has_no_selectivity() -> None:
    model = Net()
    with torch.no_grad():
        _ = model.hidden.bias.fill_(-1e6)
    found = activity(model, [X])
    assert found.gone == ("hidden",)
    assert found.layers[1].mean_selectivity is None
    assert "no unit of hidden ever fires" in str(found)


class Nothing(nn.Module):
    """Of what it gets, nothing."""

    @override
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :0]


class Tanh(nn.Sequential):
    """No batch norm, and nothing rectifies."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def test_without_norms_and_relu_weights_are_counted_all_the_same() -> None:
    model = Tanh()
    with torch.no_grad():
        _ = model.get_parameter("0.weight")[1].zero_()
    (layer,) = Tracker(model, torch.zeros(2, 3)).record().layers
    assert (layer.layer, layer.scaled, layer.dead[1e-3]) == ("0", False, 1)


def test_a_layer_without_weights_has_no_units_to_watch() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5), nn.Linear(5, 2))
    with torch.no_grad():
        model.get_submodule("2").weight = nn.Parameter(torch.zeros(5, 4)[:, :0])
    empty = nn.Sequential(model[0], model[1], Nothing(), model[2], model[3])
    assert [it.layer for it in Tracker(empty, torch.zeros(2, 3)).record().layers] == ["0"]


def test_a_model_for_evaluation_only_is_looked_at_and_stays_so() -> None:
    model = Net().eval().requires_grad_(requires_grad=False)
    tracker = Tracker(model, X, every=1, look=Look([X], every=1))
    tracker.step()
    assert {it.gradient_to_decay for it in tracker.record().layers} == {None}
    assert [it.layer for it in tracker.look().layers] == ["conv", "hidden"]
    assert not any(module.training for module in model.modules())
    assert not any(it.requires_grad for it in model.parameters())


def test_a_loader_that_shuffles_leaves_the_random_state() -> None:
    loader = DataLoader(TensorDataset(X, LABELS), batch_size=4, shuffle=True)
    before = torch.get_rng_state()
    tracker = Tracker(Net(), X, look=Look(loader, every=1, labelled=True))
    assert tracker.look().samples == len(X)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_torchvision_network_is_tracked_in_a_loop_of_ones_own() -> None:
    model = torchvision_models().resnet18(num_classes=4)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    optimizer = Adam(model.parameters(), 1e-3, weight_decay=1e-3)
    seen: list[Record | Activity] = []
    look = Look([(images, LABELS[:4])], every=2, labelled=True)
    with Tracker(model, images, optimizer, every=1, look=look, sinks=[seen.append]):
        for _ in range(2):
            optimizer.zero_grad()
            cross_entropy(model(images), LABELS[:4]).backward()
            _ = optimizer.step()
    weights, _, active = seen
    assert isinstance(weights, Record)
    assert isinstance(active, Activity)
    scaled = [it.layer for it in weights.layers if it.scaled]
    assert (len(weights.layers), len(scaled)) == (40, 20)
    assert {it.layer for it in active.layers} <= {it.layer for it in weights.layers}
    assert all(it.gradient_to_decay for it in weights.layers)


Refusal = tuple[Callable[[], Any], type[Exception], str]
REFUSED: dict[str, Refusal] = {
    "no data": (lambda: activity(Net(), []), InputError, "holds no sample"),
    "nothing rectifies": (
        lambda: activity(nn.Sequential(nn.Linear(3, 4), nn.Tanh()), [torch.zeros(2, 3)]),
        InputError,
        "nothing in the model rectifies",
    ),
    "data smaller than one batch of its loader": (
        lambda: activity(Net(), DataLoader(TensorDataset(X), batch_size=9, drop_last=True)),
        InputError,
        "smaller than one batch of its loader",
    ),
    "a batch without samples": (lambda: activity(Net(), [X[:0]]), InputError, "holds no sample"),
    "pairs that nobody called labelled": (
        lambda: activity(Net(), [(X, LABELS)]),
        InputError,
        "say labelled=True",
    ),
    "pairs of a loader that nobody called labelled": (
        lambda: activity(Net(), DataLoader(TensorDataset(X, LABELS), batch_size=4)),
        InputError,
        "say labelled=True",
    ),
    "a look at nothing, before the training": (
        lambda: Tracker(Net(), X, look=Look([], every=1)),
        InputError,
        "holds no sample",
    ),
    "a look without labels, before the training": (
        lambda: Tracker(Net(), X, look=Look([(X, LABELS)], every=1)),
        InputError,
        "say labelled=True",
    ),
    "a look where nothing rectifies, before the training": (
        lambda: Tracker(Tanh(), torch.zeros(2, 3), look=Look([torch.zeros(2, 3)], every=1)),
        InputError,
        "weights alone say what is dead",
    ),
    "an iterator": (lambda: activity(Net(), iter([X])), InputError, "read twice"),
    "other inputs": (lambda: activity(Net(), [X[:, :2]]), InputError, "does not run"),
    "no labels": (lambda: activity(Net(), [X], labelled=True), InputError, "must be pairs"),
    "labels of another size": (
        lambda: activity(Net(), [(X, LABELS[:3])], labelled=True),
        InputError,
        "3 labels for 8 samples",
    ),
    "labels that are floats": (
        lambda: activity(Net(), [(X, torch.zeros(8))], labelled=True),
        InputError,
        "labels must be integers",
    ),
    "inputs that do not run": (lambda: Tracker(Net(), X[:, :2]), InputError, "does not run"),
    "no layers": (lambda: Tracker(nn.ReLU(), X), ModelError, "no linear layer"),
    "every 0": (lambda: Tracker(Net(), X, every=0), ValueError, "every must be at least 1"),
    "look every 0": (lambda: Look([X], every=0), ValueError, "every must be at least 1"),
    "thresholds": (lambda: Tracker(Net(), X, thresholds=(0.1,)), ValueError, "contain 0.001"),
    "nothing to look at": (lambda: Tracker(Net(), X).look(), ValueError, "no data to look at"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_tracked_is_refused_in_one_line(name: str) -> None:
    make, kind, words = REFUSED[name]
    with pytest.raises(kind, match=words) as caught:
        _ = make()
    assert "\n" not in str(caught.value)
