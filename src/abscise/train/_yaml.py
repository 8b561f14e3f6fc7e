"""YAML that somebody wrote by hand, as plain values: a slip is one line, never a surprise."""

from collections.abc import Hashable
from typing import Any

import yaml
from typing_extensions import override

from abscise._errors import RecipeError

MAX_BITS = 1024
MERGE = "tag:yaml.org,2002:merge"


def read_yaml(content: str | bytes, where: str) -> Any:
    """The value that `content` holds; a key that appears twice is refused.

    Raises:
        RecipeError: It is not YAML, or holds what nobody can mean; the text starts with `where`.
    """
    try:
        return yaml.load(content, _Loader)  # noqa: S506 - a safe loader, with two more rules
    # The loader's own reading of dates and numbers fails in all these ways.
    except (yaml.YAMLError, ArithmeticError, AttributeError, RecursionError, ValueError) as problem:
        line = " ".join(str(problem).split())[:300] or type(problem).__name__
        message = f"{where}: not YAML ({line})"
        raise RecipeError(message) from problem


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """The safe loader, without keys that overwrite each other and integers without end."""

    @override
    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        nodes = [key for key, _ in node.value if key.tag != MERGE]
        keys = [self.construct_object(key, deep=True) for key in nodes]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                message = f"the key {key!r} appears twice"
                raise yaml.constructor.ConstructorError(None, None, message, node.start_mark)
        return super().construct_mapping(node, deep=deep)

    @override
    def construct_yaml_int(self, node: Any) -> int:
        found = super().construct_yaml_int(node)
        if found.bit_length() > MAX_BITS:
            message = "a huge integer"
            raise yaml.constructor.ConstructorError(None, None, message, node.start_mark)
        return found


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
