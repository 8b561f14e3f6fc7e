"""Run a captured program on real tensors, to look at values inside the model without hooks."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from abscise._errors import InputError
from abscise._inputs import Inputs, map_tensors
from abscise.graph._functional import operation
from abscise.graph._program import Program, resolve


def observe(program: Program, data: Inputs, see: Callable[[int, Tensor], None]) -> None:
    """Show `see(value id, tensor)` every value of the program, for all samples of `data`.

    The program is run in chunks of the batch size that it was captured with; the last chunk is
    filled with repeats of the last sample, so `see` must not count.

    Raises:
        InputError: The data's tensors do not fit the program's inputs.
    """
    constants = _constants(program)
    last_use = _last_use(program)
    with torch.no_grad():
        for chunk in _chunks(program, data):
            env: dict[int, Tensor] = dict(zip(program.inputs, chunk, strict=True))
            env.update(constants)
            for position, step in enumerate(program.steps):
                args, kwargs = resolve((step.args, dict(step.kwargs)), env)
                result = operation(step.op)(*args, **kwargs)
                results = result if isinstance(result, tuple | list) else (result,)
                for value, tensor in zip(step.outputs, results, strict=True):
                    env[value] = tensor
                    see(value, tensor)
                for value in last_use.get(position, ()):
                    _ = env.pop(value, None)


def _constants(program: Program) -> dict[int, Tensor]:
    for entry in program.values:
        if entry.name is not None and entry.data is None:
            message = f"{entry.name} changes at every call: activations cannot be measured on data"
            raise InputError(message)
    return {value: v.data for value, v in enumerate(program.values) if v.data is not None}


def _last_use(program: Program) -> dict[int, list[int]]:
    last: dict[int, int] = {}
    for position, step in enumerate(program.steps):
        for value in (*step.inputs, *step.outputs):
            last[value] = position
    found: dict[int, list[int]] = {}
    for value, position in last.items():
        found.setdefault(position, []).append(value)
    return found


def _chunks(program: Program, data: Inputs) -> Iterator[list[Tensor]]:
    tensors = data.tensors()
    wanted = [program.values[value] for value in program.inputs]
    if len(tensors) != len(wanted):
        message = f"the data holds {len(tensors)} tensors, the model takes {len(wanted)}"
        raise InputError(message)
    for tensor, entry in zip(tensors, wanted, strict=True):
        if tuple(tensor.shape[1:]) != entry.shape[1:] or tensor.dtype != entry.dtype:
            message = (
                f"the data has samples of {tuple(tensor.shape[1:])} in {tensor.dtype}, the example "
                f"inputs have {entry.shape[1:]} in {entry.dtype}"
            )
            raise InputError(message)
    batch = wanted[0].shape[0] if wanted[0].shape else 1
    samples = tensors[0].shape[0] if tensors[0].ndim else 1
    for start in range(0, samples, batch):
        index = torch.arange(start, start + batch).clamp(max=samples - 1)
        yield [
            tensor.index_select(0, index.to(tensor.device)) if tensor.ndim else tensor
            for tensor in tensors
        ]


def first_samples(inputs: Inputs, count: int) -> Inputs:
    """At most `count` samples of each tensor."""

    def cut(tensor: Tensor) -> Tensor:
        return tensor[:count] if tensor.ndim else tensor

    return Inputs(map_tensors(inputs.args, cut), map_tensors(dict(inputs.kwargs), cut))
