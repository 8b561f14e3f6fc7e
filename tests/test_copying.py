"""Whatever looks at a model leaves its weights, also those that a forward writes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Adam

import abscise
from abscise.implicit import Look, Tracker, activity, diagnose
from abscise.shrinking._checks import outputs

TOKENS = torch.arange(12).view(4, 3)


def tables() -> nn.Module:
    """Rows longer than `max_norm`: a forward shortens those that it reads, in place."""
    _ = torch.manual_seed(0)
    layers = (nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    return nn.Sequential(nn.EmbeddingBag(12, 6, max_norm=0.1), *layers).eval()


LOOKS: dict[str, Callable[[nn.Module], object]] = {
    "activity": lambda model: activity(model, [TOKENS]),
    "compact": lambda model: abscise.compact(model, TOKENS),
    "diagnose": lambda model: diagnose(model, Adam(model.parameters()), TOKENS),
    "inspect": lambda model: abscise.inspect(model, TOKENS),
    "measure": lambda model: abscise.measure(model, TOKENS),
    "shrinking": lambda model: outputs(model, abscise.Inputs((TOKENS,))),
    "tracker": lambda model: Tracker(model, TOKENS, look=Look([TOKENS], every=1)).look(),
    "find_units": lambda model: abscise.find_units(model, TOKENS),
    "propose": lambda model: abscise.propose(model, TOKENS),
    "verify": lambda model: abscise.verify(model, tables(), TOKENS),
}


def test_the_forward_itself_writes_the_table() -> None:
    model = tables()
    before = weights(model)
    _ = model(TOKENS)
    assert any(not torch.equal(a, b) for a, b in zip(before, weights(model), strict=True))


@pytest.mark.parametrize("name", LOOKS)
def test_a_look_leaves_a_table_that_the_forward_writes(name: str) -> None:
    model = tables()
    before = weights(model)
    _ = LOOKS[name](model)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(model), strict=True))


def weights(model: nn.Module) -> list[Tensor]:
    return [it.detach().clone() for it in model.parameters()]
