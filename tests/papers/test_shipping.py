"""Shipping: what is shipped is smaller, gives the same outputs, and is refused if it does not."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import abscise
from abscise._errors import NotEqualError
from abscise.papers._shipping import errors_on, ship_state, with_state
from abscise.train import MLP, Split
from support.papering import made_data


def half_dead() -> nn.Module:
    """A network of which 6 of 16 hidden units are dead."""
    torch.manual_seed(0)
    model = MLP(64, (16,), 10)
    with torch.no_grad():
        hidden = model.get_submodule("layers.hidden1")
        hidden.get_parameter("weight")[:6] = 0.0
        hidden.get_parameter("bias")[:6] = -1.0
    return model.eval()


def test_dead_units_are_gone_and_the_figures_are_those_of_the_smaller_network() -> None:
    data = made_data("digits")
    found = ship_state(half_dead(), data, "made")
    assert (found.units, found.units_removed) == (16, 6)
    assert found.parameters == 10 * 64 + 10 + 10 * 10 + 10
    assert found.nonzero == found.parameters
    assert (found.dense_macs, found.macs) == (16 * 64 + 160, 10 * 64 + 100)
    assert found.certificate.passed
    one, other = errors_on([half_dead(), found.model], data.test)
    assert one == other


def test_zeros_take_next_to_no_space_on_disk() -> None:
    data = made_data("digits")
    model = half_dead()
    dense = ship_state(model, data, "made").bytes_on_disk
    with torch.no_grad():
        weight = model.get_submodule("layers.hidden1").get_parameter("weight")
        weight[:, ::2] = 0.0
    assert ship_state(model, data, "made").bytes_on_disk < 0.75 * dense


def test_a_smaller_network_with_other_outputs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    compact = abscise.compact

    def wrong(*args: Any, **kwargs: Any) -> Any:
        made = compact(*args, **kwargs)
        failed = replace(made.certificate, passed=False, inconclusive=False, reason="made wrong")
        return replace(made, certificate=failed)

    monkeypatch.setattr(abscise, "compact", wrong)
    with pytest.raises(
        NotEqualError, match="made: the compacted model is not the trained one: mad"
    ):
        _ = ship_state(half_dead(), made_data("digits"), "made")


def test_a_copy_with_other_weights_leaves_the_model_as_it_was() -> None:
    model = half_dead()
    before = {name: one.clone() for name, one in model.state_dict().items()}
    state = {name: torch.zeros_like(one) for name, one in before.items()}
    copied = with_state(model, state)
    assert not any(bool(one.any()) for one in copied.state_dict().values())
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())


def test_errors_are_percentages() -> None:
    data = made_data("digits")
    always = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with torch.no_grad():
        for weight in always.parameters():
            weight.zero_()
        always.get_parameter("1.bias")[3] = 1.0
    part = Split(data.test.inputs[:10], torch.tensor([3] * 4 + [1] * 6))
    assert errors_on([always], part) == pytest.approx([60.0])
