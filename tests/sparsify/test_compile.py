"""The compiled map is the map, up to rounding."""

import pytest
import torch
from torch.optim import SGD

from abscise import attach
from abscise.penalties import L1, GroupLasso, TransformedL1
from abscise.sparsify import Proximal, Rows
from support.sparsifying import small_network, state_of, train


@pytest.mark.slow
@pytest.mark.parametrize("step", [1e-9, 1e-6, 1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_compiled_map_is_the_map_in_both_regimes(step: float, dtype: torch.dtype) -> None:
    penalty = TransformedL1(0.1)
    weights = torch.linspace(-3, 3, 4001, dtype=torch.float64).to(dtype)
    found = penalty.compiled()(weights.clone(), step)
    expected = penalty.prox(weights.double(), step)
    near = 0.1 * torch.finfo(dtype).eps ** 0.5  # the root is double where 0 and the jump meet
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=near)
    assert not bool(torch.signbit(found[found == 0]).any())
    moved = (weights.double() - expected).abs().max()
    assert float(moved) > 2 * near or step < 1e-4


@pytest.mark.slow
def test_a_compiled_map_in_training_is_the_map() -> None:
    results = []
    for compiled in (False, True):
        model = small_network()
        optimizer = SGD(model.parameters(), 0.1)
        with attach(Proximal(TransformedL1(0.1), 0.1, compile=compiled), optimizer, model):
            train(model, optimizer, 3)
        results.append(state_of(model))
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value, rtol=1e-9, atol=1e-12)
    zero = [int((result["7.weight"] == 0).sum()) for result in results]
    assert zero[0] == zero[1] > 100


def test_where_nothing_can_be_compiled_it_is_refused() -> None:
    model = small_network()
    optimizer = SGD(model.parameters(), 0.1)
    sparsifier = Proximal(GroupLasso(), 0.1, groups=Rows(), compile=True)
    with pytest.raises(ValueError, match="only the plain map of an elementwise penalty"):
        _ = attach(sparsifier, optimizer, model)
    assert attach(Proximal(L1(), 0.1, compile=True), optimizer, model).worker.layers[0].compiled
