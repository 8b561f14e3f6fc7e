"""torchvision's own models with planted dead channels: those go, and nothing else changes."""

import importlib.util
import re
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
import torch
from torch import nn

from support.compacting import check_compact, noise, trained
from support.equality import difference, unit_count
from support.small import dead_scales_, silent_
from support.torchvision_shim import torchvision_models

pytestmark = [
    pytest.mark.no_cover,  # the unit tests cover the code; the tracer would cost half as much again
    pytest.mark.skipif(
        importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed"
    ),
]


@dataclass(frozen=True, slots=True)
class Case:
    """Layers whose units only one block reads, and the last norm before the reader.

    `writer` matches names of modules; `norm` is the replacement that gives the norm's name, `None`
    where there is none; `shift` is a beta at which the activation gives zero. With `groups`, the
    norm is a GroupNorm, of which whole groups die.
    """

    writer: str
    norm: str | None
    shift: float = -1.0
    options: dict[str, Any] = field(default_factory=dict)
    groups: int = 0
    builder: str = ""


FAST = {
    "resnet18": Case(r"(layer\d\.\d)\.conv1", r"\1.bn1"),
    "resnet18 with GroupNorm": Case(
        r"(layer\d\.\d)\.conv1",
        r"\1.bn1",
        options={"norm_layer": lambda channels: nn.GroupNorm(8, channels)},
        groups=8,
        builder="resnet18",
    ),
    "mobilenet_v2": Case(r"(features\.(?:[2-9]|1\d)\.conv)\.0\.0", r"\1.1.1"),
    "densenet121": Case(r"(features\..*)\.conv1", r"\1.norm2"),
}
SLOW = {
    "resnet50": Case(r"(layer\d\.\d)\.conv([12])", r"\1.bn\2"),
    "shufflenet_v2_x0_5": Case(r"(stage.*\.branch2)\.0", r"\1.4", 0.0),
    "googlenet": Case(
        r"(inception.*\.branch[23])\.0\.conv",
        r"\1.0.bn",
        options={"aux_logits": False, "init_weights": False},
    ),
    "efficientnet_b0": Case(r"(features\.[2-7]\.\d\.block)\.0\.0", r"\1.1.1", 0.0),
    "vgg11_bn": Case(r"features\.0", "features.1"),
    "regnet_y_400mf": Case(r"(trunk_output\..*\.f\.se)\.fc1", None),
    "squeezenet1_0": Case(r"(features\.\d+)\.squeeze", None),
}


def plant_(model: nn.Module, case: Case) -> dict[str, set[int]]:
    """Kill about a third of the units of every matching layer, never all; return which."""
    dice = Random(0)
    planted: dict[str, set[int]] = {}
    for name, writer in model.named_modules():
        if re.fullmatch(case.writer, name) is None:
            continue
        count = unit_count(writer)
        size = count // case.groups if case.groups else 1
        parts = dice.sample(range(count // size), max(1, count // size // 3))
        units = {part * size + offset for part in parts for offset in range(size)}
        if case.norm is None:
            silent_(writer, *units)
        else:
            norm = model.get_submodule(re.sub(case.writer, case.norm, name))
            dead_scales_(norm, units, case.shift)
        planted[name] = units
    assert planted
    return planted


def check_case(name: str, case: Case) -> None:
    torch.manual_seed(0)
    size = 64
    model = getattr(torchvision_models(), case.builder or name)(weights=None, **case.options)
    model = trained(model, noise(8, 3, size, size))
    planted = plant_(model, case)
    batches = [noise(count, 3, size, size, seed=count) for count in (6, 1, 7)]
    batches.append(noise(1, 3, 96, 80, seed=3))
    assert difference(model, model, batches[:1]).conclusive
    checked = check_compact(model, noise(2, 3, size, size, seed=1), *batches)
    for layer, units in planted.items():
        assert checked.removed(layer) == units, layer


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.thorough if name == "densenet121" else ())
        for name in FAST
    ],
)
def test_planted_channels_of_a_torchvision_model_go_and_outputs_stay(name: str) -> None:
    check_case(name, FAST[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_planted_channels_of_more_torchvision_models_go_and_outputs_stay(name: str) -> None:
    check_case(name, SLOW[name])
