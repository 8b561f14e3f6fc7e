"""What is held at 0: a mask for each parameter, joined, applied, and read strictly."""

from collections.abc import Iterable, Mapping, MutableMapping

import torch
from torch import Tensor

from abscise.sparsify._fields import refuse
from abscise.sparsify._slices import Bunch, Slice

MaskShapes = Mapping[str, tuple[torch.Size, torch.device]]


def hold_(pieces: Iterable[Slice], masks: Mapping[str, Tensor]) -> None:
    """Set to 0 what is held there; NaN and infinity there, too."""
    for piece in pieces:
        if piece.name in masks:
            weights = piece.parameter.detach().view(piece.shape)
            _ = weights.masked_fill_(masks[piece.name], 0.0)


def join_(masks: MutableMapping[str, Tensor], more: Mapping[str, Tensor]) -> None:
    """Hold `more`, too; a parameter that lies in several bunches has the masks of all of them."""
    for name, mask in more.items():
        masks[name] = masks[name] | mask if name in masks else mask


def element_shapes(pieces: Iterable[Slice]) -> MaskShapes:
    """Parameter name -> shape and device of a mask of its elements."""
    return {one.name: (torch.Size(one.shape), one.parameter.device) for one in pieces}


def group_shapes(pieces: Iterable[Slice]) -> MaskShapes:
    """Parameter name -> shape and device of a mask along the axis on which its groups lie."""
    found = {}
    for piece in pieces:
        sizes = (size if axis == piece.axis else 1 for axis, size in enumerate(piece.shape))
        found[piece.name] = (torch.Size(sizes), piece.parameter.device)
    return found


def group_masks(bunch: Bunch, dead: Tensor) -> dict[str, Tensor]:
    """Masks along the axes; `dead` is `(groups,)`, bool."""
    return {
        piece.name: piece.along(dead.to(piece.parameter.dtype), 0.0) != 0 for piece in bunch.slices
    }


def held_groups(bunch: Bunch, masks: Mapping[str, Tensor]) -> Tensor:
    """`(groups,)`, bool: which groups the masks of `group_masks` hold at 0."""
    piece = bunch.slices[0]
    if piece.name not in masks:
        return torch.zeros(bunch.groups, dtype=torch.bool, device=piece.parameter.device)
    along = masks[piece.name].flatten()
    return (along if piece.rows is None else along[piece.rows])[:: piece.per_group]


def read_masks(value: object, shapes: MaskShapes, key: str = "masks") -> dict[str, Tensor]:
    """Masks of a state, copied to the devices of their parameters.

    Raises:
        ValueError: They are none, or belong to other parameters.
    """
    if not isinstance(value, Mapping):
        refuse(key, "a dictionary", value)
    found = {}
    for name, mask in value.items():
        if name not in shapes:
            refuse(key, "of parameters that are shrunk", name)
        shape, device = shapes[name]
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != shape:
            what = (
                f"{mask.dtype} of {tuple(mask.shape)}" if isinstance(mask, Tensor) else repr(mask)
            )
            refuse(f"{key}.{name}", f"a bool tensor of {tuple(shape)}", what)
        found[name] = mask.to(device, copy=True)
    return found
