"""`key=value` on the command line."""

from abscise._errors import RecipeError
from abscise.cli._usage import UsageError
from abscise.train import read_yaml


def settings(pairs: tuple[str, ...], option: str = "--set") -> dict[str, object]:
    """`key=value` texts as a mapping; a value is what YAML makes of it.

    Example:
        >>> settings(("seed=1", "widths=[8, 16]"))
        {'seed': 1, 'widths': [8, 16]}
    """
    found: dict[str, object] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            message = f"{option} {pair}: write key=value, e.g. {option} seed=1"
            raise UsageError(message)
        try:
            found[key] = read_yaml(value, f"{option} {pair[:60]}")
        except RecipeError as error:
            raise UsageError(str(error)) from error
    return found
