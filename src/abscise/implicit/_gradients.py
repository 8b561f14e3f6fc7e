"""How large the gradients of single weights are, measured on a few batches."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from abscise._copying import copy_model
from abscise._errors import InputError, ModelError
from abscise._inputs import ExampleInputs, as_inputs


def gradient_sizes(
    model: nn.Module,
    batches: Iterable[tuple[ExampleInputs, Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
) -> dict[str, float]:
    """Parameter name -> root mean square of its gradient's elements, decay not included.

    A parameter that gets no gradient is left out: optimizers pass over it, decay and all.

    Nothing is trained: a copy in train mode computes the gradients at the weights as they are.

    Args:
        model: The network; it, its buffers and the random state stay as they are.
        batches: Pairs of inputs and targets, of the size used in training.
        loss: Of the model's output and the targets.

    Raises:
        InputError: There is no batch.
        ModelError: The model cannot be copied, or a gradient is NaN or infinite.
    """
    copy = copy_model(model, share=False).train()
    sums: dict[str, float] = {}
    count = 0
    with torch.random.fork_rng(), torch.enable_grad():
        for given, targets in batches:
            inputs = as_inputs(given)
            copy.zero_grad()
            loss(copy(*inputs.args, **inputs.kwargs), targets).backward()
            for name, parameter in copy.named_parameters():
                if parameter.grad is not None:
                    size = float(parameter.grad.double().square().mean())
                    sums[name] = sums.get(name, 0.0) + size
            count += 1
    if not count:
        message = "gradients need at least one batch, got none: the data is smaller than one batch"
        raise InputError(message)
    sizes = {name: math.sqrt(total / count) for name, total in sums.items()}
    for name, size in sizes.items():
        if not math.isfinite(size):
            message = f"the gradient of {name} is NaN or infinite"
            raise ModelError(message)
    return sizes
