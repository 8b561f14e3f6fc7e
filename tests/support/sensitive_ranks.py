"""Two processes in which sensitivities are measured, each on its own examples.

A module of its own, for the processes import it by name.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD

from abscise import attach
from abscise.sparsify import Sensitivity, SeReNe
from support.ranks import RANKS
from support.sparsifying import batch, small_network, step_on

STEPS = 4

CASES: dict[str, Callable[[], Sensitivity | SeReNe]] = {
    "exact": lambda: Sensitivity(0.1, rescale=True),
    "averaged": lambda: Sensitivity(0.1, average=0.5, every=2, estimate=True, examples=5),
    "batch mean": lambda: Sensitivity(0.1, rescale=True, mean="batch"),
    "units": lambda: SeReNe(0.1, rescale=True),
}


def train_cases(rank: int) -> dict[str, dict[str, Tensor]]:
    """Train every case, each with ranks that see different data; then one without DDP."""
    found = {name: _trained(rank, name, parallel=True) for name in CASES}
    return {**found, "alone": _trained(rank, "exact", parallel=False)}


def _trained(rank: int, name: str, *, parallel: bool) -> dict[str, Tensor]:
    network = small_network()
    model: nn.Module = DistributedDataParallel(network) if parallel else network
    optimizer = SGD(model.parameters(), 0.1)
    found: dict[str, Tensor] = {}
    with attach(CASES[name](), optimizer, model) as attachment:
        for step in range(STEPS):
            step_on(batch(RANKS * step + rank), model, optimizer, attachment)
            if step == 0:
                found |= _under("first", attachment.worker.sensitivities)
        found |= _under("last", attachment.worker.sensitivities)
    return found | _under("weight", dict(network.named_parameters()))


def _under(what: str, tensors: dict[str, Any]) -> dict[str, Tensor]:
    return {f"{what} {name}": one.detach().clone() for name, one in tensors.items()}
