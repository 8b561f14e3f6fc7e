"""Where a NaN or an infinity began: an error that names the first layer concerned."""

from typing import Any

import torch
from torch import Tensor, nn

from abscise._errors import ModelError


def non_finite_error(model: nn.Module, inputs: Tensor, step: int) -> ModelError:
    """The error for a loss that is not finite at `step`, computed on the batch `inputs`."""
    culprit = first_non_finite(model, inputs)
    return ModelError(
        f"the loss is not finite at step {step}: {culprit}; "
        "lower the learning rate or check the data"
    )


def check_weights(model: nn.Module, step: int) -> None:
    """Refuse weights that the update of `step` made NaN or infinite, though the loss was finite.

    Raises:
        ModelError: It names the first layer concerned.
    """
    for name, module in model.named_modules():
        bad = _non_finite_state(module)
        if bad is not None:
            message = (
                f"step {step} made the {bad} of layer {name or 'model'} NaN or infinite, though "
                "its loss is finite; lower the learning rate, or clip the gradient"
            )
            raise ModelError(message)


def first_non_finite(model: nn.Module, inputs: Tensor) -> str:
    """What is not finite first, in the order in which the model runs its layers."""
    if not bool(torch.isfinite(inputs).all()):
        return "the inputs have NaN or infinite values"
    found: list[str] = []

    def look(name: str, module: nn.Module, output: Any) -> None:
        bad = _non_finite_state(module)
        if bad is not None:
            found.append(f"layer {name} has NaN or infinite values in its {bad}")
        elif isinstance(output, Tensor) and not bool(torch.isfinite(output).all()):
            found.append(f"layer {name} gives NaN or infinite outputs")

    leaves = [(n, m) for n, m in model.named_modules() if not any(m.children())]
    hooks = [
        module.register_forward_hook(lambda m, _inputs, output, n=name: look(n, m, output))
        for name, module in leaves
    ]
    try:
        with torch.no_grad():
            _ = model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else "every layer is finite, so the loss itself overflows"


def _non_finite_state(module: nn.Module) -> str | None:
    """The first of the module's own parameters that is not finite."""
    # Running averages are only kept, not used, while training: the outputs tell the rest.
    for name, parameter in module.named_parameters(recurse=False):
        if not bool(torch.isfinite(parameter).all()):
            return name
    return None
