"""Augmentation of whole batches, on the device, from a generator of the run's own."""

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

from abscise.train._names import Augment

PADDING = 4
SHIFT = 2


def augmented(images: Tensor, augment: Augment, generator: Generator) -> Tensor:
    """Images `(images, channels, height, width)`, each changed at random; others as they are.

    Args:
        images: Standardised, so that the padding, 0, is the mean colour.
        augment: FLIP mirrors half of them; CROP_FLIP also shifts each by up to 4 pixels;
            SHIFT shifts by up to 2, pads with the pixels at the border, and mirrors nothing, for
            digits.
        generator: On the device of `images`; its state is part of a checkpoint.
    """
    if augment is Augment.NONE:
        return images
    if augment is Augment.CROP_FLIP:
        images = _shifted(pad(images, (PADDING,) * 4), PADDING, generator)
    if augment is Augment.SHIFT:
        return _shifted(pad(images, (SHIFT,) * 4, mode="replicate"), SHIFT, generator)
    mirrored = torch.rand(len(images), device=images.device, generator=generator) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def _shifted(padded: Tensor, most: int, generator: Generator) -> Tensor:
    """Of each image a window without as many rows and columns as were padded, anywhere in it."""
    count, channels = padded.shape[:2]
    height, width = (size - 2 * most for size in padded.shape[2:])
    device = padded.device
    shift = torch.randint(2 * most + 1, (2, count, 1), device=device, generator=generator)
    rows = shift[0] + torch.arange(height, device=device)
    columns = shift[1] + torch.arange(width, device=device)
    example = torch.arange(count, device=device)[:, None, None, None]
    channel = torch.arange(channels, device=device)[None, :, None, None]
    return padded[example, channel, rows[:, None, :, None], columns[:, None, None, :]]
