"""Augmentation of whole batches, on the device, from a generator of the run's own."""

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

from abscise.train._names import Augment

PADDING = 4


def augmented(images: Tensor, augment: Augment, generator: Generator) -> Tensor:
    """Images `(images, channels, height, width)`, each changed at random; others as they are.

    Args:
        images: Standardised, so that the padding, 0, is the mean colour.
        augment: FLIP mirrors half of them; CROP_FLIP also shifts each by up to 4 pixels.
        generator: On the device of `images`; its state is part of a checkpoint.
    """
    if augment is Augment.NONE:
        return images
    if augment is Augment.CROP_FLIP:
        images = _shifted(images, generator)
    mirrored = torch.rand(len(images), device=images.device, generator=generator) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def _shifted(images: Tensor, generator: Generator) -> Tensor:
    """A window of the old size, anywhere in the padded image."""
    count, channels, height, width = images.shape
    device = images.device
    shift = torch.randint(2 * PADDING + 1, (2, count, 1), device=device, generator=generator)
    rows = shift[0] + torch.arange(height, device=device)
    columns = shift[1] + torch.arange(width, device=device)
    example = torch.arange(count, device=device)[:, None, None, None]
    channel = torch.arange(channels, device=device)[None, :, None, None]
    padded = pad(images, (PADDING,) * 4)
    return padded[example, channel, rows[:, None, :, None], columns[:, None, None, :]]
