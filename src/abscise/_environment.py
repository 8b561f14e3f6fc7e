"""Environment: where a figure comes from: the device, the versions and the commit, as data."""

import datetime as dt
import importlib.metadata
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch


@dataclass(frozen=True, slots=True)
class Environment:
    """Where something was measured.

    Args:
        device: In words.
        threads: That torch used on the CPU.
        versions: Of python and of the packages that a figure depends on.
        commit: Of this package's source, "-dirty" if it was changed; None outside a checkout.
        date: Day, in UTC, as YYYY-MM-DD.
    """

    device: str
    threads: int
    versions: Mapping[str, str]
    commit: str | None
    date: str

    def __post_init__(self) -> None:
        """Refuse what names no device, no thread and no day."""
        if not self.device or self.threads < 1:
            message = f"an environment has a device and threads >= 1, got {self.threads}"
            raise ValueError(message)
        if dt.date.fromisoformat(self.date).isoformat() != self.date:
            message = f"date must be written YYYY-MM-DD, got {self.date}"
            raise ValueError(message)


def this_environment(device: torch.device | str = "cpu") -> Environment:
    """The environment of this process."""
    return Environment(
        device=describe_device(torch.device(device)),
        threads=torch.get_num_threads(),
        versions=versions(),
        commit=commit(),
        date=dt.datetime.now(dt.UTC).date().isoformat(),
    )


def versions() -> dict[str, str]:
    """Versions of python and of the packages that a figure depends on."""
    try:
        own = importlib.metadata.version("abscise")
    except importlib.metadata.PackageNotFoundError:
        own = "not installed"
    return {
        "abscise": own,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def commit() -> str | None:
    """The commit of this package's source, "-dirty" if it was changed; None outside a checkout."""
    git = shutil.which("git")
    if git is None:
        return None
    here = Path(__file__)
    if _git(git, here, "ls-files", "--error-unmatch", here.name) is None:
        return None  # installed into somebody else's repository
    return _git(git, here, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def describe_device(device: torch.device) -> str:
    """The device in words: GPU name, or CPU instruction set."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"{platform.machine()} CPU, {torch.backends.cpu.get_cpu_capability()}"
    return device.type


def device_and_threads(device: torch.device | str) -> str:
    """The device in one phrase, for the CPU with the number of threads."""
    words = describe_device(torch.device(device))
    cpu = torch.device(device).type == "cpu"
    return f"{words}, {torch.get_num_threads()} threads" if cpu else words


def _git(git: str, here: Path, *arguments: str) -> str | None:
    command = [git, "-C", str(here.parent), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip() if done.returncode == 0 else None
