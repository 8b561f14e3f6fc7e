"""Copies of a user's model: what is traced or edited is never the user's own object."""

import copy
from collections.abc import Iterable

from torch import Tensor, nn

from abscise._errors import ModelError


def only_read(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that a forward without gradients reads and does not write.

    An embedding with `max_norm` shortens its rows in place.
    """
    tables = [it for it in model.modules() if isinstance(it, nn.Embedding | nn.EmbeddingBag)]
    written = {id(it.weight) for it in tables if it.max_norm is not None}
    return [it for it in model.parameters() if id(it) not in written]


def copy_model(model: nn.Module, *, share: bool, shared: Iterable[Tensor] = ()) -> nn.Module:
    """A copy of `model`; with `share` its parameters and buffers are the model's own tensors.

    Without it only those in `shared` are.

    A tensor that a forward left in a plain attribute is shared, or copied without its history.

    Raises:
        ModelError: A part of the model cannot be copied.
    """
    memo: dict[int, object] = {id(tensor): tensor for tensor in shared}
    if share:
        memo = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value if share else value.detach().clone()
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        message = (
            f"{type(model).__name__} cannot be copied ({text}); "
            "remove what cannot (open files, locks, tensors kept in lists) from its attributes"
        )
        raise ModelError(message) from error
