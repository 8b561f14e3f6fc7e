"""The map in place: the same for weights of many blocks and any strides, in bounded memory."""

from weakref import WeakSet

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override

from abscise.penalties import Elementwise, Radial
from abscise.penalties._inplace import BLOCK, CACHED
from support.penalty_cases import CASES

EACH = {
    type(case.penalty): case.penalty
    for case in CASES
    if isinstance(case.penalty, Elementwise | Radial)
}.values()
IN_PLACE = pytest.mark.parametrize("penalty", EACH, ids=str)
METRIC = pytest.mark.parametrize("penalty", [each for each in EACH if each.takes_metric], ids=str)
SHAPE = (1100, 2048)


def many_blocks(*shape: int) -> Tensor:
    weights = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    assert weights.numel() > 2 * BLOCK
    return weights - 0.5


@IN_PLACE
def test_blocks_make_no_difference(penalty: Elementwise | Radial) -> None:
    weights = many_blocks(*SHAPE)
    expected = penalty.prox(weights, 0.01)
    assert penalty.prox_(weights, 0.01) is weights
    torch.testing.assert_close(weights, expected, rtol=1e-6, atol=0)
    assert weights.count_nonzero() == expected.count_nonzero()


@METRIC
def test_blocks_of_a_metric_make_no_difference(penalty: Elementwise | Radial) -> None:
    weights = many_blocks(*SHAPE)
    steps = weights.flip(0).abs() * 0.05
    expected = penalty.prox(weights, steps)
    penalty.prox_(weights, steps)
    torch.testing.assert_close(weights, expected, rtol=1e-6, atol=0)


@IN_PLACE
def test_weights_that_are_not_contiguous_are_changed_where_they_are(
    penalty: Elementwise | Radial,
) -> None:
    storage = many_blocks(2048, 2, 1100)
    beside = storage[:, 1].clone()
    view = storage[:, 0].t()
    expected = penalty.prox(view.contiguous(), 0.01)
    penalty.prox_(view, 0.01)
    torch.testing.assert_close(view, expected, rtol=1e-5, atol=0)
    assert torch.equal(storage[:, 1], beside)


@IN_PLACE
def test_a_parameter_is_changed_and_keeps_its_graph_clean(penalty: Elementwise | Radial) -> None:
    parameter = torch.nn.Parameter(torch.ones(3, 4))
    expected = penalty.prox(parameter, 0.1)
    penalty.prox_(parameter, 0.1)
    assert torch.equal(parameter, expected)
    assert parameter.requires_grad
    assert parameter.grad_fn is None


class Storages(TorchDispatchMode):
    """How many elements the tensors made inside have together, at most at one time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._alive: WeakSet[torch.UntypedStorage] = WeakSet()

    @override
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, Tensor):
                self._alive.add(tensor.untyped_storage())
        held = sum(storage.nbytes() for storage in self._alive)
        self.peak = max(self.peak, held)
        return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@IN_PLACE
def test_the_temporaries_are_at_most_eleven_blocks(
    penalty: Elementwise | Radial, dtype: torch.dtype
) -> None:
    weights = many_blocks(*SHAPE).to(dtype)
    steps = weights.abs() if penalty.takes_metric else 0.01
    own = weights.nbytes * (2 if penalty.takes_metric else 1)
    with Storages() as storages:
        penalty.prox_(weights, steps)
    temporaries = (storages.peak - own) / (4 * CACHED)
    assert 0.5 < temporaries <= 11
