"""Shrunk and Rooms: what sensitivities leave their weights free to lose, and the loss of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from abscise._schedules import check_number


@dataclass(frozen=True, slots=True, eq=False)
class Shrunk:
    """A parameter, and which sensitivity belongs to which of its elements.

    Args:
        name: The parameter's.
        parameter: Itself.
        key: Of its sensitivity.
        measured: The shape of its sensitivity.
        shape: A view of the parameter,
        along: and the view of the sensitivity that broadcasts over it.
    """

    name: str
    parameter: Tensor
    key: str
    measured: tuple[int, ...]
    shape: tuple[int, ...]
    along: tuple[int, ...]

    def like(self) -> Tensor:
        """A tensor for its sensitivity."""
        return self.parameter.new_zeros(self.measured)

    def spread(self, values: Tensor) -> Tensor:
        """A view of the sensitivity with the parameter's shape."""
        return values.view(self.along).expand(self.shape).reshape(self.parameter.shape)


@dataclass(frozen=True, slots=True, eq=False)
class _Room:
    """What one parameter is free to lose, as `share / of`; `share` broadcasts over its view."""

    shrunk: Shrunk
    share: Tensor
    of: float


class Rooms:
    """max(0, 1 - S), or max(0, 1 - S / max S) where S is rescaled, of all sensitivities.

    Made once for all steps until they are measured again, and only if weights shrink by them: while
    they did at the step before, as soon as they are measured, when they are still in the cache.
    """

    def __init__(self, shrunk: Sequence[Shrunk], *, rescale: bool) -> None:
        """Of no sensitivities yet; `rescale`: by the greatest value of each."""
        self._shrunk = shrunk
        self._rescale = rescale
        self._eps = {one.key: torch.finfo(one.parameter.dtype).eps for one in shrunk}
        self._bounds: dict[str, float] = {}
        self._shares: dict[str, Tensor] = {}
        self._ones: dict[str, Tensor] = {}
        self._rooms: list[_Room] | None = None
        self._used = False

    def measured(
        self, held: Mapping[str, Tensor], bounds: Mapping[str, float], average: float
    ) -> None:
        """Sensitivities have changed: of those before, `average` is kept.

        Args:
            held: Key -> averaged sensitivity, as it is now.
            bounds: Key -> what none of those just measured exceeds.
            average: In [0, 1).
        """
        for key, bound in bounds.items():
            eps = self._eps[key]
            # 1 - (1 - average), as the blend rounds it, is a little more than a small average.
            before = (average + eps) * self._bounds.get(key, math.inf) if average > 0 else 0.0
            rounding = 1 + 16 * eps
            self._bounds[key] = (before + (1 - average) * bound) * rounding
        self._rooms = self._made(held) if self._used else None
        self._used = False

    def read(self) -> None:
        """Sensitivities are others, of which nothing is known."""
        self._rooms = None
        for one in (self._bounds, self._shares, self._ones):
            one.clear()

    def shrink_(self, held: Mapping[str, Tensor], strength: float) -> None:
        """`w <- w - strength * w * room`, in place, where the optimizer has just changed w.

        Args:
            held: Key -> averaged sensitivity.
            strength: In (0, 1).
        """
        with torch.no_grad():
            self._used = True
            if self._rooms is None:
                self._rooms = self._made(held)
            weights, shares, values = [], [], []
            for room in self._rooms:
                parameter, shape = room.shrunk.parameter, room.shrunk.shape
                if parameter.grad is not None:  # the others the optimizer left as they are
                    weights.append(parameter if parameter.shape == shape else parameter.view(shape))
                    shares.append(room.share)
                    values.append(-strength / room.of)
            if weights:
                torch._foreach_addcmul_(weights, weights, shares, values)

    def _made(self, held: Mapping[str, Tensor]) -> list[_Room]:
        keys = list(held)
        if not self._rescale:  # where no sensitivity exceeds 1, the greatest is not looked for
            keys = [key for key in keys if not self._bounds.get(key, math.inf) <= 1]
        greatest = torch.stack([held[key].amax() for key in keys]).tolist() if keys else []
        self._bounds.update(zip(keys, greatest, strict=True))
        of = {key: self._one(key, value, self._bounds[key]) for key, value in held.items()}
        found = []
        for one in self._shrunk:
            share = self._shares[one.key]
            share = share if share.shape == one.along else share.view(one.along)
            found.append(_Room(one, share, of[one.key]))
        return found

    def _one(self, key: str, value: Tensor, most: float) -> float:
        """Fills the share of one sensitivity, and returns what it is a share of."""
        share = self._shares.get(key)
        if share is None:
            share = self._shares[key] = torch.empty_like(value)
            self._ones[key] = value.new_ones(())
        # Where the greatest is as good as 0, nothing moves the outputs.
        moves = self._rescale and most >= torch.finfo(value.dtype).tiny
        of = most if moves else 1.0
        _ = torch.sub(value.new_tensor(of) if moves else self._ones[key], value, out=share)
        if most > of:
            _ = share.clamp_(min=0.0)
        return of


def check_share(what: str, strength: float) -> None:
    """Refuse a strength that is no share of a weight.

    Raises:
        TypeError: It is no number.
        ValueError: It is not in [0, 1).
    """
    check_number(what, strength, "strength")
    if not 0 <= strength < 1:
        message = (
            f"{what}: strength must be in [0, 1), got {strength!r}: it is the share of a weight "
            "that one step takes away, and is not multiplied by the learning rate"
        )
        raise ValueError(message)
