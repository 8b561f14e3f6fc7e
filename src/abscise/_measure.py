"""Measure: how large a model is, and how long it takes."""

import statistics
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from abscise._copying import copy_model
from abscise._errors import CaptureError, InputError, ModelError
from abscise._inputs import ExampleInputs, Inputs, as_inputs
from abscise._macs import count_macs
from abscise._subnormal import count_subnormal
from abscise.graph import Program, Value, capture, first_line

_WARM_UP = 2


@dataclass(frozen=True, slots=True)
class Measurement:
    """Size and speed of one model; None is unknown.

    Args:
        parameters: Elements of all parameters; a tied one counts once.
        nonzero: Those that are not exactly 0.
        subnormal: Those so small that many CPUs compute with them 10 to 100 times slower.
        buffers: Elements of all buffers.
        size_bytes: Of parameters and buffers as they are saved.
        macs: Multiply-accumulates of one forward on the whole batch.
        macs_uncounted: Ops that `macs` leaves out because they cannot be counted; where `macs` is
            None, why.
        batch: Samples in the inputs.
        threads: That torch used.
        latency_s: Median time of one forward on the whole batch.
        latency_spread: Distance of the quartiles, divided by the median.
        latency_flushed_s: Median with subnormal numbers taken as 0, where there are any.
        bytes_on_disk: Of the file of weights, where one was or will be written; `measure` writes
            none and leaves it out, `store.file_bytes` and `store.bytes_on_disk` tell it.
    """

    parameters: int
    nonzero: int
    subnormal: int
    buffers: int
    size_bytes: int
    macs: int | None
    macs_uncounted: tuple[str, ...]
    batch: int
    threads: int
    latency_s: float | None = None
    latency_spread: float | None = None
    latency_flushed_s: float | None = None
    bytes_on_disk: int | None = None

    @property
    def slowdown(self) -> float | None:
        """How many times as long a forward takes because of subnormal numbers; None: unknown."""
        if self.latency_s is None or not self.latency_flushed_s:
            return None
        return self.latency_s / self.latency_flushed_s


def slowdown_by_subnormals(model: nn.Module, inputs: ExampleInputs, repeats: int = 5) -> float:
    """A forward in eval mode over the same with subnormal numbers taken as 0, medians.

    Both run on a copy, in threads of their own: the caller's flush setting stays as it is.

    Raises:
        InputError: The model does not run on `inputs`.
        ModelError: The model cannot be copied.
    """
    times = _times(model, as_inputs(inputs), repeats, subnormal=True)
    assert times.median_s is not None
    return times.median_s / times.flushed_s if times.flushed_s else 1.0


def measure(
    model: nn.Module, inputs: ExampleInputs, *, repeats: int = 10, latency: bool = True
) -> Measurement:
    """Count parameters, bytes and MACs of `model`, and time its forward in eval mode on a copy.

    Args:
        model: Left as it is.
        inputs: As `abscise.compact` takes them.
        repeats: Timed forwards, after two untimed ones.
        latency: False skips the timing.

    Raises:
        ValueError: `repeats` is below 1.
        InputError: The model does not run on `inputs`.
        ModelError: The model cannot be copied.
    """
    if repeats < 1:
        message = f"repeats must be >= 1, got {repeats}"
        raise ValueError(message)
    given = as_inputs(inputs)
    weights = _unique(model.parameters())
    subnormal = sum(map(count_subnormal, weights))
    macs, uncounted = _count(model, given)
    times = _times(model, given, repeats, subnormal=subnormal > 0) if latency else _NO_TIMES
    return Measurement(
        parameters=sum(tensor.numel() for tensor in weights),
        nonzero=sum(map(_count_nonzero, weights)),
        subnormal=subnormal,
        buffers=sum(tensor.numel() for tensor in _unique(model.buffers())),
        size_bytes=_stored_bytes(model),
        macs=macs,
        macs_uncounted=uncounted,
        batch=_batch(given.tensors()),
        threads=torch.get_num_threads(),
        latency_s=times.median_s,
        latency_spread=times.spread,
        latency_flushed_s=times.flushed_s,
    )


@dataclass(frozen=True, slots=True)
class _Times:
    median_s: float | None
    spread: float | None
    flushed_s: float | None


_NO_TIMES = _Times(None, None, None)


def _unique(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Each tensor once, also where two objects are the same view of one storage."""
    found: dict[tuple[object, ...], Tensor] = {}
    for tensor in tensors:
        place = 0 if tensor.is_meta else tensor.data_ptr()
        key = (place, tensor.shape, tensor.stride()) if place else (id(tensor),)
        _ = found.setdefault(key, tensor)
    return list(found.values())


def _stored_bytes(model: nn.Module) -> int:
    state = [value for value in model.state_dict().values() if isinstance(value, Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in _unique(state))


def _count_nonzero(tensor: Tensor) -> int:
    if tensor.is_meta:
        return tensor.numel()
    return int(tensor.detach().count_nonzero())


def _count(model: nn.Module, given: Inputs) -> tuple[int | None, tuple[str, ...]]:
    try:
        program = capture(model, given)
    except (CaptureError, ModelError) as error:
        return None, (str(error),)
    macs, uncounted = count_macs(program)
    return _for_batch(macs, program, given), uncounted


def _for_batch(macs: int, program: Program, given: Inputs) -> int:
    """Capture may have doubled a batch of one; the work is proportional to the batch."""
    captured = _batch([program.values[value] for value in program.inputs])
    batch = _batch(given.tensors())
    return macs if captured in {batch, 0} else macs * batch // captured


def _batch(tensors: Iterable[Tensor | Value]) -> int:
    return next((tensor.shape[0] for tensor in tensors if len(tensor.shape) > 0), 1)


def _times(model: nn.Module, given: Inputs, repeats: int, *, subnormal: bool) -> _Times:
    timed = copy_model(model, share=False).eval()
    threads = torch.get_num_threads()
    seconds = _in_new_thread(timed, given, repeats, threads, flush=False)
    median = statistics.median(seconds)
    quartiles = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else [median, median, median]
    flushed = None
    if subnormal:
        flushed = statistics.median(_in_new_thread(timed, given, repeats, threads, flush=True))
    return _Times(median, (quartiles[2] - quartiles[0]) / median if median else 0.0, flushed)


def _in_new_thread(
    model: nn.Module, given: Inputs, repeats: int, threads: int, *, flush: bool
) -> list[float]:
    """Time in a thread of its own.

    The flush flag belongs to a thread and is inherited by the workers that it starts: set in the
    caller's thread, it would reach only that one, and could not be read to be put back.
    """

    def work() -> list[float]:
        torch.set_num_threads(threads)
        _ = torch.set_flush_denormal(flush)
        with torch.no_grad():
            return [_one_forward(model, given) for _ in range(_WARM_UP + repeats)][_WARM_UP:]

    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices), ThreadPoolExecutor(1) as pool:
        try:
            return pool.submit(work).result()
        except Exception as error:
            shapes = [tuple(tensor.shape) for tensor in given.tensors()]
            message = (
                f"{type(model).__name__} does not run on inputs of shapes {shapes}: "
                f"{first_line(error)}"
            )
            raise InputError(message) from error


def _one_forward(model: nn.Module, given: Inputs) -> float:
    _wait(given)
    start = time.perf_counter()
    _ = model(*given.args, **given.kwargs)
    _wait(given)
    return time.perf_counter() - start


def _wait(given: Inputs) -> None:
    if any(tensor.is_cuda for tensor in given.tensors()):
        torch.cuda.synchronize()
