"""Removal in loops and models of all kinds: autocast, other modes, buffers, tensors that moved."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu
from torch.optim import SGD, Adam
from typing_extensions import override

import abscise
from abscise._errors import ModelError, NotEqualError
from abscise.shrinking._checks import check_same, moved
from support.shrinking import CASES, apart, batch, example, kill_, shrinking, train, twin


@pytest.mark.parametrize("outside", [False, True])
def test_a_step_within_autocast_removes_as_one_outside_does(*, outside: bool) -> None:
    model = CASES["conv-bn"].build(dtype=torch.float32)
    optimizer = Adam(model.parameters(), 0.01)
    attachment = shrinking(model, optimizer, every=2)
    for step in range(4):
        images, labels = batch(step, torch.float32)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = cross_entropy(model(images), labels)
            loss.backward()
            if not outside:
                _ = optimizer.step()
                _ = model(images)  # what was cast before the removal has other shapes
        if outside:
            _ = optimizer.step()
    assert [it.removed for it in attachment.worker.shrinks] == [CASES["conv-bn"].removed]


def test_attached_in_eval_mode_to_a_model_that_cannot_train_on_the_example_it_is_shrunk() -> None:
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(72, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)
    ).double()
    kill_(model, (("2.weight", (1,)), ("2.bias", (1,))))
    optimizer = SGD(model.eval().parameters(), 0.1)
    options = abscise.ShrinkWhileTraining(example()[:1], every=1, patience=1)
    attachment = abscise.attach(options, optimizer, model)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        _ = model.train()(example()[:1])
    _ = train(model, optimizer, 2)
    assert [it.removed for it in attachment.worker.shrinks] == [1]


class Counting(nn.Module):
    """Counts its calls in a buffer, in every mode."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.net = CASES["mlp"].build()

    @override
    def forward(self, images: Tensor) -> Tensor:
        _ = self.get_buffer("calls").add_(1)
        return self.net(images)


def test_a_removal_calls_the_users_model_not_once() -> None:
    model = Counting().double()
    optimizer = SGD(model.parameters(), 0.1)
    attachment = shrinking(model, optimizer)
    _ = train(model, optimizer, 3)
    assert [it.removed for it in attachment.worker.shrinks] == [CASES["mlp"].removed]
    assert float(model.get_buffer("calls")) == 3


class Masked(nn.Module):
    """One class is not allowed: its logit is minus infinity."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.tensor([False, False, True]))
        self.net = CASES["mlp"].build()

    @override
    def forward(self, images: Tensor) -> Tensor:
        return self.net(images).masked_fill(self.get_buffer("mask"), -torch.inf)


def test_outputs_that_a_mask_makes_infinite_hinder_no_removal() -> None:
    model = Masked()
    optimizer = SGD(model.parameters(), 0.05)
    attachment = shrinking(model, optimizer)
    images, labels = batch(0)
    cross_entropy(model(images), labels.clamp(max=1)).backward()
    _ = optimizer.step()
    (shrink,) = attachment.worker.shrinks
    assert (shrink.removed, shrink.moved) == (CASES["mlp"].removed, 0.0)


def test_beside_infinite_outputs_a_difference_is_seen() -> None:
    dense = [torch.tensor([[1.0, -torch.inf], [2.0, -torch.inf]])]
    check_same(dense, [dense[0].clone()], torch.float32)
    assert moved(dense, [dense[0] + torch.tensor([0.5, 0.0])]) == 0.5
    others = [[[1.5, -torch.inf], [2.0, -torch.inf]], [[1.0, 3.0], [2.0, -torch.inf]]]
    for other in (*others, [[torch.nan, -torch.inf], [2.0, -torch.inf]]):
        with pytest.raises(NotEqualError, match="differ by"):
            check_same(dense, [torch.tensor(other)], torch.float32)


def test_a_training_that_diverged_is_told_so_and_is_no_defect_of_the_removal() -> None:
    model = CASES["mlp"].build()
    optimizer = SGD(model.parameters(), 0.05)
    attachment = shrinking(model, optimizer)
    with torch.no_grad():
        model.get_parameter("5.bias")[0] = torch.nan
    with pytest.raises(ModelError, match="are NaN: nothing was removed; if the training diverged"):
        _ = train(model, optimizer, 1)
    assert attachment.worker.shrinks == []
    assert model.get_parameter("1.weight").shape == (12, 72)


@pytest.mark.parametrize("dies", [True, False])
def test_weights_that_were_given_other_data_are_looked_at_as_they_are(*, dies: bool) -> None:
    before, after = CASES["mlp"].build(), CASES["mlp"].build()
    live = before if dies else after
    for parameter in live.parameters():
        _ = nn.init.normal_(parameter)
    optimizer = SGD(before.parameters(), 0.05)
    attachment = shrinking(before, optimizer)
    for one, two in zip(before.parameters(), after.parameters(), strict=True):
        one.data = two.detach().clone()
    _ = train(before, optimizer, 1)
    assert [it.removed for it in attachment.worker.shrinks] == [CASES["mlp"].removed] * dies


class Branches(nn.Module):
    """`narrow` reads `wide`, whose activation has a slope at 0; `other` goes past both."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Linear(72, 5), nn.Linear(5, 3)
        self.other, self.classes = nn.Linear(72, 4), nn.Linear(7, 3)

    @override
    def forward(self, images: Tensor) -> Tensor:
        pixels = images.flatten(1)
        features = relu(self.narrow(torch.tanh(self.wide(pixels))))
        return self.classes(torch.cat([features, torch.tanh(self.other(pixels))], 1))


@pytest.mark.parametrize(("size", "removed"), [(1e-4, {"narrow": 2}), (0.0, {"wide": 2})])
def test_a_unit_that_the_last_of_a_dead_layer_still_reads_is_not_dead(
    size: float, removed: dict[str, int]
) -> None:
    """What reads it is not set to 0, as its layer keeps it; where it is 0, the unit goes."""
    with torch.random.fork_rng():
        _ = torch.manual_seed(0)
        model = Branches().double()
    with torch.no_grad():
        model.narrow.weight.mul_(size)
        model.narrow.bias.fill_(size)
    kill_(model, (("wide.weight", (1, 2)), ("wide.bias", (1, 2))))
    optimizer = SGD(model.parameters(), 1e-9)
    attachment = shrinking(model, optimizer, snap=1e-3)
    _ = train(model, optimizer, 1)
    dense, other = twin(model, optimizer)
    (shrink,) = attachment.worker.shrinks
    found = {it.layer: it.removed for it in shrink.layers}
    assert found == {"narrow": 2, **removed}
    assert [it.layer for it in shrink.layers if it.died] == ["narrow"]
    assert apart(train(dense, other, 2, 1), train(model, optimizer, 2, 1)) < 1e-9
    if size:
        cross_entropy(model(batch(9)[0]), batch(9)[1]).backward()
        gradient = model.wide.weight.grad
        assert gradient is not None
        assert gradient.abs().amax(1).min() > 0


def test_a_state_that_is_refused_leaves_the_network_as_it_was_built() -> None:
    model = CASES["mlp"].build()
    optimizer = SGD(model.parameters(), 0.1)
    attachment = shrinking(model, optimizer)
    _ = train(model, optimizer, 1)
    state = attachment.state_dict()
    fresh = CASES["mlp"].build()
    second = shrinking(fresh, SGD(fresh.parameters(), 0.1))
    before = str(fresh)
    for small in ({}, {**state["small"], "3": torch.zeros(8)}):
        with pytest.raises(ValueError, match=r"the state has . units of .*, the network"):
            second.load_state_dict({**state, "small": small})
        assert str(fresh) == before
    text = state["plan"].replace('"3.weight"', '"4.weight"')
    with pytest.raises(ValueError, match="state_dict: plan: "):
        second.load_state_dict({**state, "plan": text})
    assert str(fresh) == before
    second.load_state_dict(state)
    assert str(fresh) == str(model) != before
