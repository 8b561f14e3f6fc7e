"""Fingerprint: the architecture counts, the values do not."""

from collections.abc import Callable

import pytest
from torch import nn

from abscise.compaction._fingerprint import fingerprint


def build() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))


def test_values_mode_and_order_of_calls_do_not_matter() -> None:
    assert fingerprint(build()) == fingerprint(build().eval())
    assert len(fingerprint(build())) == 64


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.double(),
        lambda model: model.append(nn.Linear(2, 2)),
        lambda model: model[1].register_buffer("extra", None) or nn.Sequential(model),
        lambda model: model[3].register_parameter("bias", None) or model,
        lambda _: nn.Sequential(nn.Linear(1, 2)),
    ],
)
def test_names_shapes_and_dtypes_matter(change: Callable[[nn.Module], nn.Module]) -> None:
    assert fingerprint(change(build())) != fingerprint(build())


def test_a_tied_weight_counts_under_each_name() -> None:
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    free = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    assert fingerprint(tied) == fingerprint(free)
