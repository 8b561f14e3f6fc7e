"""Shrunk and Room: what a sensitivity leaves its weights free to lose, and the loss of it."""

from collections.abc import Iterable, Mapping
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
class Room:
    """max(0, 1 - S), or max(0, 1 - S / max S) where S is rescaled, as `share / of`."""

    share: Tensor
    of: float


def rooms_of(
    held: Mapping[str, Tensor], before: Mapping[str, Room], *, rescale: bool
) -> dict[str, Room]:
    """How far each sensitivity leaves its weights free to shrink.

    Args:
        held: Key -> averaged sensitivity.
        before: Rooms of the same keys, whose memory is used again.
        rescale: Divide by the greatest value of each.
    """
    found: dict[str, Room] = {}
    greatest = torch.stack([value.amax() for value in held.values()]).tolist() if held else []
    for (key, value), most in zip(held.items(), greatest, strict=True):
        share = before[key].share if key in before else torch.empty_like(value)
        moves = most >= torch.finfo(value.dtype).tiny  # if not, nothing moves the outputs
        of = most if moves and rescale else 1.0
        _ = torch.sub(value.new_tensor(of), value, out=share)
        if most > of:
            _ = share.clamp_(min=0.0)
        found[key] = Room(share, of)
    return found


def shrink_(shrunk: Iterable[Shrunk], rooms: Mapping[str, Room], strength: float) -> None:
    """`w <- w - strength * w * room`, in place, where the optimizer has just changed w."""
    with torch.no_grad():
        for one in shrunk:
            if one.parameter.grad is not None:  # the others the optimizer left as they are
                room = rooms[one.key]
                weights, share = one.parameter, room.share
                if one.shape != weights.shape or one.along != share.shape:
                    weights, share = weights.view(one.shape), share.view(one.along)
                _ = weights.addcmul_(weights, share, value=-strength / room.of)


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
