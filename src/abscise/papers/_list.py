"""The list of experiments; a new one is a line here."""

from abscise._errors import RecipeError
from abscise.papers._adam_implicit import AdamImplicitExperiment
from abscise.papers._choice import unknown_name
from abscise.papers._experiment import Experiment
from abscise.papers._filter_sparsity import FilterSparsityExperiment
from abscise.papers._sensitivity import SensitivityExperiment
from abscise.papers._transformed_l1 import TransformedL1Experiment


def experiments() -> tuple[Experiment, ...]:
    """All of them."""
    return (
        AdamImplicitExperiment(),
        FilterSparsityExperiment(),
        SensitivityExperiment(),
        TransformedL1Experiment(),
    )


def experiment(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        RecipeError: There is none; the text names the nearest one, and all.
    """
    known = {one.name: one for one in experiments()}
    if name not in known:
        raise RecipeError(unknown_name(name, known, "experiment"))
    return known[name]
