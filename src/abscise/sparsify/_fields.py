"""Values of a state, read strictly: keys, format, numbers, truth."""

import math
from collections.abc import Mapping
from typing import Any, NoReturn

FORMAT = 1


def read_keys(value: object, keys: tuple[str, ...], version: int = FORMAT) -> Mapping[str, Any]:
    """A state with exactly these keys; if `format` is one of them, it is `version`.

    Raises:
        ValueError: A key is missing or unknown, or the format is another.
    """
    if not isinstance(value, Mapping) or set(value) != set(keys):
        got = ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
        message = f"state_dict: the keys must be {', '.join(keys)}, got {got:.200}"
        raise ValueError(message)
    if value.get("format", version) != version:
        message = f"state_dict: format must be {version}, got {value['format']!r:.60}"
        raise ValueError(message)
    return value


def read_count(key: str, value: object) -> int:
    """An integer >= 0.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        refuse(key, "an integer >= 0", value)
    return value


def read_truth(key: str, value: object) -> bool:
    """True or False.

    Raises:
        ValueError: It is neither.
    """
    if not isinstance(value, bool):
        refuse(key, "True or False", value)
    return value


def read_number(key: str, value: object) -> float:
    """A finite float.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(value, float) or not math.isfinite(value):
        refuse(key, "a finite number", value)
    return value


def refuse(key: str, rule: str, value: object) -> NoReturn:
    """Raise that a state is none of ours.

    Raises:
        ValueError: Always.
    """
    message = f"state_dict: {key} must be {rule}, got {value!r:.100}"
    raise ValueError(message)
