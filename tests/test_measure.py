"""Measure: sizes are exact, times are there, and the model stays as it was."""

import copy
import threading

import pytest
import torch
from torch import Tensor, nn
from typing_extensions import override

from abscise._errors import InputError, ModelError
from abscise._measure import measure


def last_weight(model: nn.Sequential) -> Tensor:
    return model.get_parameter("4.weight").detach()


def small() -> nn.Sequential:
    _ = torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_sizes_of_a_small_network(batch: int) -> None:
    found = measure(small(), torch.randn(batch, 1, 4, 4), latency=False)
    assert found.parameters == 4 * 9 + 4 + 4 + 4 + 64 * 3 + 3
    assert found.buffers == 4 + 4 + 1
    assert found.size_bytes == 4 * (found.parameters + 8) + 8
    assert found.macs == batch * (4 * 9 * 16 + 64 * 3)
    assert found.macs_uncounted == ()
    assert found.batch == batch
    assert found.threads == torch.get_num_threads()
    assert (found.latency_s, found.latency_spread, found.latency_flushed_s) == (None, None, None)


def test_zeros_and_subnormals_are_counted() -> None:
    model = small()
    _ = last_weight(model)[0].zero_()
    _ = last_weight(model)[1].fill_(1e-40)
    found = measure(model, torch.randn(1, 1, 4, 4), latency=False)
    zero_bias_and_shift = int(sum((parameter == 0).sum() for parameter in model.parameters()))
    assert found.nonzero == found.parameters - zero_bias_and_shift
    assert found.subnormal == 64


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("flush", [False, True])
def test_subnormals_of_every_dtype(dtype: torch.dtype, flush: bool) -> None:
    class Weights(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            tiny = torch.finfo(dtype).tiny
            values = [0.0, -0.0, tiny, -tiny, tiny / 2, -tiny / 4, 1.0, torch.finfo(dtype).max]
            self.weight = nn.Parameter(torch.tensor(values, dtype=torch.float64).to(dtype))

        @override
        def forward(self, x: Tensor) -> Tensor:
            return x * self.weight

    model = Weights()
    try:
        _ = torch.set_flush_denormal(flush)
        found = measure(model, torch.ones(1, 8, dtype=dtype), latency=False)
    finally:
        _ = torch.set_flush_denormal(False)
    assert found.subnormal == 2


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.two.weight = self.one.weight

    @override
    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.one(x))


def test_tied_weights_count_once_but_their_work_twice() -> None:
    found = measure(Tied(), torch.randn(2, 4), latency=False)
    assert (found.parameters, found.size_bytes, found.macs) == (16, 64, 2 * 2 * 16)


def test_latency_is_measured_with_and_without_subnormals() -> None:
    model = small()
    plain = measure(model, torch.randn(2, 1, 4, 4), repeats=3)
    assert plain.latency_s is not None
    assert plain.latency_s > 0
    assert plain.latency_spread is not None
    assert plain.latency_spread >= 0
    assert plain.latency_flushed_s is None
    _ = last_weight(model).fill_(1e-40)
    flushed = measure(model, torch.randn(2, 1, 4, 4), repeats=1)
    assert flushed.latency_flushed_s is not None
    assert flushed.latency_spread == 0.0
    assert flushed.latency_s is not None
    assert flushed.slowdown == flushed.latency_s / flushed.latency_flushed_s
    assert plain.slowdown is None


def flushes() -> bool:
    return float(torch.tensor([1e-310], dtype=torch.float64) * 1.0) == 0.0


@pytest.mark.parametrize("fails", [False, True])
def test_model_flags_and_random_state_stay_as_they_were(fails: bool) -> None:
    class Moody(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(4)
            self.fc = nn.Linear(4, 4)

        @override
        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.norm(x))

    model = Moody().train()
    with torch.no_grad():
        _ = model.fc.weight.fill_(1e-40)
    model.norm.eval()
    modes = [module.training for module in model.modules()]
    state = copy.deepcopy(model.state_dict())
    random_state, threads = torch.get_rng_state(), torch.get_num_threads()
    inputs = torch.full((2, 4 if not fails else 5), 1.0)
    if fails:
        with pytest.raises(InputError):
            _ = measure(model, inputs, repeats=1)
    else:
        _ = measure(model, inputs, repeats=1)
    assert modes == [module.training for module in model.modules()]
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(random_state, torch.get_rng_state())
    assert threads == torch.get_num_threads()
    assert not flushes()
    assert torch.is_grad_enabled()


def test_a_forward_that_cannot_be_captured_has_unknown_macs() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        @override
        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x) if float(x.sum()) > 0 else x

    found = measure(Branching(), torch.randn(2, 4), repeats=1)
    assert found.macs is None
    assert "Branching" in found.macs_uncounted[0]
    assert found.parameters == 20
    assert found.latency_s is not None


def test_impossible_repeats_are_refused() -> None:
    with pytest.raises(ValueError, match="repeats must be >= 1, got 0"):
        _ = measure(small(), torch.randn(1, 1, 4, 4), repeats=0)


def test_a_model_that_cannot_be_copied_is_one_line() -> None:
    model = Tied()
    model.__dict__["lock"] = threading.Lock()
    with pytest.raises(ModelError, match=r"Tied cannot be copied"):
        _ = measure(model, torch.randn(2, 4))


def test_meta_tensors_are_counted_by_name() -> None:
    with torch.device("meta"):
        model, inputs = small(), torch.empty(2, 1, 4, 4)
    found = measure(model, inputs, latency=False)
    assert found.parameters == 243
    assert found.nonzero == 243
    assert found.subnormal == 0


def test_inputs_on_which_forward_fails_are_one_line() -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.calls = nn.Linear(4, 4), 0

        @override
        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            if self.calls > 1:
                message = "no more\nof this"
                raise RuntimeError(message)
            return self.fc(x)

    with pytest.raises(InputError, match=r"Late .* \[\(2, 4\)\]: no more$"):
        _ = measure(Late(), torch.randn(2, 4), repeats=3)
