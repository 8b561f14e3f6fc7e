"""Strict reading of JSON that somebody else may have edited: every field has a type and a range."""

import json
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from abscise._errors import AbsciseError

T = TypeVar("T")

MAX_INTEGER = 2**53
MAX_NUMBER = 1e300
MAX_TEXT = 10_000
MAX_ITEMS = 10_000_000
CONTROLS = frozenset({"Cc", "Cs"})
"""Unicode's categories of what no text of ours holds: control characters, half characters."""


def parse_json(text: bytes, where: str, error: type[AbsciseError]) -> object:
    """The value that `text` holds; NaN, Infinity and repeated keys are refused.

    Raises:
        AbsciseError: Of the given class; its text starts with `where`.
    """

    def constant(name: str) -> NoReturn:
        message = f"{name} is not JSON"
        raise ValueError(message)

    def pairs(found: list[tuple[str, object]]) -> dict[str, object]:
        if len(dict(found)) != len(found):
            message = "a key appears twice in one object"
            raise ValueError(message)
        return dict(found)

    try:
        value: object = json.loads(
            text.decode("utf-8"), parse_constant=constant, object_pairs_hook=pairs
        )
    except RecursionError:
        message = f"{where}: nested too deeply to be one of ours"
        raise error(message) from None
    except ValueError as problem:
        message = f"{where}: not valid JSON ({problem}); it is truncated or was edited"
        raise error(message) from None
    return value


def check_format(
    value: object, expected: int, where: str, way_out: str, error: type[AbsciseError]
) -> None:
    """Refuse another version's object before its fields are looked at."""
    if isinstance(value, dict) and value.get("format", expected) != expected:
        message = (
            f"{where}: format must be {expected}, got {describe(value['format'])}: it was written "
            f"by another version of abscise; {way_out}"
        )
        raise error(message)


def read_fields(
    value: object, names: tuple[str, ...], where: str, error: type[AbsciseError]
) -> "Fields":
    """`value` as an object that has exactly the fields `names`."""
    if not isinstance(value, dict):
        message = f"{where}: must be an object with fields, got {describe(value)}"
        raise error(message)
    missing = [name for name in names if name not in value]
    unknown = [describe(name) for name in value if name not in names]
    if missing or unknown:
        message = f"{where}: missing fields {missing[:5]}, unknown fields {unknown[:5]}"
        raise error(message)
    return Fields(value, where, error)


def printable(text: str) -> str:
    r"""`text` with its control characters and lone surrogates written as escapes.

    Example:
        >>> printable("a\nb")
        'a\\nb'
    """
    if not any(unicodedata.category(character) in CONTROLS for character in text):
        return text
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in CONTROLS
        else character
        for character in text
    )


def describe(value: object) -> str:
    """A short text for an error message, whatever `value` is."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        return "a huge integer"
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


@dataclass(frozen=True, slots=True)
class Fields:
    """One JSON object whose fields are asked for one by one; errors name field and value."""

    values: Mapping[str, object]
    where: str
    error: type[AbsciseError]

    def integer(self, name: str, low: int = 0, high: int = MAX_INTEGER) -> int:
        """An integer in `[low, high]`; booleans are none."""
        value = self.values[name]
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.refuse(name, f"an integer from {low} to {high}")
        return value

    def number(self, name: str, low: float = 0.0, high: float = MAX_NUMBER) -> float:
        """A finite number in `[low, high]`; booleans are none."""
        value = self.values[name]
        if not isinstance(value, int | float) or isinstance(value, bool):
            self.refuse(name, "a number")
        if not low <= value <= high:  # which NaN is not, and huge integers are compared exactly
            rule = f"a finite number >= {low:g}"
            self.refuse(name, rule if high == MAX_NUMBER else f"a number from {low:g} to {high:g}")
        return float(value)

    def boolean(self, name: str) -> bool:
        """True or false."""
        value = self.values[name]
        if not isinstance(value, bool):
            self.refuse(name, "true or false")
        return value

    def text(self, name: str, choices: tuple[str, ...] = ()) -> str:
        """A text of bounded length without control characters; one of `choices` if given."""
        value = self.values[name]
        if not isinstance(value, str) or len(value) > MAX_TEXT:
            self.refuse(name, f"a text of at most {MAX_TEXT} characters")
        if any(unicodedata.category(character) in CONTROLS for character in value):
            self.refuse(name, "a text without control characters")
        if choices and value not in choices:
            self.refuse(name, f"one of {', '.join(choices)}")
        return value

    def name(self, name: str) -> str:
        """The qualified name of a module, parameter or buffer: a text that is not empty."""
        value = self.text(name)
        if not value or len(value) > 1000:
            self.refuse(name, "a name of 1 to 1000 characters")
        return value

    def items(self, name: str, length: int | None = None) -> list[object]:
        """A list, of `length` when one is given."""
        value = self.values[name]
        if not isinstance(value, list) or len(value) > MAX_ITEMS:
            self.refuse(name, f"a list of at most {MAX_ITEMS} items")
        if length is not None and len(value) != length:
            self.refuse(name, f"a list of {length} items")
        return value

    def objects(self, name: str, names: tuple[str, ...]) -> list["Fields"]:
        """A list of objects with the fields `names`."""
        return [
            read_fields(item, names, f"{self.where}: {name}[{index}]", self.error)
            for index, item in enumerate(self.items(name))
        ]

    def mapping(self, name: str) -> dict[str, object]:
        """An object with any keys; its values are not checked."""
        value = self.values[name]
        if not isinstance(value, dict) or len(value) > MAX_ITEMS:
            self.refuse(name, "an object")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        return tuple(
            Fields({name: item}, self.where, self.error).text(name) for item in self.items(name)
        )

    def integers(self, name: str, low: int = 0, high: int = MAX_INTEGER) -> tuple[int, ...]:
        """A list of integers in `[low, high]`."""
        return tuple(
            Fields({name: item}, self.where, self.error).integer(name, low, high)
            for item in self.items(name)
        )

    def optional(self, name: str, read: Callable[[str], T]) -> T | None:
        """`read(name)`, or None where the field holds null."""
        return None if self.values[name] is None else read(name)

    def refuse(self, name: str, rule: str) -> NoReturn:
        """Raise: the field `name` must be `rule`."""
        message = f"{self.where}: {name} must be {rule}, got {describe(self.values[name])}"
        raise self.error(message)
