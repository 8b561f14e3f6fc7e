"""What a network is made of, as far as death is concerned: activations, norms, kinds of parameters.

Nothing is captured: modules are looked at, and one forward without gradients tells which functions
are called.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from abscise._copying import copy_model
from abscise._errors import InputError
from abscise._inputs import ExampleInputs, as_inputs, map_tensors
from abscise.implicit._slopes import Leak, leak_of_call, leak_of_module, leak_of_name

DIES = frozenset({"relu", "relu6", "hardsigmoid", "hardswish", "threshold", "clamp at 0"})
"""Functions that give exactly 0, with gradient 0, for all inputs below a number."""

LIVES = frozenset(
    {
        "celu", "elu", "gelu", "glu", "leakyrelu", "logsigmoid", "mish", "prelu", "rrelu", "selu",
        "sigmoid", "silu", "softplus", "softsign", "tanh",
    }
)  # fmt: skip
"""Functions whose gradient is not 0 for whole half-lines: a unit never gets silent exactly."""

FADES = frozenset({"gelu", "glu", "logsigmoid", "mish", "sigmoid", "silu", "softplus"})
"""Those of them whose output and gradient both go to 0 on one side, far from 0: nearly silent."""

_SPELLED: Mapping[str, str] = {"gelu": "gelu", "silu": "silu", "swish": "silu", "mish": "mish"}
"""What a class that computes one of them by hand has in its name, such as NewGELUActivation."""

_NORMS = (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.InstanceNorm1d, nn.InstanceNorm2d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Kind(StrEnum):
    """What a parameter does: the scale or shift of a norm, or weights or biases of a layer."""

    WEIGHT = "weights"
    BIAS = "biases"
    GAMMA = "gamma"
    BETA = "beta"


CARRIERS = frozenset({Kind.WEIGHT, Kind.GAMMA})
"""With which a unit dies."""


@dataclass(frozen=True, slots=True)
class Network:
    """What decides, beside the optimizer, whether units can die.

    Args:
        dying: Names of functions found that silence a unit exactly, such as relu.
        living: Names of activation functions found that never do.
        batch_norms: Number of batch norms with a scale.
        looked: Whether a forward was run: without it, functions that no module stands for are not
            seen.
        leaks: Living functions that are linear below a bend, the smallest slope first.
    """

    dying: tuple[str, ...]
    living: tuple[str, ...]
    batch_norms: int
    looked: bool
    leaks: tuple[Leak, ...] = ()


def look_at(
    model: nn.Module,
    example_inputs: ExampleInputs | None = None,
    activations: Iterable[str] = (),
) -> Network:
    """Find activations and norms; the model, its mode, buffers and random state stay as they were.

    Args:
        model: Any module.
        example_inputs: Run once through a copy in eval mode; None looks at modules only.
        activations: More names, for functions that cannot be seen; a slope is then torch's own.

    Raises:
        InputError: The inputs do not run, or a name is not known.
    """
    given = {_known(name) for name in activations}
    if example_inputs is None:
        names = {_kind_of(it) for it in model.modules()}
        leaks = {leak_of_module(it) for it in model.modules()}
    else:  # what is called counts, not what is there
        names, leaks = _called(model, example_inputs)
    names |= given
    seen = {it.name for it in leaks if it is not None}
    leaks |= {leak_of_name(it) for it in given - seen}
    known = {it for it in leaks if it is not None}
    names |= {it.name for it in known}
    silent = {it.name for it in known if not it.slope}
    only_silent = silent - {it.name for it in known if it.slope}
    norms = [it for it in model.modules() if isinstance(it, BATCH_NORMS) and it.affine]
    return Network(
        tuple(sorted(names & DIES | silent)),
        tuple(sorted(names & LIVES - only_silent)),
        len(norms),
        looked=example_inputs is not None,
        leaks=tuple(sorted(it for it in known if it.slope)),
    )


def parameter_kinds(model: nn.Module) -> dict[str, Kind]:
    """Qualified name -> kind, of every parameter; tied ones once, under their first name."""
    kinds: dict[str, Kind] = {}
    modules = dict(model.named_modules())
    for name, parameter in model.named_parameters():
        owner, _, own = name.rpartition(".")
        if isinstance(modules.get(owner), (*BATCH_NORMS, *_NORMS)):
            kinds[name] = Kind.BETA if own == "bias" else Kind.GAMMA
        else:
            kinds[name] = Kind.WEIGHT if parameter.dim() > 1 else Kind.BIAS
    return kinds


def unit_weights(model: nn.Module) -> frozenset[str]:
    """Names of the parameters with which units die: scales of norms, and weights with rows.

    A weight is what is called so, such as `weight` and `in_proj_weight`, in whatever module but an
    embedding: class tokens and tables of positions are no layers. Where nothing is called so, all
    that have rows count.
    """
    kinds = parameter_kinds(model)
    carriers = {name for name, kind in kinds.items() if kind in CARRIERS}
    modules = dict(model.named_modules())
    named = {
        name
        for name in carriers
        if name.endswith("weight")
        and not isinstance(modules[name.rpartition(".")[0]], nn.Embedding)
    }
    return frozenset(named or carriers)


def function_name(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> str:
    """The name of a torch function as in `DIES` and `LIVES`."""
    name = str(getattr(func, "__name__", "")).strip("_").replace("_", "")
    at_zero = name.startswith("clamp") and _lower_bound(args, kwargs) == 0
    return "clamp at 0" if at_zero else name


def _known(name: str) -> str:
    plain = name.lower().replace("_", "")
    if plain not in DIES | LIVES:
        known = ", ".join(sorted(DIES | LIVES))
        message = f"activation {name!r} is not known; known are {known}"
        raise InputError(message)
    return plain


def _called(model: nn.Module, example_inputs: ExampleInputs) -> tuple[set[str], set[Leak | None]]:
    """The names of the functions and modules that a forward calls, and what leaks through them."""
    inputs = as_inputs(example_inputs)
    place = next((it.device for it in model.parameters()), torch.device("cpu"))
    args, kwargs = map_tensors((inputs.args, dict(inputs.kwargs)), lambda it: it.to(place))
    copy = copy_model(model, share=False, shared=model.parameters()).eval()
    names: set[str] = set()
    leaks: set[Leak | None] = set()

    def note(call: Call) -> None:
        names.add(call.name)
        leaks.add(leak_of_call(call.name, call.args, call.kwargs))

    def enter(module: nn.Module, _args: object) -> None:
        names.add(_kind_of(module))

    for module in copy.modules():
        _ = module.register_forward_pre_hook(enter)
    watch = FunctionCalls(note)
    with torch.random.fork_rng(), torch.no_grad(), watch:
        try:
            _ = copy(*args, **kwargs)
        except Exception as problem:
            reason = " ".join(str(problem).split())[:200]
            message = f"{type(model).__name__} does not run on the example inputs: {reason}"
            raise InputError(message) from problem
    return names, leaks


def _kind_of(module: nn.Module) -> str:
    name = type(module).__name__.lower()
    if name in DIES | LIVES or "hard" in name:
        return name
    return next((known for part, known in _SPELLED.items() if part in name), name)


class Call(NamedTuple):
    """One call of a torch function: its name as `function_name` gives it, and what it gave."""

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    result: object


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
        self.see(Call(function_name(func, args, given), args, given, result))
        return result


def _lower_bound(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> object:
    bound = kwargs.get("min", args[1] if len(args) > 1 else None)
    return bound.item() if isinstance(bound, Tensor) and bound.numel() == 1 else bound
