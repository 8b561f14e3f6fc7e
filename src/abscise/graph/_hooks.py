"""Forward hooks while a model is captured: those that only look are not shown tracing tensors."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import nn

from abscise._inputs import tensors_in


@contextlib.contextmanager
def quiet_hooks(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterator[None]:
    """Inside, forward hooks that do not change the computation are switched off.

    One plain forward tells which: a hook that returns a value, or changes a tensor in place, is
    part of the model and stays. Pre-hooks always stay. All hooks come back afterwards.
    """
    hooked = [module for module in model.modules() if module._forward_hooks]  # noqa: SLF001
    if not hooked:
        yield
        return
    saved = {module: dict(module._forward_hooks) for module in hooked}  # noqa: SLF001
    acting: set[tuple[int, int]] = set()
    try:
        for module in hooked:
            for key, hook in saved[module].items():
                module._forward_hooks[key] = _watched(hook, acting, (id(module), key))  # noqa: SLF001
        with contextlib.suppress(Exception):  # the capture itself reports what is wrong
            _ = model(*args, **kwargs)
        for module in hooked:
            for key in saved[module]:
                module._forward_hooks[key] = (  # noqa: SLF001
                    saved[module][key] if (id(module), key) in acting else _nothing
                )
        yield
    finally:
        for module, hooks in saved.items():
            for key, hook in hooks.items():
                module._forward_hooks[key] = hook  # noqa: SLF001


def _nothing(*_: object, **__: object) -> None:
    """A hook that does nothing, whatever it is called with."""


def _watched(
    hook: Callable[..., Any], acting: set[tuple[int, int]], key: tuple[int, int]
) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        before = _versions(args)
        result = hook(*args, **kwargs)
        if result is not None or _versions(args) != before:
            acting.add(key)
        return result

    return run


def _versions(tree: Any) -> list[int]:
    return [tensor._version for tensor in tensors_in(tree)]  # noqa: SLF001 - there is no public counter
