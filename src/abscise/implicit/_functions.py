"""The activation functions that are known, and how their calls are seen."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from typing_extensions import override

DIES = frozenset(
    {
        "relu",
        "relu6",
        "hardsigmoid",
        "hardswish",
        "rnnrelu",
        "rnnrelucell",
        "threshold",
        "clamp at 0",
    }
)
"""Functions that give exactly 0, with gradient 0, for all inputs below a number."""

LIVES = frozenset(
    {
        "celu", "elu", "gelu", "glu", "leakyrelu", "logsigmoid", "mish", "prelu", "rnntanh",
        "rnntanhcell", "rrelu", "selu", "sigmoid", "silu", "softplus", "softsign", "tanh",
    }
)  # fmt: skip
"""Functions whose gradient is not 0 for whole half-lines: a unit never gets silent exactly."""

FADES = frozenset({"gelu", "glu", "logsigmoid", "mish", "sigmoid", "silu", "softplus"})
"""Those of them whose output and gradient both go to 0 on one side, far from 0: nearly silent."""

_SPELLED = re.compile(r"(GELU|Gelu|SiLU|SILU|Silu|Swish|Mish)(?![a-z])")
"""What the name of a class that computes one of them by hand has in it: NewGELUActivation."""


_INTO = frozenset(f"__i{name}__" for name in ("add", "sub", "mul", "truediv", "and", "or", "xor"))


def kind_of(module: nn.Module) -> str:
    """The name of a module's class as in `DIES` and `LIVES`, as far as it has one of them in it."""
    name = type(module).__name__
    plain = name.lower()
    found = _SPELLED.search(name)
    if plain in DIES | LIVES or found is None or "hard" in plain or [*module.children()]:
        return plain
    return found[1].lower().replace("swish", "silu")


def function_name(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> str:
    """The name of a torch function as in `DIES` and `LIVES`."""
    name = str(getattr(func, "__name__", "")).strip("_").replace("_", "")
    clamps = name.startswith(("clamp", "clip", "hardtanh"))
    return "clamp at 0" if clamps and _lower_bound(args, kwargs) == 0 else name


class Call(NamedTuple):
    """One call of a torch function: its name as `function_name` gives it, and what it gave.

    `in_place`: whether it wrote into its first operand.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    result: object
    in_place: bool = False


class FunctionCalls(TorchFunctionMode):
    """Gives `see` every call of a torch function."""

    def __init__(self, see: Callable[[Call], None]) -> None:
        super().__init__()
        self.see = see

    @override
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        result = func(*args, **given)
        self.see(Call(function_name(func, args, given), args, given, result, _in_place(func)))
        return result


def _in_place(func: Callable[..., Any]) -> bool:
    """By torch's names: add_, __setitem__, __iadd__."""
    name = str(getattr(func, "__name__", ""))
    if name.startswith("__"):
        return name == "__setitem__" or name in _INTO
    return name.endswith("_")


def _lower_bound(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> object:
    named = kwargs.get("min", kwargs.get("min_val"))
    bound = args[1] if named is None and len(args) > 1 else named
    return bound.item() if isinstance(bound, Tensor) and bound.numel() == 1 else bound
