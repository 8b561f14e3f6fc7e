"""Magnitude: the smallest weights or units become 0, ever more of them on a cubic course."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from abscise._schedules import Cubic, check_number, check_whole
from abscise._units import UnitMap
from abscise.sparsify._choice import Choice, check_groups
from abscise.sparsify._fields import FORMAT, read_count, read_keys
from abscise.sparsify._groups import ELEMENTS, Groups
from abscise.sparsify._masks import (
    element_shapes,
    group_masks,
    group_shapes,
    held_groups,
    hold_,
    join_,
    read_masks,
)
from abscise.sparsify._slices import Bunch
from abscise.sparsify._smallest import smallest
from abscise.sparsify._sparsifier import Sparsifier, Worker


class Scope(StrEnum):
    """Among which weights the smallest are looked for.

    LAYER: in each layer, which loses the same share as every other. GLOBAL: in all layers together;
    one layer may lose much more than another, and in the end all.
    """

    LAYER = "layer"
    GLOBAL = "global"


@dataclass(frozen=True, slots=True, eq=False)
class Magnitude(Sparsifier["MagnitudeWorker"]):
    """After some steps, the smallest weights or units become 0; they stay 0.

    The share that is 0 rises on a cubic course, fast at first, to `target_sparsity` at step
    `after + steps`, where it is met to one element (of each layer, with `Scope.LAYER`). Then it is
    held and the rest trains on. With `steps=1` everything goes at once: train, prune, retrain.

    Args:
        target_sparsity: In [0, 1): of weights, or with `groups` of groups. At least one stays.
        steps: Over how many steps the share rises.
        after: How many steps pass before.
        every: Steps between two prunings, the last of which is at the end of the course.
        groups: As of `Proximal`: whole groups become 0, those with the smallest root mean square
            of their weights; of a `UnitMap` all that writes a unit. None: single weights, of all
            parameters of two dimensions and more.
        scope: See `Scope`; or its value as text. With a `UnitMap`, a layer is the units that lie in
            the same parameters.
        where: Name patterns of parameters or layers to act on.
        exclude: Name patterns of those to leave out, though `where` names them.
        pinned: Also take units that the unit map says cannot be removed.

    Source: M. Zhu, S. Gupta 2017, "To Prune, or Not to Prune" (arXiv 1710.01878), equation 1, from
    an initial share of 0; theirs prunes single weights of each layer. `steps=1`: S. Han, J. Pool,
    J. Tran, W. Dally 2015 (arXiv 1506.02626), once, and with the share as the rule.
    """

    target_sparsity: float
    steps: int
    after: int = 0
    every: int = 100
    groups: UnitMap | Groups | None = None
    scope: Scope | str = Scope.LAYER
    where: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    pinned: bool = False

    def __post_init__(self) -> None:
        check_number("Magnitude", self.target_sparsity, "target_sparsity")
        if not 0 <= self.target_sparsity < 1:
            message = f"Magnitude: target_sparsity must be in [0, 1), got {self.target_sparsity!r}"
            raise ValueError(message)
        for field, value, least in (
            ("steps", self.steps, 1),
            ("after", self.after, 0),
            ("every", self.every, 1),
        ):
            check_whole("Magnitude", value, field, least)
        check_groups("Magnitude", self.groups)
        if self.scope not in tuple(Scope):
            message = f"Magnitude: scope must be one of {', '.join(Scope)}, got {self.scope!r}"
            raise ValueError(message)
        _ = self._choice

    @property
    def _choice(self) -> Choice:
        return Choice("Magnitude", self.where, self.exclude)

    @override
    def bind(self, optimizer: Optimizer, model: nn.Module) -> "MagnitudeWorker":
        groups = ELEMENTS if self.groups is None else self.groups
        bunches = self._choice.bunches(optimizer, model, groups, pinned=self.pinned)
        return MagnitudeWorker(self, bunches)

    def wanted(self, step: int) -> float:
        """The share that is to be 0 after `step`."""
        return Cubic(self.target_sparsity, self.steps, self.after)(step)

    def due(self, step: int) -> bool:
        """Is there a pruning after `step`?"""
        done = step - self.after
        return 0 < done <= self.steps and (done % self.every == 0 or done == self.steps)


class MagnitudeWorker(Worker):
    """What has become 0, and the steps done."""

    def __init__(self, options: Magnitude, bunches: Sequence[Bunch]) -> None:
        """Made by `Magnitude.bind`; changes nothing."""
        self.bunches = tuple(bunches)
        self._options = options
        self._whole = options.groups is not None
        self._pieces = [piece for bunch in self.bunches for piece in bunch.slices]
        self._step = 0
        self._masks: dict[str, Tensor] = {}

    @property
    def step(self) -> int:
        """Steps done."""
        return self._step

    @property
    def sparsity(self) -> float:
        """The share that is held at 0: of groups, where whole groups are, else of weights."""
        held = [self._held(bunch) for bunch in self.bunches]
        return sum(int(one.sum()) for one in held) / sum(len(one) for one in held)

    @override
    def after_step(self, optimizer: Optimizer) -> None:
        with torch.no_grad():
            hold_(self._pieces, self._masks)
            if self._options.due(self._step + 1):
                self._prune(self._options.wanted(self._step + 1))
        self._step += 1

    def _prune(self, share: float) -> None:
        pools: list[tuple[Bunch, ...]] = [(bunch,) for bunch in self.bunches]
        if self._options.scope == Scope.GLOBAL:
            pools = [self.bunches]
        chosen = [self._chosen(pool, share) for pool in pools]  # refuses before anything is changed
        for pool, dead in zip(pools, chosen, strict=True):
            for bunch, one in zip(pool, dead, strict=True):
                join_(self._masks, self._as_masks(bunch, one))
        hold_(self._pieces, self._masks)

    def _chosen(self, pool: Sequence[Bunch], share: float) -> Sequence[Tensor]:
        """Of each bunch, what is to be 0."""
        scores = [self._scores(bunch) for bunch in pool]
        sizes = [len(one) for one in scores]
        count = min(round(share * sum(sizes)), sum(sizes) - 1)
        try:
            return smallest(torch.cat(scores), count).split(sizes)
        except ValueError as error:
            message = f"Magnitude: {pool[0].names}: {error}"
            raise ValueError(message) from error

    def _scores(self, bunch: Bunch) -> Tensor:
        """`(groups,)` or `(elements,)`: how large each is; what is held comes before all."""
        if self._whole:
            sizes = bunch.norms() / math.sqrt(bunch.size)
        else:
            sizes = bunch.slices[0].parameter.detach().abs().flatten()
        return sizes.masked_fill(self._held(bunch), -1.0)

    def _held(self, bunch: Bunch) -> Tensor:
        """`(groups,)` or `(elements,)`, bool."""
        if self._whole:
            return held_groups(bunch, self._masks)
        piece = bunch.slices[0]
        if piece.name in self._masks:
            return self._masks[piece.name].flatten()
        return torch.zeros(piece.parameter.numel(), dtype=torch.bool, device=piece.parameter.device)

    def _as_masks(self, bunch: Bunch, dead: Tensor) -> dict[str, Tensor]:
        if self._whole:
            return group_masks(bunch, dead)
        piece = bunch.slices[0]
        return {piece.name: dead.view(piece.shape)}

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, "step": self._step, "masks": dict(self._masks)}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        held = read_keys(state, ("format", "step", "masks"))
        shapes = (group_shapes if self._whole else element_shapes)(self._pieces)
        step, masks = read_count("step", held["step"]), read_masks(held["masks"], shapes)
        self._step, self._masks = step, masks
