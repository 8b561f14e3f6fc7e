"""Removal while a network is being trained, on the objects that are being trained.

```python
shrinking = abscise.ShrinkWhileTraining(x, every=200, patience=2, snap=1e-3)
attachment = abscise.attach(shrinking, optimizer, model)
```

Only units that are dead for training go: no gradient reaches them, whatever the input, so the rest
learns what it would have learned. `attachment.worker.shrinks` says what went when, and
`attachment.worker.plan` is all of it as one plan for the network as it was built.
"""

from abscise.shrinking._options import ShrinkWhileTraining
from abscise.shrinking._record import LayerShrink, Shrink
from abscise.shrinking._worker import ShrinkWorker

__all__ = ["LayerShrink", "Shrink", "ShrinkWhileTraining", "ShrinkWorker"]
