"""What every recorded benchmark says beside its figures, and where the line goes."""

import json
from pathlib import Path
from typing import Any

import torch

from abscise._environment import commit, device_and_threads, versions
from abscise._lines import append_line


def surroundings(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Where and by what the figures were measured."""
    return {
        "device": device_and_threads(device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "commit": commit(),
    }


def record(entry: dict[str, Any], path: Path | None) -> None:
    """Append `entry` as one whole line of JSON to `path`, if there is one."""
    if path is not None:
        append_line(path, (json.dumps(entry, sort_keys=True, allow_nan=False) + "\n").encode())
