"""One call of a model on inputs of the user's."""

from typing import Any

import torch
from torch import nn

from abscise._errors import InputError
from abscise._inputs import Inputs, map_tensors


def forward(model: nn.Module, inputs: Inputs, what: str = "inputs given") -> Any:
    """One call of `model`, on its own device; `what` names the inputs in an error.

    Raises:
        InputError: It fails.
    """
    place = next((it.device for it in model.parameters()), torch.device("cpu"))
    args, kwargs = map_tensors((inputs.args, dict(inputs.kwargs)), lambda it: it.to(place))
    try:
        return model(*args, **kwargs)
    except Exception as problem:
        reason = " ".join(str(problem).split())[:200]
        message = f"{type(model).__name__} does not run on the {what}: {reason}"
        raise InputError(message) from problem
