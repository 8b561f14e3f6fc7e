"""Sizes that torch's modules keep beside their weights: type -> parameter axis -> attribute.

Adding a module type is one row. A module that is not listed keeps its attributes; rule R1 then
finds out whether its forward depends on them.
"""

from collections.abc import Mapping

from torch import nn

_CONV = {("weight", 0): "out_channels"}
_TABLE: tuple[tuple[type[nn.Module], Mapping[tuple[str, int], str]], ...] = (
    (nn.Linear, {("weight", 0): "out_features", ("weight", 1): "in_features"}),
    (nn.Conv1d, _CONV),
    (nn.Conv2d, _CONV),
    (nn.Conv3d, _CONV),
    (nn.modules.batchnorm._BatchNorm, {  # noqa: SLF001 - the public common base of BatchNorm1d/2d/3d
        ("weight", 0): "num_features", ("running_mean", 0): "num_features",
    }),
    (nn.modules.instancenorm._InstanceNorm, {  # noqa: SLF001 - likewise
        ("weight", 0): "num_features", ("running_mean", 0): "num_features",
    }),
    (nn.GroupNorm, {("weight", 0): "num_channels"}),
    (nn.PReLU, {("weight", 0): "num_parameters"}),
)  # fmt: skip
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def attribute_of(module: nn.Module, parameter: str, axis: int) -> str | None:
    """The attribute of `module` that holds the size of this axis; None where there is none."""
    for kind, attributes in _TABLE:
        if isinstance(module, kind):
            return attributes.get((parameter, axis))
    return None


def takes_bias(module: nn.Module) -> bool:
    """Can a bias be added to a module of this type that was built without one?"""
    return isinstance(module, (nn.Linear, *CONVOLUTIONS))
