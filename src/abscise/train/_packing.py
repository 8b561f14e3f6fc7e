"""State dicts as strict JSON and a table of tensors, and back, equal bit for bit; no pickle.

JSON knows neither tensors nor tuples nor keys that are no text. Each such value becomes an object
with one key, its kind: tensor, dict, tuple, float.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from abscise._errors import StoreError

MAX_DEPTH = 50
MAX_BITS = 10_000  # python reads no longer integers from text
KEYS = str | int | bool | None


def pack(  # noqa: PLR0911 - one return per kind
    value: object, tensors: dict[str, Tensor], where: str, depth: int = 0
) -> object:
    """`value` as JSON; its tensors are copied to the CPU and added to `tensors` by name.

    Raises:
        StoreError: `value` holds something else than tensors, numbers, texts, None, and lists,
            tuples and dictionaries of them, which only a pickle could hold; or is too deep.
    """
    _check_size(value, where, depth)
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else {"float": repr(value)}
        case Tensor():
            return _tensor(value, tensors, where)
        case Mapping():
            pairs = [
                [_key(key, where), pack(of, tensors, f"{where}.{key}", depth + 1)]
                for key, of in value.items()
            ]
            return {"dict": pairs}
        case list():
            return _packed(value, tensors, where, depth)
        case tuple():
            return {"tuple": _packed(value, tensors, where, depth)}
        case _:
            return _refuse(value, where)


def _check_size(value: object, where: str, depth: int) -> None:
    """What is written must be readable again."""
    if depth > MAX_DEPTH:
        message = f"the state of {where[:60]}... is nested more than {MAX_DEPTH} deep"
        raise StoreError(message)
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        message = f"the state of {where} holds an integer of more than {MAX_BITS} bits"
        raise StoreError(message)


def _tensor(value: Tensor, tensors: dict[str, Tensor], where: str) -> object:
    if value.layout != torch.strided or value.is_quantized:
        return _refuse(value, where)
    if value.is_meta or is_lazy(value):
        message = f"the state of {where} holds a tensor without values (lazy, or on meta)"
        raise StoreError(message)
    name = f"{len(tensors)}:{where}"
    tensors[name] = torch.empty(value.shape, dtype=value.dtype).copy_(value.detach())
    return {"tensor": name}


def _packed(
    items: Sequence[object], tensors: dict[str, Tensor], where: str, depth: int
) -> list[object]:
    return [pack(of, tensors, f"{where}.{i}", depth + 1) for i, of in enumerate(items)]


def unpack(  # noqa: PLR0911 - one return per kind
    packed: object, tensors: Mapping[str, Tensor], depth: int = 0
) -> object:
    """What `pack` was given; dictionaries keep their order.

    Raises:
        StoreError: `packed` is nothing that `pack` makes, or names a tensor that is not there.
    """
    if depth > MAX_DEPTH:
        message = "its state is nested too deeply to be one of ours"
        raise StoreError(message)
    if isinstance(packed, list):
        return [unpack(item, tensors, depth + 1) for item in packed]
    if not isinstance(packed, dict):
        return packed
    match packed:
        case {"tensor": str() as name} if len(packed) == 1 and name in tensors:
            return tensors[name]
        case {"float": "nan" | "inf" | "-inf" as text} if len(packed) == 1:
            return float(text)
        case {"tuple": list() as items} if len(packed) == 1:
            return tuple(unpack(item, tensors, depth + 1) for item in items)
        case {"dict": list() as pairs} if len(packed) == 1:
            return dict(_pair(pair, tensors, depth) for pair in pairs)
    message = f"its state has an entry of no known kind ({', '.join(sorted(packed))[:60]})"
    raise StoreError(message)


def _pair(pair: object, tensors: Mapping[str, Tensor], depth: int) -> tuple[KEYS, object]:
    match pair:
        case [(str() | int() | None) as key, value]:
            return key, unpack(value, tensors, depth + 1)
        case _:
            message = "its state has a dictionary that is none"
            raise StoreError(message)


def _key(key: object, where: str) -> KEYS:
    if key is None or isinstance(key, str | int):
        return key
    message = f"the state of {where} has a key of {type(key).__name__}: use texts or integers"
    raise StoreError(message)


def _refuse(value: object, where: str) -> object:
    message = (
        f"the state of {where} holds {type(value).__name__}, which only a pickle could hold: "
        "use tensors, numbers, texts, lists, tuples and dictionaries"
    )
    raise StoreError(message)
