"""Several processes: what each rank has measured becomes the same on all of them."""

from typing import Any

import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from abscise.sparsify._parts import Part, Whole
from abscise.sparsify._weights import wrappers_of


def group_of(model: nn.Module) -> Any:
    """The ranks among which DDP keeps the weights of this model equal; None: it does not."""
    for one in wrappers_of(model):
        if isinstance(one, DistributedDataParallel):
            return one.process_group
    return None


def averaged(parts: dict[str, Part], group: Any) -> dict[str, Part]:
    """The mean over the ranks: without it each would shrink its weights by its own examples.

    All ranks have to call it, as they all have to call `backward()`.
    """
    if group is None or dist.get_world_size(group) < 2:
        return parts
    found: dict[str, Part] = {}
    for key, part in parts.items():
        value = part.whole()
        _ = dist.all_reduce(value, group=group)
        found[key] = Whole(value.div_(dist.get_world_size(group)))
    return found
