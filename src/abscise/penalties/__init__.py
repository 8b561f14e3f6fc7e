"""Penalties: functions of weights that are small where weights are sparse, and their proximal maps.

```python
from abscise.penalties import GroupLasso

penalty = GroupLasso()
for inputs, targets in batches:
    loss(model(inputs), targets).backward()
    optimizer.step()  # plain SGD, learning rate 0.1
    with torch.no_grad():
        penalty.prox_(model.hidden.weight, 0.1 * strength)  # one row per unit
```

The gradient of a penalty brings weights near 0 but never to it. Its proximal map does: `prox(w,
step)` is the y that makes sum (y - w)^2 / (2 step) + value(y) smallest, and for a penalty with a
kink at 0 that y is exactly 0 for a whole range of w. `step` is the learning rate times the
strength; a tensor of the weights' shape is the step of each element, as Adam takes it.

A penalty knows nothing of modules, optimizers or graphs: it works on `(units, size)` tensors, one
row per unit. It says what it needs: `kind` (single elements, the norm of a row, or all of a row),
`convex`, `takes_metric`, and `exact`, which is false for the two maps whose authors published an
approximation. One penalty is one file. All of them obey the laws of `tests/penalties/test_laws.py`.

>>> import torch
>>> weights = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
>>> GroupLasso(by_size=False).prox(weights, 1.0)
tensor([[2.4000, 3.2000],
        [0.0000, 0.0000]])
"""

from abscise.penalties._base import Kind, Penalty
from abscise.penalties._cges import CGES
from abscise.penalties._exclusive_lasso import ExclusiveLasso
from abscise.penalties._group_lasso import GroupLasso
from abscise.penalties._group_transformed_l1 import GroupTransformedL1
from abscise.penalties._inplace import Elementwise, Radial
from abscise.penalties._integrated_transformed_l1 import IntegratedTransformedL1
from abscise.penalties._l0 import L0
from abscise.penalties._l1 import L1
from abscise.penalties._lhalf import LHalf
from abscise.penalties._mcp import MCP
from abscise.penalties._n_of_m import NofM
from abscise.penalties._scad import SCAD
from abscise.penalties._sparse_group_lasso import SparseGroupLasso
from abscise.penalties._transformed_l1 import TransformedL1

__all__ = [
    "CGES",
    "L0",
    "L1",
    "MCP",
    "SCAD",
    "Elementwise",
    "ExclusiveLasso",
    "GroupLasso",
    "GroupTransformedL1",
    "IntegratedTransformedL1",
    "Kind",
    "LHalf",
    "NofM",
    "Penalty",
    "Radial",
    "SparseGroupLasso",
    "TransformedL1",
]
