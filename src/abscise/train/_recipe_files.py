"""Recipes as YAML: those that come with the package, the user's own, and changes to both."""

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields
from difflib import get_close_matches
from enum import StrEnum
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from abscise._errors import RecipeError
from abscise._json import describe
from abscise.train._recipe import Recipe
from abscise.train._yaml import read_yaml

CONTROL_PREFIX = "control-"
SUFFIX = ".yaml"


def recipe_names() -> tuple[str, ...]:
    """The recipes that come with the package."""
    return tuple(name for name in _packaged() if not name.startswith(CONTROL_PREFIX))


def control_names() -> tuple[str, ...]:
    """The controls that come with the package: small changes that must undo a recipe's effect."""
    prefix = CONTROL_PREFIX
    return tuple(name.removeprefix(prefix) for name in _packaged() if name.startswith(prefix))


def load_recipe(
    name_or_path: str | Path,
    overrides: Mapping[str, object] = types.MappingProxyType({}),
    *,
    control: str | None = None,
) -> Recipe:
    """A recipe by name, or from a YAML file; then the control's changes, then `overrides`.

    Args:
        name_or_path: One of `recipe_names()`, or a file; what ends in .yaml or .yml, or has a
            slash, is a file.
        overrides: Field -> value, as YAML would give it: `{"seed": 3}`.
        control: One of `control_names()`. It is added to the recipe's name.

    Raises:
        RecipeError: No such recipe, not a YAML mapping, an unknown field or an impossible value.
    """
    values = _read(name_or_path)
    if control is not None:
        if control not in control_names():
            message = f"no control {control!r}: one of {', '.join(control_names())}"
            raise RecipeError(message)
        values |= _parse(_packaged()[CONTROL_PREFIX + control].read_bytes(), f"control {control}")
        values["name"] = f"{values.get('name')}-{control}"
    return recipe_from(values | dict(overrides))


def recipe_from(values: Mapping[str, object]) -> Recipe:
    """The recipe with these fields, each checked for its type and its range.

    Raises:
        RecipeError: An unknown or missing field, a wrong type, a value out of range.
    """
    where = f"recipe {values.get('name', 'without a name')}"
    known = {field.name: field for field in fields(Recipe)}
    for key in values:
        if key not in known:
            nearest = get_close_matches(str(key), known, n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(known)}"
            message = f"{where}: unknown key {key!r}; {hint}"
            raise RecipeError(message)
    missing = [
        key
        for key, field in known.items()
        if field.default is field.default_factory is MISSING and key not in values
    ]
    if missing:
        message = f"{where}: the key {missing[0]!r} is missing"
        raise RecipeError(message)
    hints = get_type_hints(Recipe)
    typed: dict[str, Any] = {
        key: _typed(value, hints[key], f"{where}: {key}") for key, value in values.items()
    }
    return Recipe(**typed)


def _packaged() -> dict[str, Traversable]:
    folder = files("abscise.train").joinpath("recipes")
    found = [entry for entry in folder.iterdir() if entry.name.endswith(SUFFIX)]
    return {entry.name.removesuffix(SUFFIX): entry for entry in sorted(found, key=lambda e: e.name)}


def _read(name_or_path: str | Path) -> dict[str, object]:
    text = str(name_or_path)
    if not (isinstance(name_or_path, Path) or "/" in text or text.endswith((SUFFIX, ".yml"))):
        if text not in recipe_names():
            nearest = get_close_matches(text, recipe_names(), n=1)
            hint = f" (did you mean {nearest[0]}?)" if nearest else ""
            names = ", ".join(recipe_names())
            message = f"no recipe {text!r}{hint}: one of {names}, or the path of a YAML file"
            raise RecipeError(message)
        return _parse(_packaged()[text].read_bytes(), f"recipe {text}")
    try:
        content = Path(name_or_path).read_bytes()
    except OSError as problem:
        message = f"cannot read the recipe {text}: {problem.strerror or problem}"
        raise RecipeError(message) from problem
    return _parse(content, f"recipe {text}")


def _parse(content: bytes, where: str) -> dict[str, object]:
    values = read_yaml(content, where)
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        message = f"{where}: must be a mapping of keys to values, got {type(values).__name__}"
        raise RecipeError(message)
    return dict(values)


def _typed(value: object, wanted: Any, where: str) -> Any:
    """`value` as `wanted`: text, number, flag, an enum's member, a tuple or keyword arguments."""
    if get_origin(wanted) is tuple:
        return _typed_tuple(value, get_args(wanted), where)
    if get_origin(wanted) is Mapping:
        return _typed_arguments(value, where)
    if isinstance(wanted, type) and issubclass(wanted, StrEnum):
        names = [member.value for member in wanted]
        if value not in names:
            message = f"{where} must be one of {', '.join(names)}, got {value!r}"
            raise RecipeError(message)
        return wanted(value)
    number = value
    if wanted is float and isinstance(value, str):
        number = _float(value)  # YAML 1.1 reads 1e-3, without a dot, as text
    accepted = (int, float) if wanted is float else wanted
    if not isinstance(number, accepted) or (isinstance(number, bool) and wanted is not bool):
        message = f"{where} must be {_article(wanted)}, got {value!r}"
        raise RecipeError(message)
    try:
        return wanted(number)
    except OverflowError as problem:
        message = f"{where} must be {_article(wanted)}, got {describe(value)}"
        raise RecipeError(message) from problem


def _typed_tuple(value: object, kinds: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    length = None if kinds[-1] is Ellipsis else len(kinds)
    if not isinstance(value, list | tuple) or (length is not None and len(value) != length):
        count = "" if length is None else f"{length} "
        items = "texts" if kinds[0] is str else "numbers"
        message = f"{where} must be a list of {count}{items}, got {value!r}"
        raise RecipeError(message)
    return tuple(_typed(item, kinds[0], f"{where}[{index}]") for index, item in enumerate(value))


def _typed_arguments(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        message = f"{where} must be a mapping of names to values, got {value!r}"
        raise RecipeError(message)
    return dict(value)


def _float(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _article(wanted: type) -> str:
    return {str: "a text", int: "an integer", float: "a number", bool: "true or false"}[wanted]
