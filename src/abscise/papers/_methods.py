"""The methods that are compared: for each a sparsifier, the knob that is swept, and its grid."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch

import abscise
from abscise._units import UnitMap
from abscise.papers._attaching import attaching
from abscise.papers._bench import example_of
from abscise.papers._random_units import RandomUnits
from abscise.papers._task import Task
from abscise.penalties import (
    CGES,
    L1,
    GroupLasso,
    IntegratedTransformedL1,
    Penalty,
    SparseGroupLasso,
)
from abscise.sparsify import (
    Columns,
    Magnitude,
    NetworkSlimming,
    PerDepth,
    Proximal,
)
from abscise.train import Attach, Data, Recipe, build_model

A = 0.01
"""The shape of transformed l1 in the authors' script."""

GROUPS = Columns()
"""As in the paper: all weights that read one input of a layer, that is one unit of the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Where a method is put to work.

    Args:
        units: Of the network.
        steps: Of the whole run.
        seed: Of the run.
        factors: c_l: the share of the strength that each layer gets; empty: 1 everywhere.
    """

    units: UnitMap
    steps: int
    seed: int
    factors: tuple[float, ...] = ()

    @property
    def depth_factor(self) -> PerDepth | None:
        """The factors as `Proximal` takes them."""
        return PerDepth(self.factors) if self.factors else None


Make = Callable[[float, Setting], Attach]


@dataclass(frozen=True, slots=True)
class Method:
    """One way to make a network sparse.

    Args:
        title: For tables and figures.
        knob: What `strength` is; empty: nothing is swept.
        make: From strength and setting to what `fit` attaches; None: nothing is attached.
    """

    title: str
    knob: str
    make: Make | None

    @property
    def about(self) -> str:
        """In words, for a recorded run."""
        return f"{self.title}; swept is the {self.knob}" if self.knob else self.title

    def attachments(
        self, task: Task, recipe: Recipe, data: Data, factors: tuple[float, ...] = ()
    ) -> tuple[Attach, ...]:
        """What works beside the optimizer in the run of `task`; draws no random number.

        Args:
            task: Its strength and seed count.
            recipe: Of the run.
            data: Likewise.
            factors: As in `Setting`.
        """
        if self.make is None:
            return ()
        with torch.random.fork_rng():
            units = abscise.find_units(build_model(recipe), example_of(recipe, data))
        steps = recipe.epochs * (len(data.train) // recipe.batch_size)
        setting = Setting(units=units, steps=steps, seed=task.seed, factors=factors)
        return (self.make(task.strength or 0.0, setting),)


def methods() -> Mapping[str, Method]:
    """Name -> method, in the order of tables."""
    return MappingProxyType(
        {
            "dense": Method("dense", "", None),
            "l1": Method("l1", "strength", _l1),
            "group-lasso": Method("group lasso", "strength", _group_lasso),
            "sgl": Method("sparse group lasso", "strength", _sgl),
            "cges": Method("CGES", "strength", _cges),
            "slimming": Method("network slimming", "strength", _slimming),
            "magnitude": Method(
                "magnitude, cubic", "share of weights that are to be 0", _magnitude
            ),
            "integrated-tl1": Method("integrated TL1", "strength", _integrated),
            "integrated-tl1-exact": Method(
                "integrated TL1, joint prox", "strength", _integrated_exactly
            ),
            "random-units": Method("random units", "share of units that are left out", _random),
        }
    )


def _l1(strength: float, setting: Setting) -> Attach:
    return attaching(Proximal(L1(), strength, depth_factor=setting.depth_factor))


def _group_lasso(strength: float, setting: Setting) -> Attach:
    return _grouped(GroupLasso(), strength, setting)


def _sgl(strength: float, setting: Setting) -> Attach:
    return _grouped(SparseGroupLasso(), strength, setting)


def _cges(strength: float, setting: Setting) -> Attach:
    """The exclusive share grows with depth as the elements' share of the paper does."""
    return _grouped(lambda depth, layers: CGES(depth / (layers + 1)), strength, setting)


def _integrated(strength: float, setting: Setting) -> Attach:
    def penalty(depth: int, layers: int) -> Penalty:
        return IntegratedTransformedL1.at_depth(depth, layers, A)

    return _grouped(penalty, strength, setting)


def _integrated_exactly(strength: float, setting: Setting) -> Attach:
    def penalty(depth: int, layers: int) -> Penalty:
        return replace(IntegratedTransformedL1.at_depth(depth, layers, A), exact=True)

    return _grouped(penalty, strength, setting)


def _slimming(strength: float, _setting: Setting) -> Attach:
    return attaching(NetworkSlimming(strength))


def _magnitude(share: float, setting: Setting) -> Attach:
    """Nothing goes in the first sixth of the run; from two thirds on the rest only heals."""
    after, ends = setting.steps // 6, 2 * setting.steps // 3
    every = max(1, (ends - after) // 20)
    return attaching(Magnitude(share, steps=max(1, ends - after), after=after, every=every))


def _random(share: float, setting: Setting) -> Attach:
    return RandomUnits(share, setting.seed, setting.units)


def _grouped(
    penalty: Penalty | Callable[[int, int], Penalty], strength: float, setting: Setting
) -> Attach:
    options = Proximal(penalty, strength, groups=GROUPS, depth_factor=setting.depth_factor)
    return attaching(options)
