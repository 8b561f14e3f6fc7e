"""What is looked at before and after a removal: that forward still runs, and gives the same."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from abscise._copying import copy_model, only_read
from abscise._errors import ModelError, NotEqualError
from abscise._inputs import Inputs, floats_in
from abscise.graph import Program, eval_mode, first_line, quiet_hooks

_ROUNDINGS = 1000


def outputs(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    """Its floating-point outputs in eval mode, as float64; the model itself is not called.

    Nor are its buffers and tables written, should its forward write any.
    """
    copy = copy_model(model, share=False, shared=only_read(model))
    with eval_mode(copy), torch.no_grad(), quiet_hooks(copy, tuple(inputs.args), inputs.kwargs):
        return floats_in(copy(*inputs.args, **inputs.kwargs))


def moved(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    """The largest difference over the largest spread of an output over the samples."""
    difference = _difference(before, after)
    spread = max((_spread(_finite(it)) for it in before if it.numel()), default=0.0)
    return difference / spread if spread else difference


def check_same(before: Sequence[Tensor], after: Sequence[Tensor], dtype: torch.dtype) -> None:
    """The alarm: removal changes no output beyond rounding.

    Raises:
        NotEqualError: It did.
        ModelError: Nobody can tell, as there was none before.
    """
    if any(bool(it.isnan().any()) for it in before):
        message = (
            "the outputs of the model on the example inputs are NaN: nothing was removed; if the "
            "training diverged, go back to a checkpoint from before"
        )
        raise ModelError(message)
    size = max((float(_finite(it).abs().max()) for it in before if it.numel()), default=0.0)
    difference, allowed = _difference(before, after), _ROUNDINGS * torch.finfo(dtype).eps * size
    if not difference <= allowed:
        message = (
            f"the shrunk model's outputs differ by {difference:.3g}, rounding explains "
            f"{allowed:.3g}: nothing was removed; please report this model"
        )
        raise NotEqualError(message)


def check_trainable(program: Program, model: nn.Module) -> None:
    """Refuse a model with parameters that only its forward in train mode reads.

    Raises:
        ModelError: The text names one.
    """
    used = {program.values[value].name for step in program.steps for value in step.inputs}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and program.aliases.get(name, name) not in used:
            message = (
                f"{name} takes no part in forward in eval mode: what it reads while training "
                "cannot be seen; freeze it (requires_grad_(False)), or train without that branch"
            )
            raise ModelError(message)


def elsewhere(program: Program, model: nn.Module) -> bool:
    """Was a parameter given other data since the capture, as `model.to(...)` gives it?"""
    held = dict(model.named_parameters(remove_duplicate=False))
    return any(
        entry.data is not None
        and entry.name in held
        and entry.data.data_ptr() != held[entry.name].data_ptr()
        for entry in program.values
    )


@contextmanager
def without_autocast(model: nn.Module) -> Iterator[None]:
    """Inside, the model is captured and compared in its own precision, as its weights are.

    Whoever steps within autocast is there still: what it has cast is of the shapes before.
    """
    kind = next((it.device.type for it in model.parameters()), "cpu")
    if not torch.amp.is_autocast_available(kind):
        yield
        return
    try:
        with torch.autocast(kind, enabled=False):
            yield
    finally:
        torch.clear_autocast_cache()


def trains(model: nn.Module, inputs: Inputs, *, refuse: bool = False) -> bool:
    """Does forward run in the mode that the model is in? On a copy, without gradients.

    Raises:
        ModelError: It does not, and `refuse` says that it must.
    """
    copy = copy_model(model, share=False)
    with _same_random(), torch.no_grad():
        try:
            with quiet_hooks(copy, tuple(inputs.args), inputs.kwargs):
                _ = copy(*inputs.args, **inputs.kwargs)
        except Exception as error:
            if refuse:
                message = (
                    f"in train mode the shrunk {type(model).__name__} does not run "
                    f"({first_line(error)}): nothing was removed"
                )
                raise ModelError(message) from error
            return False
    return True


@contextmanager
def _same_random() -> Iterator[None]:
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        yield


def _difference(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    pairs = zip(before, after, strict=True)
    return max((float(_apart(a, b).max()) for a, b in pairs if a.numel()), default=0.0)


def _apart(one: Tensor, two: Tensor) -> Tensor:
    """|difference|; what is infinite in both, as a mask makes it, is the same."""
    return (one - two).abs().masked_fill(one == two, 0.0)


def _finite(output: Tensor) -> Tensor:
    """Without what is infinite: that has no size."""
    return output.nan_to_num(posinf=0.0, neginf=0.0)


def _spread(output: Tensor) -> float:
    if output.ndim == 0 or output.shape[0] < 2:
        return float(output.max() - output.min())
    return float((output.amax(0) - output.amin(0)).max())
