"""The inside of a checkpoint, read and written as somebody with an editor could."""

import json
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import safe_open
from torch import Tensor


def read_inside(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The JSON of a checkpoint, and its tensors by name."""
    with safe_open(path, framework="pt") as file:
        held = json.loads(file.metadata()["abscise"])
        return held, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def write_inside(path: Path, held: object, tensors: dict[str, Tensor]) -> None:
    """A checkpoint file with this inside."""
    safetensors.torch.save_file(tensors, path, {"abscise": json.dumps(held)})
