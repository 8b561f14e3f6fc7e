"""Two processes that train one network by DDP over gloo; what each ends with is written to a file.

A module of its own, for the processes import it by name.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD, Adam, Optimizer

from abscise import attach
from abscise.penalties import L1, GroupLasso, TransformedL1
from abscise.sparsify import Proximal, Rows
from support.ranks import RANKS
from support.sparsifier_cases import unit_map
from support.sparsifying import batch, small_network

STEPS = 30

CASES: dict[str, Callable[[], Proximal]] = {
    "units": lambda: Proximal(GroupLasso(), 0.3, groups=unit_map()),
    "elements": lambda: Proximal(TransformedL1(0.1), 0.02),
    "adaptive": lambda: Proximal(GroupLasso(), 0.05, groups=Rows()),
    "held": lambda: Proximal(L1(), 0.1, regrow=False),
    "healing": lambda: Proximal(L1(), 0.1, heal_at=STEPS // 2),
    "budget": lambda: Proximal(L1(), 0.01, target_sparsity=0.7, target_by=STEPS),
    "budget of units": lambda: Proximal(
        GroupLasso(), 0.2, groups=unit_map(), target_sparsity=0.4, target_by=STEPS
    ),
}


def train_cases(rank: int) -> dict[str, dict[str, Tensor]]:
    """Train every case, each with ranks that see different data; then one without DDP."""
    found = {name: _trained(rank, name, parallel=True) for name in CASES}
    return {**found, "alone": _trained(rank, "elements", parallel=False)}


def _trained(rank: int, name: str, *, parallel: bool) -> dict[str, Tensor]:
    network = small_network(rank)  # DDP begins with the weights of the first rank
    model: nn.Module = DistributedDataParallel(network) if parallel else network
    optimizer: Optimizer = SGD(model.parameters(), 0.1)
    if name == "adaptive":
        optimizer = Adam(model.parameters(), 0.01)
    with attach(CASES[name](), optimizer, model) as attachment:
        for step in range(STEPS):
            inputs, labels = batch(RANKS * step + rank)
            optimizer.zero_grad()
            cross_entropy(model(inputs), labels).backward()
            optimizer.step()
        return _everything(network, attachment.state_dict(), attachment.worker.strength)


def _everything(network: nn.Module, state: dict[str, Any], strength: float) -> dict[str, Tensor]:
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    masks = {f"mask of {name}": mask for name, mask in state["masks"].items()}
    numbers = (strength, *state["control"].values(), state["step"], state["healing"])
    return {**weights, **masks, "numbers": torch.tensor(numbers, dtype=torch.float64)}
