"""State dict into model, strictly; and which names of a model mean the same tensor."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from abscise._errors import StoreError


def load_weights(model: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Load `state_dict` into `model` in place; floating-point dtypes are cast to the model's.

    A tied weight may be given under one of its names only. Nothing is loaded unless all of it fits.

    Raises:
        StoreError: Names are missing or unexpected, or shapes differ.
    """
    wanted = tensor_state(model)
    aliases = tied_names(wanted)
    complete = dict(state_dict)
    for name in wanted:
        of = aliases.get(name, name)
        group = [other for other in wanted if aliases.get(other, other) == of]
        given = next((other for other in group if other in state_dict), None)
        if given is not None:
            _ = complete.setdefault(name, state_dict[given])
    problems = [
        *_listed("missing", [name for name in wanted if name not in complete]),
        *_listed("unexpected", [name for name in complete if name not in wanted]),
        *_listed("of another shape or kind", _misfits(wanted, complete)),
        *_listed("tied in the model but not equal", _torn(complete, aliases)),
    ]
    if problems:
        message = f"weights do not fit {type(model).__name__}: {'; '.join(problems)}"
        raise StoreError(message)
    with torch.no_grad():
        _ = model.load_state_dict(complete, strict=True)


def tensor_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict.

    Raises:
        StoreError: An entry is no dense tensor, so that only a pickle could hold it.
    """
    state = dict(model.state_dict())
    for name, value in state.items():
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized:
            message = (
                f"{name} of {type(model).__name__} is no dense tensor but {type(value).__name__}: "
                "it cannot be stored without pickle"
            )
            raise StoreError(message)
    return state


def tied_names(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Every name whose tensor an earlier name has already -> that earlier name."""
    seen: dict[tuple[object, ...], str] = {}
    aliases: dict[str, str] = {}
    for name, tensor in state.items():
        if tensor.numel() == 0 or tensor.is_meta:
            continue
        key = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        first = seen.setdefault(key, name)
        if first != name:
            aliases[name] = first
    return aliases


def restore_ties(model: nn.Module, aliases: Mapping[str, str]) -> None:
    """Make each name the very parameter or buffer that its first name bears."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    buffers = dict(model.named_buffers(remove_duplicate=False))
    for name, of in aliases.items():
        for tensors in (parameters, buffers):
            if name in tensors and of in tensors and tensors[name] is not tensors[of]:
                owner, _, attribute = name.rpartition(".")
                setattr(model.get_submodule(owner), attribute, tensors[of])


def _misfits(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    return [
        f"{name} {tuple(given[name].shape)}, must be {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in given
        and (given[name].shape != tensor.shape or _family(given[name]) != _family(tensor))
    ]


def _family(tensor: Tensor) -> tuple[bool, bool]:
    return tensor.is_floating_point(), tensor.is_complex()


def _torn(given: Mapping[str, Tensor], aliases: Mapping[str, str]) -> list[str]:
    """Loading both would silently keep the one that comes last."""
    return [
        f"{name} and {of}"
        for name, of in aliases.items()
        if name in given and of in given and not _same(given[name], given[of])
    ]


def _same(one: Tensor, other: Tensor) -> bool:
    return one is other or (one.shape == other.shape and torch.equal(one, other.to(one)))


def _listed(what: str, names: list[str], limit: int = 4) -> list[str]:
    if not names:
        return []
    shown = ", ".join(names[:limit])
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return [f"{what}: {shown}{more}"]
