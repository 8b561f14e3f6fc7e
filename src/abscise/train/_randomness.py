"""Training seeds every random generator; the caller gets theirs back as they were."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

WORDS = 624  # of the Mersenne twister


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside: everything random starts from `seed`. Afterwards: the caller's state, even on errors.

    Restored are the generators of torch (every CUDA device that has one), numpy and python, and
    cuDNN's flags. On a GPU equal seeds give equal weights only as far as its kernels are
    deterministic; on a CPU they do for the same number of threads.
    """
    numpy_state = np.random.get_state()  # noqa: NPY002 - the legacy generator is the global one
    python_state = random.getstate()
    cudnn = torch.backends.cudnn
    flags = (cudnn.benchmark, cudnn.deterministic)
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            _ = torch.manual_seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            random.seed(seed)
            cudnn.benchmark, cudnn.deterministic = False, True
            yield
    finally:
        cudnn.benchmark, cudnn.deterministic = flags
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002


def random_state() -> dict[str, object]:
    """The state of every global generator, as tensors, numbers and texts."""
    numpy: Any = np.random.get_state()  # noqa: NPY002
    name, key, position, has_gauss, gauss = numpy
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {
        "torch": torch.get_rng_state(),
        "cuda": cuda,
        "numpy": (name, torch.from_numpy(key.astype(np.int64)), position, has_gauss, gauss),
        "python": random.getstate(),
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Go on from what `random_state` gave, on as many CUDA devices as there were."""
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    name, key, position, has_gauss, gauss = state["numpy"]
    words = key.numpy().astype(np.uint32)
    if words.shape != (WORDS,) or position not in range(WORDS + 1):  # numpy would read past the end
        message = f"numpy's state must be {WORDS} words and a position in them, got {position}"
        raise ValueError(message)
    np.random.set_state((name, words, position, has_gauss, gauss))  # noqa: NPY002
    random.setstate(state["python"])
