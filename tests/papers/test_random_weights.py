"""RandomWeights: a share of the weights by lot, on a cubic course, the same lots for ever."""

import pytest
import torch
from torch import Tensor, nn

import abscise
from abscise.papers._random_weights import RandomWeights
from abscise.sparsify import Cubic


def zeros_after(
    options: RandomWeights, steps: int, resume_at: int = -1
) -> tuple[list[Tensor], int]:
    """The masks, and how many zeros there are, after some steps of a model that moves."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 10))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    attached = abscise.attach(options, optimizer, model)
    for step in range(steps):
        if step == resume_at:
            state = attached.state_dict()
            attached.detach()
            attached = abscise.attach(options, optimizer, model)
            attached.load_state_dict(state)
        optimizer.zero_grad()
        model(torch.randn(4, 20)).square().sum().backward()
        optimizer.step()
    masks = [one.detach() == 0 for one in model.parameters() if one.ndim >= 2]
    return masks, sum(int(mask.sum()) for mask in masks)


def test_the_share_is_that_of_the_cubic_course_to_one_weight() -> None:
    options = RandomWeights(0.8, steps=10, every=2, seed=0)
    course = Cubic(0.8, 10)
    for steps in (1, 2, 5, 10, 15):
        pruned = steps - steps % 2
        expected = round(course(pruned) * 900) if pruned else 0
        assert zeros_after(options, steps)[1] == expected


def test_lots_are_of_the_seed_alone_and_no_magnitudes() -> None:
    one, _ = zeros_after(RandomWeights(0.5, 4, 1, seed=1), 4)
    again, _ = zeros_after(RandomWeights(0.5, 4, 1, seed=1), 9)
    other, _ = zeros_after(RandomWeights(0.5, 4, 1, seed=2), 4)
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_one_that_takes_over_later_goes_on_with_the_same_lots() -> None:
    first, _ = zeros_after(RandomWeights(0.5, 4, 1, seed=1), 4)
    second, _ = zeros_after(RandomWeights(0.8, 4, 1, seed=1, after=2), 6)
    assert all(bool((a <= b).all()) for a, b in zip(first, second, strict=True))
    assert zeros_after(RandomWeights(0.8, 4, 1, seed=1, after=2), 2)[1] == 0


def test_resumed_it_is_where_it_was() -> None:
    options = RandomWeights(0.7, 8, 3, seed=0)
    whole, resumed = zeros_after(options, 8), zeros_after(options, 8, resume_at=5)
    assert whole[1] == resumed[1]
    assert all(torch.equal(a, b) for a, b in zip(whole[0], resumed[0], strict=True))


def test_what_is_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="target_sparsity must be in"):
        _ = RandomWeights(1.0, 1, 1, 0)
    with pytest.raises(ValueError, match="steps and every must be >= 1"):
        _ = RandomWeights(0.5, 0, 1, 0)
    model = nn.Linear(4, 4)
    worker = RandomWeights(0.5, 1, 1, 0).bind(torch.optim.SGD(model.parameters(), 0.1), model)
    with pytest.raises(ValueError, match="must hold a step"):
        worker.load_state_dict({"step": -1})
