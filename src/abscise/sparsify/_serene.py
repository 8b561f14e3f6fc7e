"""SeReNe: units that hardly move the outputs shrink as a whole."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor, nn
from typing_extensions import override

from abscise.sparsify._measure import Measure
from abscise.sparsify._sensitivity import ByOutputs
from abscise.sparsify._shrunk import Shrunk
from abscise.sparsify._unit_mean import UnitMean

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
UNITS = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED, *NORMS)


@dataclass(frozen=True, slots=True, eq=False)
class SeReNe(ByOutputs):
    """Units that hardly move the outputs shrink whole: `w <- w - strength * w * max(0, 1 - S)`.

    S is one number for each neuron, filter or channel: the mean over examples, and over positions
    of a feature map, of `sum_k alpha_k |dy_k / dp|`, p what the unit gives before its activation.
    All that writes it shrinks alike: its row or filter, with the bias. Only the outputs of layers
    are differentiated, so this is cheaper than `Sensitivity`.

    It acts on linear layers, convolutions and batch norms (scale and shift of a channel), each of
    which is a layer of its own; other parameters are left alone. A filter in front of a batch norm
    does not get smaller outputs by shrinking: its unit dies by scale and shift.

    Args:
        strength: As for `Sensitivity`, and so are all others.
        outputs: See `Outputs`; or its value as text.
        estimate: One output of each example, drawn at random; see `Sensitivity`.
        rescale: Divide each layer's S by its greatest value.
        average: The share kept of the sensitivities before, in [0, 1).
        every: Steps from one measurement to the next.
        examples: How many of a batch are measured; None: all.
        where: Name patterns of parameters or layers to act on.
        exclude: Name patterns of those to leave out.
        logits: Where in the model's output the logits are.
        chunk_bytes: About how much memory gradients of several outputs may take at a time.
        seed: Of the examples and outputs drawn.

    Source: E. Tartaglione, A. Bragagnolo, F. Odierna, A. Fiandrotti, M. Grangetto 2021, "SeReNe:
    Sensitivity-Based Regularization of Neurons for Structured Sparsity in Neural Networks"
    (arXiv 2102.03773). Differs: the mean over positions, estimate and averages are ours.
    """

    @override
    def _measured(
        self, model: nn.Module, chosen: Mapping[str, Tensor]
    ) -> tuple[tuple[Shrunk, ...], Measure]:
        names = {id(tensor): name for name, tensor in chosen.items()}
        layers: dict[str, list[nn.Module]] = {}
        keys: dict[int, str] = {}
        shrunk: dict[int, Shrunk] = {}
        for path, module in model.named_modules():
            own = [(leaf, one) for leaf, one in _own(module) if id(one) in names]
            if not own or not isinstance(module, UNITS):
                continue
            # Layers that share a weight are one layer.
            key = keys.setdefault(id(own[0][1]), path or "(model)")
            layers.setdefault(key, []).append(module)
            for leaf, one in own:
                shape, along = _views(module, leaf, one)
                found = Shrunk(names[id(one)], one, key, (prod(along),), shape, along)
                _ = shrunk.setdefault(id(one), found)
        return tuple(shrunk.values()), UnitMean(layers, self.chunk_bytes)


def _own(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Weight and bias, if they are parameters of its own; none where the weight is computed."""
    own = dict(module.named_parameters(recurse=False))
    return [(leaf, own[leaf]) for leaf in ("weight", "bias") if "weight" in own and leaf in own]


def _views(module: Any, leaf: str, parameter: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A view of the parameter, and the view of one number per unit that broadcasts over it."""
    sizes = tuple(parameter.shape)
    if leaf == "weight" and isinstance(module, TRANSPOSED):
        groups, kernel = module.groups, sizes[2:]
        shape = (groups, sizes[0] // groups, sizes[1], *kernel)
        return shape, (groups, 1, sizes[1], *[1] * len(kernel))
    return sizes, (sizes[0], *[1] * (len(sizes) - 1))
