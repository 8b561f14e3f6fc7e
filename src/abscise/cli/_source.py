"""The user's model and inputs from what the command line names."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from abscise._importing import import_callable, one_line
from abscise._inputs import Inputs
from abscise.cli._options import ModelOptions
from abscise.cli._usage import UsageError
from abscise.store import load, load_weights, read_checkpoint


def build_model(spec: str, options: ModelOptions, console: Console) -> nn.Module:
    """The model in eval mode with its checkpoint loaded; what was changed in that is printed."""
    model = _call(spec, options.model_args).eval()
    if options.checkpoint is None:
        return model
    if options.checkpoint.is_dir():
        return load(options.checkpoint, model).eval()
    state, notes = read_checkpoint(options.checkpoint, options.key)
    load_weights(model, state)
    for note in notes:
        console.print(f"{options.checkpoint}: {note}")
    return model


def loading_lines(options: ModelOptions, folder: Path) -> tuple[str, ...]:
    """The lines of Python that load what is saved in `folder` as `model`."""
    module, _, name = options.model.partition(":")
    called = f"(**{options.model_args!r})" if options.model_args else "()"
    dense = name if isinstance(_find(options.model), nn.Module) else name + called
    return (
        "import abscise",
        f"from {module} import {name.partition('.')[0]}",
        f"model = abscise.load({str(folder)!r}, {dense})",
    )


def read_inputs(options: ModelOptions) -> Inputs:
    """The model's inputs: of a file, or random ones of the given shapes (seed 0).

    Raises:
        UsageError: Neither is given, or both, or a shape cannot be read.
    """
    if options.inputs is not None and options.input:
        message = "--input and --inputs exclude each other: give shapes or a file"
        raise UsageError(message)
    if options.inputs is not None:
        return inputs_of_file(options.inputs)
    if not options.input:
        message = "the model's inputs are needed: --input 1x3x224x224 or --inputs file.safetensors"
        raise UsageError(message)
    generator = torch.Generator().manual_seed(0)
    return Inputs(tuple(random_tensor(spec, generator) for spec in options.input))


def inputs_of_file(path: Path) -> Inputs:
    """Tensors named 0, 1, ... as positional arguments, all others as keyword arguments."""
    if path.suffix != ".safetensors":
        message = f"inputs must be a .safetensors file, got {path}"
        raise UsageError(message)
    tensors, _ = read_checkpoint(path)
    positions = [name for name in tensors if name.isdecimal()]
    if sorted(positions, key=int) != [str(i) for i in range(len(positions))]:
        message = f"{path}: positional inputs must be named 0, 1, ... without gaps, got {positions}"
        raise UsageError(message)
    args = tuple(tensors[str(i)] for i in range(len(positions)))
    return Inputs(args, {key: value for key, value in tensors.items() if key not in positions})


def random_tensor(spec: str, generator: torch.Generator) -> Tensor:
    """A tensor for `1x3x224x224[:dtype]`: N(0, 1) for floats, zeros for other dtypes."""
    sizes, _, name = spec.partition(":")
    dtype = getattr(torch, name or "float32", None)
    if not isinstance(dtype, torch.dtype):
        message = f"--input {spec}: {name!r} is no torch dtype; try float32 or int64"
        raise UsageError(message)
    parts = sizes.split("x")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        message = f"--input {spec}: a shape is positive sizes joined by x, e.g. 1x3x224x224"
        raise UsageError(message)
    shape = tuple(int(part) for part in parts)
    if not dtype.is_floating_point:
        return torch.zeros(shape, dtype=dtype)
    return torch.randn(shape, generator=generator).to(dtype)


def _call(spec: str, arguments: dict[str, Any]) -> nn.Module:
    factory = _find(spec)
    try:
        model = factory(**arguments) if not isinstance(factory, nn.Module) else factory
    except Exception as error:
        message = f"model {spec} with {arguments or 'no arguments'}: {one_line(error)}"
        raise UsageError(message) from error
    if not isinstance(model, nn.Module):
        message = f"model {spec} must give a torch.nn.Module, got {type(model).__name__}"
        raise UsageError(message)
    return model


def _find(spec: str) -> Callable[..., Any]:
    if not spec:
        message = "--model package.module:function is needed"
        raise UsageError(message)
    module_name, _, name = spec.partition(":")
    if Path(spec).is_dir():
        message = (
            f"model {spec} is a folder, which holds no code: give --checkpoint {spec} "
            "and the original class as --model package.module:function"
        )
        raise UsageError(message)
    if not module_name or not name:
        message = f"a model is named package.module:function, got {spec!r}"
        raise UsageError(message)
    return import_callable(spec, "model", UsageError)
