"""Loss and error of a part of the data, and what they leave alone."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from abscise.train import Split, accuracy
from abscise.train._evaluate import loss_and_error


def test_loss_and_error_are_means_over_all_examples_in_eval_mode() -> None:
    with torch.random.fork_rng():
        _ = torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, 3))
        inputs, labels = torch.randn(1037, 4), torch.randint(0, 3, (1037,))  # more than one batch
    _ = model[2].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    loss, error = loss_and_error(model, Split(inputs, labels))
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in model] == [True, True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert error == pytest.approx(1 - accuracy(model, Split(inputs, labels)))
    trained = cross_entropy(model(inputs), labels).item()
    with torch.no_grad():
        logits = model.eval()(inputs)
    assert loss == pytest.approx(cross_entropy(logits, labels).item())
    assert loss != pytest.approx(trained), "dropout would be seen"
    assert error == pytest.approx((logits.argmax(1) != labels).double().mean().item())
