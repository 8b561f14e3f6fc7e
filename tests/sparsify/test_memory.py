"""No copy of the weights is made: what a step allocates is bounded, however large they are."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override

from abscise.penalties import L1, GroupLasso, Penalty, SparseGroupLasso
from abscise.sparsify import Columns, Groups, Proximal, Rows
from abscise.sparsify._slices import CACHED


class Largest(TorchDispatchMode):
    """How many elements the largest tensor has that is made inside, of those not seen before."""

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.elements = 0
        self._known = {tensor.untyped_storage().data_ptr() for tensor in known}

    @override
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in self._known:
                    self.elements = max(self.elements, storage.nbytes() // tensor.element_size())
        return made


CASES: dict[str, tuple[Penalty, Groups | None, type[Optimizer], int]] = {
    "elements": (L1(), None, SGD, CACHED),
    "rows": (GroupLasso(), Rows(), SGD, 2048),
    "columns": (GroupLasso(), Columns(), SGD, 2048),
    "all of a row": (SparseGroupLasso(), Rows(), SGD, CACHED),
    "metric": (L1(), None, Adam, CACHED),
    "rows, metric": (GroupLasso(), Rows(), Adam, CACHED),
}


@pytest.mark.parametrize("case", CASES)
def test_no_temporary_is_larger_than_its_bound(case: str) -> None:
    penalty, groups, kind, bound = CASES[case]
    model = nn.Linear(2048, 2048, bias=False)
    assert model.weight.numel() == 32 * CACHED
    make: Any = kind
    optimizer: Optimizer = make(model.parameters(), 1e-3)
    model.weight.grad = torch.ones_like(model.weight)
    worker = Proximal(penalty, 1e-3, groups=groups).bind(optimizer, model)
    optimizer.step()
    known = [model.weight, model.weight.grad]
    known += [t for t in optimizer.state[model.weight].values() if isinstance(t, Tensor)]
    before = model.weight.detach().clone()
    with Largest(known) as largest:
        worker.after_step(optimizer)
    assert not torch.equal(model.weight, before)
    assert 0 < largest.elements <= bound
