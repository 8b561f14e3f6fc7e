"""Training seeds every random generator; the caller gets theirs back as they were."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


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
