"""Capture: from an `nn.Module` and example inputs to a `Program`, by `torch.export`.

The graph is the high-level one (`flatten`, `chunk`, `batch_norm` stay whole), captured with a free
batch size where the model allows it. In-place operations are made functional in `_functional`;
where that is not plainly right, torch's own decomposition pass does it.
"""

import contextlib
import inspect
import io
import logging
import warnings
from collections.abc import Iterator
from enum import Enum, auto
from typing import Any

import torch
from torch import Tensor, nn

from abscise._copying import copy_model
from abscise._errors import CaptureError, InputError, ModelError
from abscise._inputs import Inputs, map_tensors
from abscise.graph._functional import DataNumberError, NotFunctionalError, build_program
from abscise.graph._hooks import quiet_hooks
from abscise.graph._program import Program


class Batch(Enum):
    """Which batch sizes a capture serves.

    FREE: any, where the model allows it. FIXED: at least two rows; it takes a third of the time,
    and code that looks at the batch size is fixed to this one. AS_GIVEN: that of the inputs.
    """

    FREE = auto()
    FIXED = auto()
    AS_GIVEN = auto()


def capture(
    model: nn.Module, inputs: Inputs, *, check: bool = True, batch: Batch = Batch.FREE
) -> Program:
    """The forward of `model` in eval mode as a `Program`; the model is left as it was.

    Args:
        model: In any mode; it is captured in eval mode.
        inputs: What the model is called with.
        check: Refuse weights that are not finite or share storage.
        batch: For which batch sizes.

    Raises:
        ModelError: Two parameters share one storage, or a weight is not finite.
        InputError: An input lies on another device than the model.
        CaptureError: `torch.export` cannot follow the model's forward.
    """
    if check:
        _refuse_unsound_weights(model)
    _refuse_other_device(model, inputs)
    traced = copy_model(model, share=True)  # a forward may keep state in plain attributes
    with eval_mode(traced), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with quiet_hooks(traced, tuple(inputs.args), inputs.kwargs), _quiet_torch():
            exported = _export(traced, inputs, batch)
        try:
            return build_program(model, exported)
        except NotFunctionalError:
            pass
        except DataNumberError as error:
            message = (
                f"{type(model).__name__}'s forward computes with a number read from a tensor "
                f"({error}): keep it a tensor, as sum() is where sum().item() is a number"
            )
            raise CaptureError(message) from error
        try:
            with _quiet_torch():
                exported = exported.run_decompositions({})
            return build_program(model, exported)
        except Exception as error:
            name = type(model).__name__
            message = (
                f"cannot follow an in-place operation or a mode switch in {name}'s forward "
                f"({first_line(error)}); use the operation that returns a new tensor"
            )
            raise CaptureError(message) from error


@contextlib.contextmanager
def eval_mode(*models: nn.Module) -> Iterator[None]:
    """Eval mode inside; every module's own mode and the CPU and GPU random states come back."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        try:
            for model in models:
                _ = model.eval()
            yield
        finally:
            for module, training in modes:
                module.training = training


@contextlib.contextmanager
def _quiet_torch() -> Iterator[None]:
    """A capture that fails prints whole graphs and tracebacks; our error says it in one line."""
    logger = logging.getLogger("torch")
    level = logger.level
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            logger.setLevel(logging.CRITICAL)
            yield
        finally:
            logger.setLevel(level)


def _export(model: nn.Module, inputs: Inputs, batch: Batch) -> torch.export.ExportedProgram:
    args, kwargs = _two_samples(inputs)
    if batch is not Batch.AS_GIVEN:
        with contextlib.suppress(Exception):  # an eager forward below tells what is wrong
            shapes = _free_batches(model, args, kwargs) if batch is Batch.FREE else None
            return torch.export.export(model, args, kwargs, dynamic_shapes=shapes, strict=False)
    args, kwargs = tuple(inputs.args), dict(inputs.kwargs)
    try:
        return torch.export.export(model, args, kwargs, strict=False)
    except Exception as error:
        _explain_failure(model, args, kwargs, error)
        raise  # unreachable: _explain_failure always raises


def _free_batches(model: nn.Module, args: Any, kwargs: Any) -> dict[str, Any]:
    """For `torch.export`: argument of forward -> dimension 0 of every tensor in it is free."""
    bound = inspect.signature(model.forward).bind(*args, **kwargs)
    return {name: _free_batch(item) for name, item in bound.arguments.items()}


def _free_batch(tree: Any) -> Any:
    if isinstance(tree, Tensor):
        return {0: torch.export.Dim.AUTO} if tree.ndim else None
    if isinstance(tree, dict):
        return {name: _free_batch(item) for name, item in tree.items()}
    if isinstance(tree, tuple | list):
        return type(tree)(_free_batch(item) for item in tree)
    return None


def _two_samples(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A batch of one is doubled where every input has one: torch.export would fix the size 1."""
    tensors = inputs.tensors()
    if any(tensor.ndim == 0 or tensor.shape[0] != 1 for tensor in tensors):
        return tuple(inputs.args), dict(inputs.kwargs)
    doubled = map_tensors((tuple(inputs.args), dict(inputs.kwargs)), lambda t: torch.cat([t, t]))
    return doubled[0], doubled[1]


def _explain_failure(model: nn.Module, args: Any, kwargs: Any, error: Exception) -> None:
    """Tell wrong inputs from a forward that runs but cannot be captured."""
    try:
        _ = model(*args, **kwargs)
    except Exception as eager:
        message = (
            f"{type(model).__name__} cannot be called with the example inputs "
            f"{[tuple(tensor.shape) for tensor in Inputs(args, kwargs).tensors()]}: "
            f"{first_line(eager)}"
        )
        raise InputError(message) from eager
    message = (
        f"torch.export cannot capture {type(model).__name__}: {first_line(error)}; "
        "replace data-dependent control flow in forward (torch.export's documentation lists what "
        "it supports)"
    )
    raise CaptureError(message) from error


def first_line(error: BaseException) -> str:
    """The first non-empty line of an error's text, or its type where it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _refuse_unsound_weights(model: nn.Module) -> None:
    seen: dict[int, str] = {}
    for name, parameter in model.named_parameters():
        if parameter.numel() == 0 or parameter.is_meta:
            continue
        pointer = parameter.untyped_storage().data_ptr()
        other = seen.setdefault(pointer, name)
        if other != name:
            message = (
                f"parameters {other} and {name} are two views of one storage; "
                "give each its own (clone one), or tie them by using one Parameter object twice"
            )
            raise ModelError(message)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_meta or not tensor.is_floating_point():
            continue
        # A sum is finite unless an element is not, or it overflows: only then look at each element.
        if not torch.isfinite(tensor.detach().sum()) and not torch.isfinite(tensor).all():
            message = (
                f"{name} holds values that are not finite (NaN or infinity); removal is refused: "
                "load a checkpoint from before training diverged"
            )
            raise ModelError(message)


def _refuse_other_device(model: nn.Module, inputs: Inputs) -> None:
    parameter = next(model.parameters(), None)
    if parameter is None:
        return
    for tensor in inputs.tensors():
        if tensor.device.type != parameter.device.type:
            message = (
                f"the example inputs are on {tensor.device}, the model is on {parameter.device}; "
                "move one to the other's device"
            )
            raise InputError(message)
