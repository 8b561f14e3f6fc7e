"""Verify: what passes, what does not, and that every certificate can fail."""

import copy
import json
import random
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typing_extensions import override

from abscise._certificate import Certificate
from abscise._errors import InputError, ModelError
from abscise._verify import verify


class Net(nn.Module):
    """A small convolutional classifier whose hidden channels can be permuted."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        _ = torch.manual_seed(seed)
        self.conv1 = nn.Conv2d(3, 12, 3, padding=1)
        self.bn = nn.BatchNorm2d(12)
        self.conv2 = nn.Conv2d(12, 12, 3)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(12, 5)
        with torch.no_grad():
            for statistic in self.bn.buffers():
                _ = statistic.add_(torch.rand(12) if statistic.ndim else 0)

    @override
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv2(self.bn(self.conv1(x)).relu()).relu()
        return self.fc(self.drop(hidden.mean((2, 3))))


def permuted(net: Net) -> Net:
    """Equal but for rounding: other order of the channels of conv1."""
    other = copy.deepcopy(net)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        for one, two in zip(
            [*net.conv1.parameters(), *net.bn.parameters(), *net.bn.buffers()],
            [*other.conv1.parameters(), *other.bn.parameters(), *other.bn.buffers()],
            strict=True,
        ):
            if one.ndim > 0:
                _ = two.copy_(one[order])
        _ = other.conv2.weight.copy_(net.conv2.weight[:, order])
    return other


def one_unit_less(net: Net) -> Net:
    """Wrong: a live channel of conv2 is zeroed."""
    other = permuted(net)
    with torch.no_grad():
        _ = other.conv2.weight[4].zero_()
        _ = other.conv2.bias[4].zero_() if other.conv2.bias is not None else None
    return other


def images(count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(count, 3, 10, 10, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_equal_models_pass_and_a_lost_unit_does_not(dtype: torch.dtype, count: int) -> None:
    net = Net().to(dtype)
    good = verify(net, permuted(net), images(count, dtype))
    assert good.passed, good.reason
    assert not good.inconclusive
    assert good.predictions_equal
    assert good.planted_error is not None
    assert good.tolerance is not None
    assert good.planted_error.smallest > 100 * good.tolerance
    bad = verify(net, one_unit_less(net), images(count, dtype))
    assert not bad.passed
    assert not bad.inconclusive
    assert "more than the tolerance" in bad.reason


def test_float64_is_held_to_1e_10_and_float32_to_20_times_its_own_error() -> None:
    net = Net().double()
    assert verify(net, net, images(4, torch.float64)).tolerance == 1e-10
    net = Net()
    single = verify(net, net, images(4))
    assert single.tolerance is not None
    assert 1e-7 < single.tolerance < 1e-3
    assert single.max_rel_diff == 0.0
    assert single.float64_rel_diff == 0.0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_passes_by_its_float64_copies_only(dtype: torch.dtype) -> None:
    net = Net().to(dtype)
    good = verify(net, permuted(net), images(4, dtype))
    assert good.passed, good.reason
    assert good.float64_rel_diff is not None
    assert good.float64_rel_diff < 1e-10
    assert not verify(net, one_unit_less(net), images(4, dtype)).passed


def test_a_graph_that_casts_down_gets_that_dtypes_floor() -> None:
    class Casting(Net):
        @override
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).float() * 1.000001

    net = Casting().double()
    certificate = verify(net, permuted(net), images(4, torch.float64))
    assert certificate.passed, certificate.reason
    assert certificate.tolerance is not None
    assert 1e-7 < certificate.tolerance < 1e-2
    assert "float32" in certificate.tolerance_from
    assert not verify(net, one_unit_less(net), images(4, torch.float64)).passed


def test_a_model_without_float64_copy_is_held_to_its_own_rounding() -> None:
    class Fixed(Net):
        def __init__(self) -> None:
            super().__init__()
            self.scale = [torch.eye(5)]  # no buffer: it stays float32

        @override
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) @ self.scale[0]

    net = Fixed()
    certificate = verify(net, permuted(net), images(4))
    assert certificate.passed, certificate.reason
    assert certificate.float64_rel_diff is None
    assert "no float64 copy runs" in certificate.tolerance_from
    assert not verify(net, one_unit_less(net), images(4)).passed


class Blind(nn.Module):
    """The input hardly moves the output: a wrong removal of the first layer changes nothing."""

    def __init__(self, share: float) -> None:
        super().__init__()
        _ = torch.manual_seed(0)
        self.share = share
        self.hidden, self.fc = nn.Linear(4, 8), nn.Linear(8, 3)

    @override
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.share * self.hidden(x).relu() + 1.0)


@pytest.mark.parametrize("share", [0.0, 1e-30, 1e-12, 1e-5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 5])
def test_outputs_without_spread_never_pass(share: float, dtype: torch.dtype, count: int) -> None:
    net = Blind(share).to(dtype)
    wrong = copy.deepcopy(net)
    with torch.no_grad():
        _ = wrong.hidden.weight.zero_()
    for other in (net, wrong):
        certificate = verify(net, other, torch.randn(count, 4, dtype=dtype))
        assert not certificate.passed
    same = verify(net, net, torch.randn(count, 4, dtype=dtype))
    assert same.inconclusive
    assert "hardly depends on the inputs" in same.reason


def test_different_constant_outputs_are_not_equal() -> None:
    net = Blind(0.0).double()
    other = copy.deepcopy(net)
    with torch.no_grad():
        _ = other.fc.bias.add_(0.1)
    certificate = verify(net, other, torch.randn(4, 4).double())
    assert not certificate.passed
    assert not certificate.inconclusive


def test_an_early_layer_that_no_certificate_can_see_is_inconclusive() -> None:
    class Bypass(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            _ = torch.manual_seed(0)
            self.weak, self.strong = nn.Linear(4, 3), nn.Linear(4, 3)

        @override
        def forward(self, x: Tensor) -> Tensor:
            return self.strong(x) + 1e-7 * self.weak(x)

    net = Bypass()
    rounded = copy.deepcopy(net)
    with torch.no_grad():
        _ = rounded.strong.weight.mul_(1 + 2e-7)
    certificate = verify(net, rounded, torch.randn(16, 4))
    assert certificate.inconclusive, certificate.reason
    assert "wrongly zeroing a unit (weak.weight[" in certificate.reason


def test_a_model_without_weights_is_inconclusive() -> None:
    certificate = verify(nn.ReLU(), nn.ReLU(), torch.randn(4, 4))
    assert certificate.inconclusive
    assert "zeroing units changes nothing" in certificate.reason


@dataclass
class Answer:
    logits: Tensor
    hidden: tuple[Tensor, ...]
    labels: Tensor | None = None


class Cache:
    def __init__(self, keys: Tensor) -> None:
        self.keys, self.length = [keys], keys.shape[0]


STRUCTURES: dict[str, Callable[[Tensor], Any]] = {
    "tensor": lambda y: y,
    "tuple": lambda y: (y, y * 2),
    "nested": lambda y: {"a": [y, (y + 1,)], "n": 3, "none": None},
    "ordered": lambda y: OrderedDict(out=y, aux=y.mean()),
    "dataclass": lambda y: Answer(y, (y, y)),
    "object": lambda y: (y, Cache(y)),
    "integers beside": lambda y: (y, y.argmax(1), y > 0),
    "sparse": lambda y: y.to_sparse(),
    "complex": lambda y: torch.complex(y, -y),
    "scalar": lambda y: y.mean(),
}


class Wrapped(nn.Module):
    def __init__(self, net: nn.Module, form: Callable[[Any], Any]) -> None:
        super().__init__()
        self.net, self.form = net, [form]

    @override
    def forward(self, x: Tensor) -> Any:
        return self.form[0](self.net(x))


@pytest.mark.parametrize("name", STRUCTURES)
def test_outputs_of_every_form_are_compared(name: str) -> None:
    net = Net().double()
    form = STRUCTURES[name]
    inputs = images(6, torch.float64)
    good = verify(Wrapped(net, form), Wrapped(permuted(net), form), inputs)
    assert good.passed, good.reason
    assert not verify(Wrapped(net, form), Wrapped(one_unit_less(net), form), inputs).passed


FAILURES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], str]] = {
    "length": (lambda y: (y, y), lambda y: (y,), "output:type is 'tuple of 1'"),
    "key": (lambda y: {"a": y}, lambda y: {"b": y}, "output['a'] is missing in the compacted"),
    "kind": (lambda y: (y,), lambda y: [y], "output:type is 'list of 1'"),
    "shape": (lambda y: y, lambda y: y[:, :2], "output is (6, 2) float64, must be (6, 5) float64"),
    "dtype": (lambda y: y, lambda y: y.float(), "must be (6, 5) float64"),
    "plain": (lambda y: (y, 1), lambda y: (y, 2), "output[1] is 2, must be 1"),
    "bool for int": (lambda y: (y, 1), lambda y: (y, True), "output[1] is True, must be 1"),
    "none": (lambda y: (y, None), lambda y: (y, y), "output[1]"),
    "integer": (lambda y: (y, y.argmax(1)), lambda y: (y, y.argmax(1) + 1), "integer output[1]"),
    "nan": (lambda y: y, lambda y: y / 0, "output of the compacted model is not finite"),
    "nan in both": (lambda y: y / 0, lambda y: y / 0, "output of the dense model is not finite"),
    "crash": (lambda y: y, lambda y: y @ y, "the compacted model does not run"),
    "crash over lines": (lambda y: y, lambda y: y.view(7, 7), "does not run"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_outputs_that_cannot_be_compared_do_not_pass(name: str) -> None:
    net = Net().double()
    before, after, reason = FAILURES[name]
    certificate = verify(Wrapped(net, before), Wrapped(net, after), images(6, torch.float64))
    assert not certificate.passed
    assert not certificate.inconclusive
    assert reason in certificate.reason
    assert Certificate.from_json(json.loads(json.dumps(certificate.to_json()))) == certificate


def test_integer_outputs_alone_are_compared_exactly() -> None:
    net = Net().double()
    labels: Callable[[Any], Any] = lambda y: (1000 * y).round().long()  # noqa: E731
    inputs = images(6, torch.float64)
    assert verify(Wrapped(net, labels), Wrapped(permuted(net), labels), inputs).passed
    bad = verify(Wrapped(net, labels), Wrapped(one_unit_less(net), labels), inputs)
    assert not bad.passed


def test_token_inputs_of_one_sample_are_shuffled_for_the_spread() -> None:
    _ = torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(20, 8), nn.Flatten(), nn.Linear(48, 4)).double()
    certificate = verify(net, net, torch.tensor([[3, 1, 4, 1, 5, 9]]))
    assert certificate.passed, certificate.reason
    assert "4 draws" in certificate.inputs


def test_draws_on_which_the_model_fails_are_left_out_and_counted() -> None:
    class Picky(Net):
        @override
        def forward(self, x: Tensor) -> Tensor:
            if float(x.flatten()[0]) < 0:
                message = "negative"
                raise ValueError(message)
            return super().forward(x)

    net = Picky().double()
    certificate = verify(net, net, images(1, torch.float64).abs())
    assert "more gave errors or non-finite outputs" in certificate.inputs


def test_keyword_inputs_and_inputs_that_forward_changes_are_fine() -> None:
    class InPlace(Net):
        @override
        def forward(self, x: Tensor, *, scale: Tensor | None = None) -> Tensor:
            return super().forward(x.mul_(1.0 if scale is None else scale))

    net, x = InPlace().double(), images(4, torch.float64)
    kept = x.clone()
    certificate = verify(net, permuted(net), {"x": x, "scale": torch.full((4, 1, 1, 1), 2.0)})
    assert certificate.passed, certificate.reason
    assert torch.equal(x, kept)


def test_the_given_tolerance_counts() -> None:
    net = Net()
    assert not verify(net, permuted(net), images(4), tolerance=0.0).passed
    loose = verify(net, one_unit_less(net), images(4), tolerance=1e6)
    assert loose.inconclusive


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), float("inf")])
def test_an_impossible_tolerance_is_refused(tolerance: float) -> None:
    with pytest.raises(ValueError, match="tolerance must be a finite number >= 0"):
        _ = verify(Net(), Net(), images(2), tolerance=tolerance)


def test_inputs_that_do_not_fit_are_one_line() -> None:
    with pytest.raises(
        InputError, match=r"dense model Net .* shapes \[\(2, 4, 10, 10\)\]"
    ) as error:
        _ = verify(Net(), Net(), torch.randn(2, 4, 10, 10))
    assert "\n" not in str(error.value)


def test_a_model_that_cannot_be_copied_is_one_line() -> None:
    net = Net()
    net.__dict__["lock"] = threading.Lock()
    with pytest.raises(ModelError, match=r"Net cannot be copied"):
        _ = verify(net, Net(), images(2))


def test_outputs_that_cannot_be_walked_through_are_refused() -> None:
    lazy = Wrapped(Net(), lambda y: (row for row in y))
    with pytest.raises(InputError, match="output is a generator, which cannot be compared"):
        _ = verify(lazy, lazy, images(2))
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(InputError, match="has no end"):
        _ = verify(Wrapped(Net(), lambda _: endless), Net(), images(2))


class Moody(Net):
    """Changes buffers and random states in forward, in eval mode too, and fails on demand."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.calls: Tensor
        self.fails = False

    @override
    def forward(self, x: Tensor) -> Tensor:
        self.calls = self.calls + 1
        _ = torch.rand(3), random.random()
        if self.fails:
            message = "no"
            raise RuntimeError(message)
        return super().forward(x)


@pytest.mark.parametrize("fails", [False, True])
def test_both_models_and_the_random_states_stay_as_they_were(fails: bool) -> None:
    dense, compacted = Moody(), Moody()
    seen: list[int] = []
    for model in (dense, compacted):
        _ = model.train()
        _ = model.bn.eval()
        model.conv1.weight.requires_grad = False
        model.fc.weight.grad = torch.ones_like(model.fc.weight)
        _ = model.fc.register_forward_hook(lambda *_: seen.append(1))
    dense.fails = fails
    before = [_state(dense), _state(compacted)]
    random_states = torch.get_rng_state(), random.getstate(), torch.get_num_threads()
    if fails:
        with pytest.raises(InputError):
            _ = verify(dense, compacted, images(2))
    else:
        assert verify(dense, compacted, images(2)).passed
    after = [_state(dense), _state(compacted)]
    assert torch.equal(random_states[0], torch.get_rng_state())
    assert random_states[1:] == (random.getstate(), torch.get_num_threads())
    assert torch.is_grad_enabled()
    for one, other in zip(before, after, strict=True):
        assert one[0] == other[0]
        assert all(map(torch.equal, one[1], other[1]))


def _state(model: Moody) -> tuple[list[Any], list[Tensor]]:
    plain = [
        *(module.training for module in model.modules()),
        *(parameter.requires_grad for parameter in model.parameters()),
        *(parameter.grad is None for parameter in model.parameters()),
        *(len(module._forward_hooks) for module in model.modules()),
        *(id(parameter) for parameter in model.parameters()),
    ]
    return plain, [item.detach().clone() for item in model.state_dict().values()]


def test_train_mode_is_not_what_is_compared() -> None:
    net = Net().train()
    assert verify(net, permuted(net), images(4)).passed


def test_the_same_seed_gives_the_same_certificate() -> None:
    net = Net()
    one, two = (verify(net, permuted(net), images(1), seed=5) for _ in range(2))
    assert one == two
    assert one != verify(net, permuted(net), images(1), seed=6)
