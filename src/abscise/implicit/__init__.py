"""Implicit sparsity: why units die under Adam with L2, whether yours will, and watching them do it.

```python
from abscise.implicit import diagnose

print(diagnose(model, torch.optim.Adam(model.parameters(), 1e-3, weight_decay=1e-3), x).verdict)
```

A unit behind a ReLU that never fires gets no gradient from the data. What is left of its gradient
is the L2 term, however small, and an adaptive optimizer divides it by its own size: the unit's
weights fall by full steps until they are gone. With decoupled decay or plain SGD that takes far
longer than a training has, and behind tanh a gradient is always left; behind functions that let
little of it through, such as leaky ReLU, units may die nearly as behind ReLU.
"""

from abscise.implicit._activity import Activity, LayerActivity, activity
from abscise.implicit._diagnose import DEAD, diagnose
from abscise.implicit._diagnosis import Diagnosis, Fate, Layer, Outcome, Part
from abscise.implicit._firing import Firing, LayerFiring
from abscise.implicit._gradients import gradient_sizes
from abscise.implicit._integrate import History
from abscise.implicit._law import history_of, steps_to
from abscise.implicit._network import Kind, Network, look_at, parameter_kinds
from abscise.implicit._part import noise_floor
from abscise.implicit._recipes import (
    Strengths,
    adadelta_l2,
    adadelta_wd,
    adagrad_l2,
    adagrad_wd,
    adam_l2,
    adam_wd,
    rmsprop_l2,
    rmsprop_wd,
    sgd_l2,
    sgd_wd,
)
from abscise.implicit._records import HISTOGRAM, LayerRecord, Record
from abscise.implicit._recursion import NEVER
from abscise.implicit._rule import Decay, Family, Rule, read_rule
from abscise.implicit._sinks import JsonLines, Sink, TensorBoard, Writer
from abscise.implicit._slopes import Leak
from abscise.implicit._track import Track, line_from_json, read_track, track_of
from abscise.implicit._tracker import THRESHOLDS, Look, Tracker, tracker_of

__all__ = [
    "DEAD",
    "HISTOGRAM",
    "NEVER",
    "THRESHOLDS",
    "Activity",
    "Decay",
    "Diagnosis",
    "Family",
    "Fate",
    "Firing",
    "History",
    "JsonLines",
    "Kind",
    "Layer",
    "LayerActivity",
    "LayerFiring",
    "LayerRecord",
    "Leak",
    "Look",
    "Network",
    "Outcome",
    "Part",
    "Record",
    "Rule",
    "Sink",
    "Strengths",
    "TensorBoard",
    "Track",
    "Tracker",
    "Writer",
    "activity",
    "adadelta_l2",
    "adadelta_wd",
    "adagrad_l2",
    "adagrad_wd",
    "adam_l2",
    "adam_wd",
    "diagnose",
    "gradient_sizes",
    "history_of",
    "line_from_json",
    "look_at",
    "noise_floor",
    "parameter_kinds",
    "read_rule",
    "read_track",
    "rmsprop_l2",
    "rmsprop_wd",
    "sgd_l2",
    "sgd_wd",
    "steps_to",
    "track_of",
    "tracker_of",
]
