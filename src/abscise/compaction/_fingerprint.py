"""Which architecture a plan belongs to, as one short text."""

import hashlib
import json

from torch import nn


def fingerprint(model: nn.Module) -> str:
    """SHA-256 of names, shapes and dtypes of all parameters and buffers; the values do not matter.

    A tied parameter counts under each of its names.
    """
    parameters = model.named_parameters(remove_duplicate=False)
    buffers = model.named_buffers(remove_duplicate=False)
    rows = sorted(
        (kind, name, list(tensor.shape), str(tensor.dtype))
        for kind, found in (("parameter", parameters), ("buffer", buffers))
        for name, tensor in found
    )
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
