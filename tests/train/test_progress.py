"""Counting dying units: batch norm scales and rows of hidden linear layers."""

import torch
from torch import nn

from abscise.train import Dying, dying_units


def test_norm_scales_and_hidden_rows_below_the_threshold_are_counted() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, bias=False),
        nn.BatchNorm2d(3),
        nn.Flatten(),
        nn.Linear(12, 4),
        nn.Linear(4, 2),
    )
    with torch.no_grad():
        model.get_parameter("1.weight")[:2] = torch.tensor([1e-4, -1e-4])
        model.get_parameter("3.weight")[1] = 1e-4
        model.get_parameter("3.weight")[2, :-1] = 0  # one weight left: the row lives
        model.get_parameter("4.weight")[:] = 0  # the classes are no units
    assert dying_units(model) == {"1": Dying(2, 3), "3": Dying(1, 4)}
    assert dying_units(model, 1e-5) == {"1": Dying(0, 3), "3": Dying(0, 4)}


def test_norms_without_scales_have_no_units() -> None:
    assert dying_units(nn.Sequential(nn.BatchNorm1d(3, affine=False), nn.Linear(3, 2))) == {}
