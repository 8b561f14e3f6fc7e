"""Sparsifiers: what happens around `optimizer.step()`, so that weights and units become exactly 0.

```python
from abscise.penalties import GroupLasso
from abscise.sparsify import Proximal

units = abscise.find_units(model, x)
with abscise.attach(Proximal(GroupLasso(), strength=1e-3, groups=units), optimizer, model):
    train(model, optimizer)  # your loop, as it is
smaller = abscise.compact(model, x).model
```

`attach` works by torch's own hooks and leaves nothing behind. `Proximal` applies a penalty's
proximal map after each step; its groups are all that writes a unit (`UnitMap`), or slices of
single parameters (`Rows`, `Columns`, `Filters`, `Heads`). Strengths may follow the step (`WarmUp`,
`Cubic`, any function) and the depth (`PerDepth`), or be steered to a share of zeros.

Baselines beside it: `Magnitude` (the smallest go, on a cubic course) and `NetworkSlimming` (l1 on
the scales of BatchNorm). In two stages: a decay (`Lobster`, `DecoupledDecay`) and `Thresholding`,
which sets to 0 what has become small and keeps the sparsest state under an error target.

`Sensitivity` and `SeReNe` shrink weights and units that hardly move the outputs; the loop shows
them each batch by `observe(logits, target)` before `backward()`.

What an attachment has done and remembers is in `Attachment.worker`, for `Proximal` a
`ProximalWorker`: `step`, `strength`, `sparsity`, `heal()`; for the others a `SensitivityWorker`:
`step`, `strength`, `sensitivities`.
"""

from abscise._schedules import Constant, Cubic, PerDepth, Schedule, WarmUp
from abscise.sparsify._attach import Attachment, attach, attachments_of
from abscise.sparsify._bisection import Bisection
from abscise.sparsify._decay import DecayWorker, DecoupledDecay, Lobster
from abscise.sparsify._driver import ProximalWorker
from abscise.sparsify._groups import Columns, Filters, Groups, Heads, Rows
from abscise.sparsify._kept import Check
from abscise.sparsify._magnitude import Magnitude, MagnitudeWorker, Scope
from abscise.sparsify._metric import Metric
from abscise.sparsify._outputs import Mean, Outputs
from abscise.sparsify._proximal import Proximal
from abscise.sparsify._sensitivity import Sensitivity
from abscise.sparsify._sensitivity_worker import SensitivityWorker
from abscise.sparsify._serene import SeReNe
from abscise.sparsify._slimming import Form, NetworkSlimming, NetworkSlimmingWorker
from abscise.sparsify._sparsifier import Sparsifier, Validate, Worker
from abscise.sparsify._thresholding import Thresholding, ThresholdingWorker
from abscise.sparsify._vanishing import strength_to_vanish, typical_size

__all__ = [
    "Attachment",
    "Bisection",
    "Check",
    "Columns",
    "Constant",
    "Cubic",
    "DecayWorker",
    "DecoupledDecay",
    "Filters",
    "Form",
    "Groups",
    "Heads",
    "Lobster",
    "Magnitude",
    "MagnitudeWorker",
    "Mean",
    "Metric",
    "NetworkSlimming",
    "NetworkSlimmingWorker",
    "Outputs",
    "PerDepth",
    "Proximal",
    "ProximalWorker",
    "Rows",
    "Schedule",
    "Scope",
    "SeReNe",
    "Sensitivity",
    "SensitivityWorker",
    "Sparsifier",
    "Thresholding",
    "ThresholdingWorker",
    "Validate",
    "WarmUp",
    "Worker",
    "attach",
    "attachments_of",
    "strength_to_vanish",
    "typical_size",
]
