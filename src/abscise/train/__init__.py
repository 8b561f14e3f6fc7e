"""Training: a reference loop, small data sets, plain networks and recipes (`abscise[train]`).

```python
from abscise.train import fit, load_recipe

trained = fit(load_recipe("digits-adam-l2", {"seed": 1}), observer=print)
trained.model, trained.test_accuracy
```

The loop, `fit`, is written to be read and copied: nothing in it knows about sparsity. Adam with the
L2 term in the gradient makes units die; the control, AdamW with the same number, does not.
"""

from abscise.train._activations import Activation
from abscise.train._build import build_model
from abscise.train._data import Data, Split, load_data, stratified_split
from abscise.train._datasets import DataFacts, DataName, facts
from abscise.train._evaluate import accuracy, predict
from abscise.train._fabric import make_loggers
from abscise.train._fit import Trained, fit
from abscise.train._interrupt import Interrupted
from abscise.train._keeper import Checkpoints, finish_run, is_finished
from abscise.train._models import MLP, ConvNet, DeepMnist, LeNet5, LeNet300
from abscise.train._names import Augment, ModelName, OptimizerName, Precision, Schedule
from abscise.train._optimizers import build_optimizer
from abscise.train._parts import Attach, Attachment
from abscise.train._progress import DYING, Dying, Observer, Progress, dying_units
from abscise.train._recipe import Recipe
from abscise.train._recipe_data import data_for, facts_of, limited
from abscise.train._recipe_files import control_names, load_recipe, recipe_from, recipe_names
from abscise.train._record import Run, record_run, run_fields, run_of
from abscise.train._resnet import ResNet
from abscise.train._schedule import annealed, scheduler_of
from abscise.train._vgg import VGG, BasicNet
from abscise.train._yaml import read_yaml

__all__ = [
    "DYING",
    "MLP",
    "VGG",
    "Activation",
    "Attach",
    "Attachment",
    "Augment",
    "BasicNet",
    "Checkpoints",
    "ConvNet",
    "Data",
    "DataFacts",
    "DataName",
    "DeepMnist",
    "Dying",
    "Interrupted",
    "LeNet5",
    "LeNet300",
    "ModelName",
    "Observer",
    "OptimizerName",
    "Precision",
    "Progress",
    "Recipe",
    "ResNet",
    "Run",
    "Schedule",
    "Split",
    "Trained",
    "accuracy",
    "annealed",
    "build_model",
    "build_optimizer",
    "control_names",
    "data_for",
    "dying_units",
    "facts",
    "facts_of",
    "finish_run",
    "fit",
    "is_finished",
    "limited",
    "load_data",
    "load_recipe",
    "make_loggers",
    "predict",
    "read_yaml",
    "recipe_from",
    "recipe_names",
    "record_run",
    "run_fields",
    "run_of",
    "scheduler_of",
    "stratified_split",
]
