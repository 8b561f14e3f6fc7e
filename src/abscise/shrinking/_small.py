"""Units of which everything that writes them is small, and what snapping them sets to 0."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from abscise.compaction import named_tensors, writing_slices
from abscise.graph import Analysis
from abscise.shrinking._optimizers import moving

Units = NDArray[np.bool_]


def small_units(analysis: Analysis, model: nn.Module, threshold: float) -> Units:
    """Unit id -> is nothing that writes it above the threshold in size?

    A negative shift may have any size: behind a ReLU it leaves the output at 0.
    """
    tensors = named_tensors(model)
    small = np.zeros(len(analysis.labels.roots), dtype=bool)
    large = np.zeros_like(small)
    for item in writing_slices(analysis):
        below = item.magnitude <= threshold
        if item.shift is not None:
            below = below & (tensors[item.shift].detach().cpu() <= threshold)
        valid, is_below = item.units >= 0, below.numpy()
        small[item.units[valid & is_below]] = True
        large[item.units[valid & ~is_below]] = True
    return small & ~large


def to_zero(
    analysis: Analysis, model: nn.Module, units: Units, threshold: float
) -> dict[str, Tensor]:
    """Parameter name -> where what writes these units is to be set to 0; empty at threshold 0."""
    found: dict[str, Tensor] = {}
    tensors = named_tensors(model)
    for item in writing_slices(analysis) if threshold else ():
        own = torch.from_numpy((item.units >= 0) & units[np.maximum(item.units, 0)])
        for name, axis in ((item.parameter, item.axis), (item.shift, 0)):
            if name is None:
                continue
            tensor = tensors[name].detach()
            along = own.to(tensor.device).reshape(
                [-1 if dim == axis else 1 for dim in range(tensor.ndim)]
            )
            mask = along & (tensor.abs() <= threshold)
            found[name] = found[name] | mask if name in found else mask
    return found


def not_at_rest(
    analysis: Analysis, model: nn.Module, optimizer: Optimizer, zeroed: Mapping[str, Tensor]
) -> int:
    """How many units have a weight, of those in `zeroed`, that is not 0 or has momentum."""
    tensors = named_tensors(model)
    units: set[int] = set()
    for item in writing_slices(analysis) if zeroed else ():
        for name, axis in ((item.parameter, item.axis), (item.shift, 0)):
            if name is not None:
                tensor = tensors[name]
                changed = zeroed[name] & ((tensor.detach() != 0) | moving(optimizer, tensor))
                places = changed.nonzero()[:, axis].unique().cpu().numpy()
                units.update(item.units[places].tolist())
    return len(units - {-1})
