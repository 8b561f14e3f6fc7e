"""Augmentation: windows of the padded image and mirrored images, from a generator of its own."""

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

from abscise.train import Augment
from abscise.train._augment import augmented


def images(count: int = 200) -> Tensor:
    """Images without two equal pixels, so that every window is a different one."""
    return torch.arange(1.0, 1 + count * 2 * 6 * 6).reshape(count, 2, 6, 6)


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def test_without_augmentation_the_images_are_the_same_object() -> None:
    batch = images()
    assert augmented(batch, Augment.NONE, seeded()) is batch


def test_a_flip_mirrors_about_half_of_the_images_and_leaves_the_others() -> None:
    batch = images()
    found = augmented(batch, Augment.FLIP, seeded())
    kept = [torch.equal(a, b) for a, b in zip(found, batch, strict=True)]
    mirrored = [torch.equal(a, b.flip(2)) for a, b in zip(found, batch, strict=True)]
    assert all(one != other for one, other in zip(kept, mirrored, strict=True))
    assert 70 < sum(mirrored) < 130


def window(found: Tensor, image: Tensor) -> tuple[int, int, bool]:
    """Which window of the padded image `found` is; the only one, or the test fails."""
    padded = pad(image, (4, 4, 4, 4))
    fits = [
        (row, column, flipped)
        for row in range(9)
        for column in range(9)
        for flipped in (False, True)
        for part in [padded[:, row : row + 6, column : column + 6]]
        if torch.equal(found, part.flip(2) if flipped else part)
    ]
    (only,) = fits
    return only


def test_a_crop_is_one_window_of_the_padded_image_the_same_for_all_channels() -> None:
    batch = images()
    found = augmented(batch, Augment.CROP_FLIP, seeded())
    windows = [window(a, b) for a, b in zip(found, batch, strict=True)]
    rows, columns, flips = zip(*windows, strict=True)
    assert set(rows) == set(columns) == set(range(9))
    assert set(flips) == {False, True}
    assert len(set(windows)) > 80


def test_a_shift_is_a_window_of_the_image_padded_with_its_border_and_mirrors_nothing() -> None:
    batch = images()
    found = augmented(batch, Augment.SHIFT, seeded())
    padded = pad(batch, (2, 2, 2, 2), mode="replicate")
    seen = set()
    for image, wide in zip(found, padded, strict=True):
        fits = [
            (row, column)
            for row in range(5)
            for column in range(5)
            if torch.equal(image, wide[:, row : row + 6, column : column + 6])
        ]
        assert len(fits) == 1
        seen.update(fits)
    assert len(seen) == 25


def test_the_changes_depend_on_the_generator_alone() -> None:
    batch = images()
    _ = torch.manual_seed(1)
    before = torch.get_rng_state()
    one = augmented(batch, Augment.CROP_FLIP, seeded(3))
    assert torch.equal(torch.get_rng_state(), before)
    _ = torch.manual_seed(2)
    assert torch.equal(one, augmented(batch, Augment.CROP_FLIP, seeded(3)))
    assert not torch.equal(one, augmented(batch, Augment.CROP_FLIP, seeded(4)))
