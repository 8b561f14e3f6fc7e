"""Training: a reference loop, small data sets, plain networks and recipes (`abscise[train]`).

```python
from abscise.train import fit, load_recipe

trained = fit(load_recipe("digits-adam-l2", {"seed": 1}), observer=print)
trained.model, trained.test_accuracy
```

The loop, `fit`, is written to be read and copied: nothing in it knows about sparsity. Adam with the
L2 term in the gradient makes units die; the control, AdamW with the same number, does not.
"""

from abscise.train._data import Data, Split, load_data, stratified_split
from abscise.train._datasets import DataFacts, DataName, facts
from abscise.train._evaluate import accuracy, predict
from abscise.train._fit import Trained, build_model, build_optimizer, fit
from abscise.train._models import MLP, ConvNet, LeNet300
from abscise.train._progress import DYING, Dying, Observer, Progress, dying_units
from abscise.train._recipe import ModelName, OptimizerName, Recipe
from abscise.train._recipe_files import control_names, load_recipe, recipe_from, recipe_names
from abscise.train._record import Run, record_run, run_of

__all__ = [
    "DYING",
    "MLP",
    "ConvNet",
    "Data",
    "DataFacts",
    "DataName",
    "Dying",
    "LeNet300",
    "ModelName",
    "Observer",
    "OptimizerName",
    "Progress",
    "Recipe",
    "Run",
    "Split",
    "Trained",
    "accuracy",
    "build_model",
    "build_optimizer",
    "control_names",
    "dying_units",
    "facts",
    "fit",
    "load_data",
    "load_recipe",
    "predict",
    "recipe_from",
    "recipe_names",
    "record_run",
    "run_of",
    "stratified_split",
]
