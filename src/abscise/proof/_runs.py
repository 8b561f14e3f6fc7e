"""Running models for a certificate: on copies, in eval mode, on enough different inputs."""

import contextlib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from abscise._copying import copy_model
from abscise._inputs import Inputs, map_tensors
from abscise.proof._differences import yardstick
from abscise.proof._outputs import Leaves, first_not_finite, flatten

_DRAWS = 4
_RUN_SEED = 0


@dataclass(frozen=True, slots=True)
class Runs:
    """The dense model's outputs for several inputs.

    Args:
        inputs: What both models are run on; the first one is the user's.
        outputs: Of the dense model, for `inputs`.
        spread_only: Outputs for the user's samples in another order: no news about equality, but
            every element of the output sees other samples.
        dtype: The lowest floating-point dtype of the model's parameters.
        inner_dtypes: Floating-point dtypes of what the forward computed.
        description: Of the inputs, for the certificate.
    """

    inputs: tuple[Inputs, ...]
    outputs: tuple[Leaves, ...]
    spread_only: tuple[Leaves, ...]
    dtype: torch.dtype
    inner_dtypes: frozenset[torch.dtype]
    description: str


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No gradients inside; the random states of torch and of `random` come back."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    state = random.getstate()
    with torch.random.fork_rng(devices), torch.no_grad():
        try:
            yield
        finally:
            random.setstate(state)


def eval_copy(model: nn.Module) -> nn.Module:
    """A deep copy in eval mode."""
    return copy_model(model, share=False).eval()


def float64_copy(model: nn.Module) -> nn.Module:
    """A deep copy in float64 and eval mode; integer parameters and buffers stay."""
    return eval_copy(model).double()


def float64_inputs(inputs: Inputs) -> Inputs:
    """The same numbers in float64; integers and booleans stay."""
    return _map(inputs, lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)


def run_model(model: nn.Module, inputs: Inputs) -> Leaves:
    """The outputs of one call on clones of `inputs`, always from the same random state."""
    _ = torch.manual_seed(_RUN_SEED)
    random.seed(_RUN_SEED)
    cloned = _map(inputs, lambda tensor: tensor.detach().clone())
    return flatten(model(*cloned.args, **cloned.kwargs))


def lowest_dtype(dtypes: Iterable[torch.dtype]) -> torch.dtype:
    """The one with the coarsest rounding."""
    return max(dtypes, key=lambda dtype: torch.finfo(dtype).eps)


def sample_runs(dense: nn.Module, given: Inputs, seed: int, blind_below: float) -> Runs:
    """Run the dense model until its outputs show a spread, or all that may be tried is tried.

    A batch is run again with its samples in another order. Where that shows no spread (one sample,
    outputs that do not keep samples apart), draws of the same shape join: floats as normal noise
    with the mean and deviation of the given tensor, integers (where there are no floats) as a
    shuffle of the given ones. Draws on which the model fails or overflows are left out and counted.
    """
    with _DtypeWatch() as watch:
        first = run_model(dense, given)
    batch = _batch_size(given)
    spread_only = _successful(dense, [_rolled(given, batch, by) for by in _rolls(batch)])
    description = f"the given inputs ({batch} sample{'s' if batch != 1 else ''})"
    chosen, outputs = [given], [first]
    if (
        first_not_finite([first]) is None
        and yardstick([first, *(leaves for _, leaves in spread_only)], blind_below).blind
    ):
        draws = [_draw(given, seed + number) for number in range(_DRAWS)]
        kept = _successful(dense, draws)
        chosen += [inputs for inputs, _ in kept]
        outputs += [leaves for _, leaves in kept]
        description += f" and {len(kept)} draws of the same shape (seed {seed})"
        if len(kept) < _DRAWS:
            description += f"; {_DRAWS - len(kept)} more gave errors or non-finite outputs"
    return Runs(
        inputs=tuple(chosen),
        outputs=tuple(outputs),
        spread_only=tuple(leaves for _, leaves in spread_only),
        dtype=_dtype_of(dense, given),
        inner_dtypes=frozenset(watch.seen),
        description=description,
    )


def rounded_outputs(
    dense: nn.Module, inputs: Sequence[Inputs], dtype: torch.dtype
) -> tuple[Leaves, ...]:
    """Outputs after relative noise of `dtype`'s rounding on all weights and inputs."""
    generator = torch.Generator().manual_seed(_RUN_SEED)
    eps = torch.finfo(dtype).eps

    def shake(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        noise = torch.rand(tensor.shape, generator=generator, dtype=torch.float64) * 2 - 1
        return (tensor.double() * (1 + eps * noise.to(tensor.device))).to(tensor.dtype)

    shaken = eval_copy(dense)
    for parameter in shaken.parameters():
        _ = parameter.copy_(shake(parameter))
    return tuple(run_model(shaken, _map(item, shake)) for item in inputs)


class _DtypeWatch(TorchFunctionMode):
    """Notes the floating-point dtypes of all results: a forward may cast down inside."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[torch.dtype] = set()

    @override
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `func` and look at what it returns."""
        _ = types
        result = func(*args, **(kwargs or {}))
        for item in result if isinstance(result, tuple | list) else (result,):
            if isinstance(item, Tensor) and item.is_floating_point():
                self.seen.add(item.dtype)
        return result


def _dtype_of(model: nn.Module, inputs: Inputs) -> torch.dtype:
    of_parameters = {item.dtype for item in model.parameters() if item.is_floating_point()}
    of_inputs = {item.dtype for item in inputs.tensors() if item.is_floating_point()}
    return lowest_dtype(of_parameters or of_inputs or {torch.get_default_dtype()})


def _batch_size(inputs: Inputs) -> int:
    return next((tensor.shape[0] for tensor in inputs.tensors() if tensor.ndim > 0), 1)


def _rolls(batch: int) -> tuple[int, ...]:
    return tuple(dict.fromkeys(by for by in (1, batch // 2) if 0 < by < batch))


def _rolled(inputs: Inputs, batch: int, by: int) -> Inputs:
    def roll(tensor: Tensor) -> Tensor:
        samples = tensor.ndim > 0 and tensor.shape[0] == batch
        return tensor.roll(by, 0) if samples else tensor

    return _map(inputs, roll)


def _draw(inputs: Inputs, seed: int) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    any_float = any(tensor.is_floating_point() for tensor in inputs.tensors())

    def draw(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            values = tensor.detach().cpu().double()
            deviation = float(values.std(correction=0)) if values.numel() else 0.0
            return (float(values.mean()) + (deviation or 1.0) * noise).to(tensor)
        if any_float or tensor.dtype == torch.bool:
            return tensor
        order = torch.randperm(tensor.numel(), generator=generator).to(tensor.device)
        return tensor.flatten()[order].view(tensor.shape)

    return _map(inputs, draw)


def _successful(model: nn.Module, candidates: list[Inputs]) -> list[tuple[Inputs, Leaves]]:
    found: list[tuple[Inputs, Leaves]] = []
    for inputs in candidates:
        try:
            leaves = run_model(model, inputs)
        except Exception:  # noqa: BLE001, S112 - inputs that we made up; the caller counts them
            continue
        if first_not_finite([leaves]) is None:
            found.append((inputs, leaves))
    return found


def _map(inputs: Inputs, function: Callable[[Tensor], Tensor]) -> Inputs:
    return Inputs(map_tensors(inputs.args, function), map_tensors(dict(inputs.kwargs), function))
