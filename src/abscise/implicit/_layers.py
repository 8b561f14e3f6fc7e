"""The layers whose units are watched, and where rectified activations come from."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from abscise._copying import copy_model, only_read
from abscise._errors import ModelError
from abscise._inputs import Inputs, tensors_in
from abscise.implicit._forward import forward
from abscise.implicit._functions import DIES, Call, FunctionCalls
from abscise.implicit._network import BATCH_NORMS

WRITERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True, slots=True)
class Watched:
    """A layer whose units are counted.

    Args:
        name: Qualified name of the module.
        units: Number of its outputs.
        scaled: A batch norm, whose units go by gamma; otherwise by incoming rows.
    """

    name: str
    units: int
    scaled: bool


def watched_layers(model: nn.Module, inputs: Inputs) -> tuple[Watched, ...]:
    """Linear layers, convolutions and batch norms that run, in the order in which they do.

    Layers that write the outputs of the model have no units that could die, nor have empty ones.

    Raises:
        InputError: The model does not run on `inputs`.
        ModelError: No such layer runs.
    """
    results: dict[str, Tensor] = {}

    def note(name: str, result: object) -> None:
        if isinstance(result, Tensor):
            results[name] = result

    with running_copy(model, note) as copy:
        outputs = tensors_in(forward(copy, inputs))
    written = {id(tensor) for tensor in outputs}
    found = []
    for name, result in results.items():
        module = model.get_submodule(name)
        weight = weight_of(module)
        if id(result) not in written and weight.numel():
            found.append(Watched(name, len(weight), isinstance(module, BATCH_NORMS)))
    if not found:
        message = f"{type(model).__name__} has no linear layer, convolution or batch norm to watch"
        raise ModelError(message)
    return tuple(found)


def weight_of(module: nn.Module) -> Tensor:
    """The weight of a layer: its Parameter, or what it runs with where that is computed.

    As by weight norm, spectral norm or a mask. To look at it changes nothing in the module.
    """
    own = dict(module.named_parameters(recurse=False)).get("weight")
    if own is not None:
        return own
    with torch.no_grad():
        computed: Tensor = copy_model(module, share=True).eval().weight.detach()  # type: ignore[operator]
    return computed


@contextmanager
def running_copy(model: nn.Module, after: Callable[[str, object], None]) -> Iterator[nn.Module]:
    """A copy in eval mode on the model's own weights; `after` gets each layer's name and result.

    Gradients are off; the random state is restored. The model itself gets no hook.
    """
    copy = copy_model(model, share=False, shared=only_read(model)).eval()
    for name, module in copy.named_modules():
        weighted = isinstance(getattr(module, "weight", None), Tensor)
        if weighted and isinstance(module, (*WRITERS, *BATCH_NORMS)):
            _ = module.register_forward_hook(_telling(name, after))
    with torch.random.fork_rng(), torch.no_grad():
        yield copy


def watch_rectified(see: Callable[[Tensor], None]) -> FunctionCalls:
    """A context that gives `see` the result of every function that rectifies."""

    def rectified(call: Call) -> None:
        if isinstance(call.result, Tensor) and call.name in DIES:
            see(call.result)

    return FunctionCalls(rectified)


def _telling(name: str, after: Callable[[str, object], None]) -> Callable[..., None]:
    def hook(_module: nn.Module, _args: object, result: object) -> None:
        after(name, result)

    return hook
