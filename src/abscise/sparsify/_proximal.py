"""Proximal: the options of a stochastic proximal gradient method, checked."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from abscise._schedules import Constant, check_number, check_strength
from abscise._units import UnitMap
from abscise.penalties import Elementwise, Kind, Penalty
from abscise.sparsify._budget import Budget
from abscise.sparsify._choice import Choice, check_groups
from abscise.sparsify._driver import ProximalWorker
from abscise.sparsify._groups import ELEMENTS, Groups
from abscise.sparsify._layers import Layer
from abscise.sparsify._metric import Metric, has_metric, known_plain
from abscise.sparsify._slices import Bunch
from abscise.sparsify._sparsifier import Removed, Sparsifier
from abscise.sparsify._state import State
from abscise.sparsify._watch import Watch
from abscise.sparsify._weights import check_dtype

ByDepth = Callable[[int, int], Penalty]


@dataclass(frozen=True, slots=True, eq=False)
class Proximal(Sparsifier[ProximalWorker]):
    """After each optimizer step: weights <- prox(weights, learning rate * strength).

    What becomes 0 is exactly 0.0. A step of strength 0 changes nothing. Weights without a gradient,
    which the optimizer leaves as they are, are left as they are.

    Args:
        penalty: A penalty, or a function of depth (1 .. layers) and layers that makes one for each
            layer, such as `IntegratedTransformedL1.at_depth`. A layer here is a parameter, or with
            a `UnitMap` the units that lie in the same parameters, in the model's order.
        strength: >= 0, or a `Schedule`: a function of the step, which counts from 1.
        groups: Which weights die together: a `UnitMap`, `Rows()`, `Columns()`, `Filters()` or
            `Heads(n)`. Of a unit map, a group is all that writes a unit: its rows and biases in all
            its layers, and the scales and shifts of the norms behind them; never the columns that
            read it. None, for elementwise penalties: all parameters of two dimensions and more, so
            neither biases nor norms. An elementwise penalty with groups acts on their elements.
        where: Name patterns of parameters or layers to act on.
        exclude: Name patterns of those to leave out, though `where` names them.
        pinned: Also shrink units that the unit map says cannot be removed.
        metric: See `Metric`; or its value as text.
        least_scale: With the adaptive metric, the least divisor; a weight that has hardly seen a
            gradient has a tiny one, and a step so large that it dies at once.
        depth_factor: A factor of the strength for each layer, such as `PerDepth((1, 1, 0.1))`.
        regrow: May what became 0 grow again? The proximal gradient method lets it: a weight that
            was shrunk by an early, noisy gradient can come back. False: 0 stays 0.
        heal_at: After this step nothing shrinks any more, what is 0 stays 0, and the rest trains
            on. `heal()` of the worker does the same at once.
        target_sparsity: The share that is to be 0, in (0, 1), of groups where the penalty shrinks
            them as a whole, else of weights: the strength is steered so, from a hundredth of
            `strength` on; that may be wrong by a factor of a hundred. Whole groups, once as many as
            wanted are 0, are held, and nothing shrinks any more.
        target_by: The step at which that is to be reached; it is held from there on.
        check_gradients: Look at every gradient before the step, and refuse NaN and infinity while
            nothing is changed. Costs one pass over the gradients, and waits for the device.
        compile: Let torch compile the plain map of an elementwise penalty; needs a C++ compiler on
            a CPU. Worth it for transformed l1 and others that compute much for each weight.

    Source: for networks R. Ma, J. Miao, L. Niu, P. Zhang 2019 (arXiv 1901.01021); in the metric of
    adaptive optimizers J. Yun, A. C. Lozano, E. Yang 2020, "A General Family of Stochastic Proximal
    Gradient Methods for Deep Learning" (arXiv 2007.07605).
    """

    penalty: Penalty | ByDepth
    strength: float | Callable[[int], float]
    groups: UnitMap | Groups | None = None
    where: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    pinned: bool = False
    metric: Metric | str = Metric.AUTO
    least_scale: float = 0.0
    depth_factor: Callable[[int, int], float] | None = None
    regrow: bool = True
    heal_at: int | None = None
    target_sparsity: float | None = None
    target_by: int | None = None
    check_gradients: bool = True
    compile: bool = False

    def __post_init__(self) -> None:
        _check_penalty(self.penalty)
        if not callable(self.strength):
            check_strength("Proximal", self.strength)
        check_groups("Proximal", self.groups)
        check_strength("Proximal", self.least_scale, "least_scale")
        _ = self._choice
        if self.metric not in tuple(Metric):
            known = ", ".join(Metric)
            message = f"Proximal: metric must be one of {known}, got {self.metric!r}"
            raise ValueError(message)
        _check_integer("heal_at", self.heal_at)
        _check_integer("target_by", self.target_by)
        if self.target_sparsity is not None:
            check_number("Proximal", self.target_sparsity, "target_sparsity")
        if self.heal_at is not None and self.heal_at < 0:
            message = f"Proximal: heal_at must be >= 0, got {self.heal_at!r}"
            raise ValueError(message)
        if self._budget is not None and not (callable(self.strength) or self.strength > 0):
            message = "Proximal: with target_sparsity, strength is where it starts: > 0, got 0"
            raise ValueError(message)

    @property
    def _choice(self) -> Choice:
        return Choice("Proximal", self.where, self.exclude)

    @property
    def _budget(self) -> Budget | None:
        """Where the strength is steered to.

        Raises:
            ValueError: Only one of share and step is given, or is impossible.
        """
        if self.target_sparsity is None and self.target_by is None:
            return None
        if self.target_sparsity is None or self.target_by is None:
            message = (
                "Proximal: target_sparsity and target_by belong together, got "
                f"{self.target_sparsity!r} and {self.target_by!r}"
            )
            raise ValueError(message)
        return Budget(self.target_sparsity, self.target_by)

    @override
    def bind(self, optimizer: Optimizer, model: nn.Module) -> ProximalWorker:
        groups = self.groups or ELEMENTS
        bunches = self._choice.bunches(optimizer, model, groups, pinned=self.pinned)
        for bunch in bunches:
            for piece in bunch.slices:
                check_dtype(piece.name, piece.parameter)
        layers = [
            self._layer(optimizer, bunch, depth, len(bunches))
            for depth, bunch in enumerate(bunches, 1)
        ]
        if self.compile:
            layers = _compiled(layers)
        strength = self.strength if callable(self.strength) else Constant(self.strength)
        watch = Watch(bunches, self.check_gradients)
        watch.begin(optimizer)
        worker = ProximalWorker(
            layers,
            strength,
            self._budget,
            regrow=self.regrow,
            heal_at=self.heal_at,
            watch=watch,
        )
        worker.before_step(optimizer, fresh=False)  # refuses rates that no map fits
        if self.heal_at == 0:
            worker.heal()
        return worker

    @override
    def without(self, removed: Removed) -> Self:
        if isinstance(self.groups, UnitMap):
            return replace(self, groups=self.groups.without(removed))
        return self

    @override
    def state_without(self, state: dict[str, Any], removed: Removed) -> dict[str, Any]:
        masks = dict(state["masks"])
        for (name, axis), gone in removed.items():
            if name not in masks or masks[name].shape[axis : axis + 1] == (1,):
                continue
            if axis >= masks[name].ndim:
                message = f"Proximal: what it holds at 0 of {name} cannot be cut; detach it first"
                raise ValueError(message)
            stays = torch.ones(masks[name].shape[axis], dtype=torch.bool)
            stays[list(gone)] = False
            kept = stays.nonzero().flatten().to(masks[name].device)
            masks[name] = masks[name].index_select(axis, kept)
        return {**state, "masks": masks, "norms": State().norms}

    def _layer(self, optimizer: Optimizer, bunch: Bunch, depth: int, layers: int) -> Layer:
        penalty = self.penalty
        if not isinstance(penalty, Penalty):
            penalty = _made(penalty(depth, layers), depth)
        name = type(penalty).__name__
        if self.groups is None and penalty.kind is not Kind.ELEMENTWISE:
            message = f"Proximal: {name} needs groups: a UnitMap, Rows(), Columns(), Filters() ..."
            raise ValueError(message)
        factor = 1.0 if self.depth_factor is None else float(self.depth_factor(depth, layers))
        check_strength("Proximal", factor, f"depth_factor of layer {depth}")
        if penalty.kind is Kind.ROW:
            _check_fits(penalty, bunch)
        adaptive = self._adaptive(optimizer, penalty)
        return Layer(bunch, penalty, factor, adaptive=adaptive, least_scale=self.least_scale)

    def _adaptive(self, optimizer: Optimizer, penalty: Penalty) -> bool:
        """Is the map taken in the optimizer's metric?

        Raises:
            ValueError: It is asked for and not possible.
        """
        possible = has_metric(optimizer) and penalty.takes_metric
        if self.metric != Metric.ADAPTIVE or possible:
            return possible and self.metric != Metric.PLAIN
        if not penalty.takes_metric:
            message = (
                f"metric: {type(penalty).__name__} has no exact map in the metric of an adaptive "
                "optimizer: take metric='plain'"
            )
        else:
            knows = (
                "has no metric" if known_plain(optimizer) else "has no metric that is known here"
            )
            message = f"metric: {type(optimizer).__name__} {knows}: take metric='plain'"
        raise ValueError(message)


def _compiled(layers: list[Layer]) -> list[Layer]:
    """The layers with compiled maps, one for each penalty.

    Raises:
        ValueError: There is nothing that could be compiled.
    """
    maps: dict[Penalty, Callable[[Tensor, float], Tensor]] = {
        layer.penalty: layer.penalty.compiled()
        for layer in layers
        if isinstance(layer.penalty, Elementwise) and not layer.adaptive
    }
    if not maps:
        message = "compile: only the plain map of an elementwise penalty is compiled: leave it out"
        raise ValueError(message)
    return [replace(layer, compiled=maps.get(layer.penalty)) for layer in layers]


def _check_fits(penalty: Penalty, bunch: Bunch) -> None:
    """Refuse groups whose size the penalty does not take, before any step.

    Raises:
        ValueError: It does not.
    """
    parameter = bunch.slices[0].parameter
    try:
        _ = penalty.prox(parameter.new_zeros((1, bunch.size)), 1.0)
    except ValueError as error:
        message = f"{bunch.names}: {error}"
        raise ValueError(message) from error


def _check_penalty(value: object) -> None:
    if not isinstance(value, Penalty) and (isinstance(value, type) or not callable(value)):
        message = (
            "Proximal: penalty must be one of abscise.penalties, such as L1(), or make one from "
            f"depth and layers, got {value!r:.60}"
        )
        raise TypeError(message)


def _made(value: object, depth: int) -> Penalty:
    if not isinstance(value, Penalty):
        message = f"Proximal: penalty gives {value!r:.60} for layer {depth}, which is no penalty"
        raise TypeError(message)
    return value


def _check_integer(field: str, value: object) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        message = f"Proximal: {field} must be a whole number of steps, got {value!r:.60}"
        raise TypeError(message)
