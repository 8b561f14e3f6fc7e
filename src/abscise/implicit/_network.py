"""What a network is made of, as far as death is concerned: activations, norms, kinds of parameters.

Nothing is captured: modules are looked at, and one forward without gradients tells which functions
are called.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

from torch import nn

from abscise._errors import InputError
from abscise._inputs import ExampleInputs
from abscise.implicit._flow import Flow, flow_of
from abscise.implicit._functions import DIES, LIVES, kind_of
from abscise.implicit._slopes import Leak, leak_of_module, leak_of_name

_NORMS = (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.InstanceNorm1d, nn.InstanceNorm2d)
_TABLES = (nn.Embedding, nn.EmbeddingBag)
_LAYERS = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd, nn.RNNBase, nn.MultiheadAttention)  # noqa: SLF001
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
        written: Names of the weights and scales that write what a function reads that silences;
            where there is none, what another activation reads. None where that was not seen.
    """

    dying: tuple[str, ...]
    living: tuple[str, ...]
    batch_norms: int
    looked: bool
    leaks: tuple[Leak, ...] = ()
    written: tuple[str, ...] | None = None


def look_at(
    model: nn.Module,
    example_inputs: ExampleInputs | None = None,
    activations: Iterable[str] = (),
) -> Network:
    """Find activations and norms; the model, its mode, buffers and random state stay as they were.

    Args:
        model: Any module.
        example_inputs: Run once through a copy in eval mode, whose calls count; None looks at
            modules only.
        activations: More names, for functions that cannot be seen; a slope is then torch's own.

    Raises:
        InputError: The inputs do not run, or a name is not known.
    """
    given = {_known(name) for name in activations}
    if example_inputs is None:
        names, flow = {kind_of(it) for it in model.modules()}, None
        leaks = {leak_of_module(it) for it in model.modules()}
    else:  # what is called counts, not what is there
        flow = flow_of(model, example_inputs)
        names, leaks = {*flow.names}, {*flow.leaks}
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
        written=None if flow is None else _written(flow, given),
    )


def _written(flow: Flow, given: Collection[str]) -> tuple[str, ...] | None:
    """What writes into the activations; None where that is not known, as of what is only named."""
    dying, living = (bool(kind & flow.names) for kind in (DIES, LIVES))
    if not flow.complete or set(given) & DIES - flow.names or not (dying or living):
        return None
    return tuple(sorted(flow.into(dying=dying)))


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


def unit_weights(model: nn.Module, network: Network) -> frozenset[str]:
    """Names of the parameters with which units die: what writes into an activation, if it is known.

    Otherwise the scales of norms and the weights of layers, whatever they write; of a module that
    torch does not have, what is called so. Embeddings are none, neither are class tokens.
    """
    kinds = parameter_kinds(model)
    tables = {id(it.weight) for it in model.modules() if isinstance(it, _TABLES)}
    carriers = {
        name
        for name, it in model.named_parameters()
        if kinds[name] in CARRIERS and it.numel() and id(it) not in tables
    }
    if network.written is not None:
        return frozenset(carriers & set(network.written))
    named = {name for name in carriers if _is_weight(model, name)}
    return frozenset(named or carriers)


def _is_weight(model: nn.Module, name: str) -> bool:
    owner, _, own = name.rpartition(".")
    if ".parametrizations." in f".{owner}.":
        owner, _, own = f".{owner}".rpartition(".parametrizations.")
        owner = owner.removeprefix(".")
    return isinstance(model.get_submodule(owner), _LAYERS) or own.endswith("weight")


def _known(name: str) -> str:
    plain = name.lower().replace("_", "")
    if plain not in DIES | LIVES:
        known = ", ".join(sorted(DIES | LIVES))
        message = f"activation {name!r} is not known; known are {known}"
        raise InputError(message)
    return plain
