"""From a dense model through removal and a folder back to a model: nothing is lost."""

from pathlib import Path

import pytest
import torch
from torch import nn

import abscise


def network(*, dead: bool) -> nn.Sequential:
    _ = torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 16, 12),
        nn.ReLU(),
        nn.Linear(12, 3),
    ).eval()
    if dead:
        with torch.no_grad():
            for name, rows in (("1.weight", [1, 4]), ("1.bias", [1]), ("6.weight", [2, 3])):
                model.get_parameter(name)[rows] = 0.0
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_loaded_is_what_was_certified(tmp_path: Path, dtype: torch.dtype) -> None:
    dense = network(dead=True).to(dtype)
    inputs = torch.randn(8, 1, 6, 6, dtype=dtype)
    made = abscise.compact(dense, inputs)
    assert made.certificate.passed, made.certificate.reason
    assert made.plan.removed_units >= 3
    abscise.save(tmp_path / "saved", made)
    loaded = abscise.load(tmp_path / "saved", network(dead=False).to(dtype))
    assert abscise.verify(dense, loaded, inputs).passed
    small, large = (abscise.measure(model, inputs, latency=False) for model in (loaded, dense))
    assert small.parameters < large.parameters
    assert small.macs is not None
    assert large.macs is not None
    assert small.macs < large.macs
