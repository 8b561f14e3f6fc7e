"""The inside of a checkpoint, read and written as somebody with an editor could."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor


def read_inside(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The JSON of a checkpoint, and its tensors by name."""
    tensors = load_file(path)
    return json.loads(tensors.pop("abscise").numpy().tobytes()), tensors


def write_inside(path: Path, held: object, tensors: dict[str, Tensor]) -> None:
    """A checkpoint file with this inside."""
    text = bytearray(json.dumps(held).encode())
    save_file(tensors | {"abscise": torch.frombuffer(text, dtype=torch.uint8)}, path)
