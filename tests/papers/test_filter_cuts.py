"""Cuts take exactly the same number of filters, whatever ranks them."""

import copy

import pytest
import torch
from torch import nn

import abscise
from abscise.papers._filter_cuts import (
    Cut,
    Ranking,
    filters_of,
    order_of,
    parameters_left,
    scores_of,
    silence_,
)
from abscise.papers._filter_cuts import cuts_of as cuts_at
from abscise.papers._layout import channels_first_, channels_last
from abscise.train import Split

LEVELS = (0.0, 0.25, 0.5, 1.0)


def network(shift: float = 0.0) -> nn.Module:
    """Twelve and twenty filters; the scales of the first layer are the smaller ones."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 20, 3, padding=1, bias=False),
        nn.BatchNorm2d(20),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(20 * 16, 10),
    )
    with torch.no_grad():
        for norm, low in ((model[1], 0.1), (model[5], 1.0)):
            assert isinstance(norm, nn.BatchNorm2d)
            norm.weight.copy_(low + 0.01 * torch.randperm(norm.num_features))
            norm.bias.copy_(torch.randn(norm.num_features) + shift)
    return model.eval()


def some_images() -> torch.Tensor:
    return torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def cuts_of(model: nn.Module, ranking: Ranking) -> tuple[Cut, ...]:
    images = some_images()
    tested = Split(images, torch.zeros(16).long())
    return cuts_at(model, filters_of(model, images), ranking, LEVELS, tested)


@pytest.mark.parametrize("shift", [0.0, -10.0])
@pytest.mark.parametrize("ranking", list(Ranking))
def test_a_cut_takes_the_asked_share_of_all_filters_and_leaves_what_removal_leaves(
    ranking: Ranking, shift: float
) -> None:
    model, images = network(shift), some_images()
    layers, units = filters_of(model, images)
    assert [len(layer.units) for layer in layers] == [12, 20]
    order = order_of(scores_of(model, layers, ranking))
    cuts = cuts_of(model, ranking)
    assert [cut.gone for cut in cuts] == [0, 8, 16, 30]
    for cut in cuts[2:3]:
        small = copy.deepcopy(model)
        silence_(small, layers, order[: cut.gone])
        zeros = sum(int((small.get_parameter(it.scale) == 0).sum()) for it in layers)
        assert zeros == cut.gone
        made = abscise.compact(small, images)
        carriers = cut.gone - made.plan.removed_units
        left = sum(weight.numel() for weight in made.model.parameters())
        if shift < 0:  # nothing is left of a filter
            assert (carriers, left) == (0, cut.parameters)
        else:  # the constants go into what reads them, or into one filter of the layer
            assert 0 <= carriers <= len(layers)
            assert left > cut.parameters
        assert made.certificate.passed or made.certificate.inconclusive
    all_ids = [unit for layer in layers for unit in layer.units]
    one_more = parameters_left(model, units, [all_ids[it] for it in order[:9]])
    assert one_more != cuts[1].parameters


def test_every_ranking_takes_as_many_filters() -> None:
    by_gamma, by_norm = (cuts_of(network(), it) for it in Ranking)
    assert [cut.gone for cut in by_gamma] == [cut.gone for cut in by_norm]
    assert [cut.parameters for cut in by_gamma[1:3]] != [cut.parameters for cut in by_norm[1:3]]


def test_gammas_are_ranked_over_all_layers_and_norms_within_each() -> None:
    model = network()
    layers, _ = filters_of(model, some_images())
    gammas = order_of(scores_of(model, layers, Ranking.GAMMA))
    assert set(gammas[:11]) < set(range(12))  # the first layer's, but the largest
    assert len(gammas) == 30
    norms = order_of(scores_of(model, layers, Ranking.NORM))
    for count in range(8, 30, 4):
        first = sum(place < 12 for place in norms[:count])
        assert abs(first / count - 12 / 32) <= 1 / count + 0.02
    weight = model.get_parameter("0.weight").detach().abs().flatten(1).sum(1)
    assert norms[[it < 12 for it in norms].index(True)] == int(weight.argmin())


def test_the_largest_filter_of_a_layer_stays() -> None:
    model = network()
    layers, _ = filters_of(model, some_images())
    for ranking in Ranking:
        order = order_of(scores_of(model, layers, ranking))
        small = copy.deepcopy(model)
        silence_(small, layers, order)
        assert [int((small.get_parameter(it.scale) != 0).sum()) for it in layers] == [1, 1]


def test_a_cut_leaves_the_network_as_it_was() -> None:
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    _ = cuts_of(model, Ranking.GAMMA)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_channels_last_keeps_numbers_and_parameters_and_changes_the_layout() -> None:
    model, images = network(), some_images()
    held, wanted = list(model.parameters()), model(images)
    strides = model.get_parameter("4.weight").stride()
    part = channels_last(model, torch.optim.SGD(held, 0.1))
    part.load_state_dict(part.state_dict())
    assert all(one is other for one, other in zip(held, model.parameters(), strict=True))
    assert model.get_parameter("4.weight").stride() != strides
    torch.testing.assert_close(model(images), wanted)
    _ = channels_first_(model)
    assert model.get_parameter("4.weight").stride() == strides
    assert torch.equal(model(images), wanted)
