"""Gradients of single examples come from where autograd's do, or from backward passes alone."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear, scaled_dot_product_attention
from torch.optim import SGD
from torch.utils.checkpoint import checkpoint
from typing_extensions import override

from abscise import attach
from abscise.sparsify import Sensitivity, SensitivityWorker
from support.sparsifying import batch, small_network

EXAMPLES = 8
SEED = 7


class Own(nn.Module):
    """Dropout beside a weight of its own, in one module."""

    def __init__(self, share: float = 0.02) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 6))
        self.share = share

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        return dropout(inputs @ self.weight, self.share, self.training).tanh()


class Attending(nn.Module):
    """Attention by torch's function."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Linear(6, 12)

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        heads = self.read(inputs.unflatten(-1, (2, 3)).repeat(1, 1, 2)).unflatten(-1, (3, 2, 2))
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        return scaled_dot_product_attention(query, key, value).flatten(1)[:, :6]


class Aside(nn.Module):
    """A layer whose weight is read elsewhere, too, and counts for little there."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(6, 6)

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        return self.mix(inputs).relu() + 5e-3 * linear(inputs.flip(1), self.mix.weight)


class Again(nn.Module):
    """Run once more in the backward pass instead of kept."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.3), nn.Tanh(), nn.Linear(6, 6))

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = checkpoint(self.inner, 2 * inputs, use_reentrant=False)
        return found


class Looked(nn.Module):
    """An embedding of what the inputs round to."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 6, padding_idx=0, **options)

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        return self.embed(inputs.abs().long().clamp(max=6)).tanh().mean(1)


class Keyed(nn.Module):
    """Attention written out: a softmax does not feel its keys' bias."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(16, 16) for _ in range(3))
        self.widen = nn.Linear(6, 96)

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        read = self.widen(inputs).unflatten(-1, (6, 16))
        weights = (self.query(read) @ self.key(read).transpose(1, 2)).softmax(-1)
        return (weights @ self.value(read)).mean(1)[:, :6]


PARTS: dict[str, Callable[[], nn.Module]] = {
    "prelu of channels": lambda: nn.PReLU(6),
    "prelu": nn.PReLU,
    "dropout inside": Own,
    "attention": Attending,
    "weight read elsewhere": Aside,
    "attention written out": Keyed,
    "checkpoint": Again,
    "embedding": Looked,
    "sparse embedding": lambda: Looked(sparse=True),
    "embedding by frequency": lambda: Looked(scale_grad_by_freq=True),
    "encoder": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 6)), nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), nn.Flatten()
    ),
    "orthogonal": lambda: nn.utils.parametrizations.orthogonal(nn.Linear(6, 6)),
}


def network(name: str, dtype: torch.dtype) -> nn.Module:
    _ = torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), PARTS[name](), nn.Linear(6, 3)).to(dtype)


def read(dtype: torch.dtype) -> Tensor:
    return torch.randn(EXAMPLES, 5, generator=torch.Generator().manual_seed(2)).to(dtype) * 3


def forward(model: nn.Module, inputs: Tensor) -> Tensor:
    """With the same random numbers at every call."""
    _ = torch.manual_seed(SEED)
    found: Tensor = model(inputs)
    return found


def measured(model: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    with attach(Sensitivity(0.1), SGD(model.parameters(), 0.1), model) as attachment:
        attachment.observe(forward(model, inputs))
        return {name: one.clone() for name, one in attachment.worker.sensitivities.items()}


def defined(model: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """A backward pass for each output of each example."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    logits = forward(model, inputs)
    found = {name: torch.zeros_like(one) for name, one in model.named_parameters()}
    for one in logits.flatten():
        each = torch.autograd.grad(one, parameters, retain_graph=True, allow_unused=True)
        for name, gradient in zip(names, each, strict=True):
            if gradient is not None:
                found[name] += (gradient.to_dense()).abs() / logits.numel()
    return found


def near(one: dict[str, Tensor], two: dict[str, Tensor], slack: float) -> bool:
    assert one.keys() == two.keys()
    least = (
        0.01 * slack * max(float(value.max()) for value in two.values())
    )  # of a derivative that is 0, rounding leaves something
    return all(bool(((one[k] - two[k]).abs() <= slack * two[k].max() + least).all()) for k in one)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", PARTS)
def test_it_is_the_mean_of_the_derivatives_sizes(name: str, dtype: torch.dtype) -> None:
    model, inputs = network(name, dtype), read(dtype)
    slack = 1e-5 if dtype == torch.float32 else 1e-12
    found = measured(model, inputs)
    assert near(found, defined(copy.deepcopy(model), inputs), slack)
    assert not near(found, defined(model, inputs[:-1]), slack)  # one example less would be seen


def observed(worker: SensitivityWorker) -> None:
    worker.__dict__["_state"].observed = False


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "alone"), [("attention written out", 0), ("dropout inside", 1)])
def test_a_gradient_that_is_rounding_alone_is_credited_and_what_cannot_be_is_not(
    name: str, alone: int, dtype: torch.dtype
) -> None:
    model, inputs = network(name, dtype), read(dtype)
    with attach(Sensitivity(0.1), SGD(model.parameters(), 0.1), model) as attachment:
        attachment.observe(forward(model, inputs))
        (source,) = attachment.worker.__dict__["_measure"].__dict__["_known"].values()
    assert len(source.single) == alone


def test_dropout_that_is_switched_on_after_the_proof_has_the_masks_of_the_forward_pass() -> None:
    model, inputs = network("dropout inside", torch.float64), read(torch.float64)
    part = model.get_submodule("1")
    assert isinstance(part, Own)
    with attach(Sensitivity(0.1), SGD(model.parameters(), 0.1), model) as attachment:
        attachment.observe(forward(model.eval(), inputs))
        observed(attachment.worker)
        part.share = 0.5
        attachment.observe(forward(model.train(), inputs))
        found = attachment.worker.sensitivities
        assert near(found, defined(model, inputs), 1e-12)
        assert not near(found, defined(model.eval(), inputs), 1e-12)


class Late(nn.Module):
    """A weight of its own that takes part when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.randn(6))
        self.awake = False

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs + self.shift if self.awake else inputs).tanh()


def test_a_weight_that_takes_part_only_later_is_measured_then() -> None:
    _ = torch.manual_seed(0)
    late, inputs = Late(), read(torch.float64)
    model = nn.Sequential(nn.Linear(5, 6), late, nn.Linear(6, 3)).double()
    with attach(Sensitivity(0.1), SGD(model.parameters(), 0.1), model) as attachment:
        attachment.observe(forward(model, inputs))
        assert not bool(attachment.worker.sensitivities["1.shift"].any())
        observed(attachment.worker)
        late.awake = True
        attachment.observe(forward(model, inputs))
        assert near(attachment.worker.sensitivities, defined(model, inputs), 1e-12)


@pytest.mark.parametrize("mean", ["examples", "batch"])
@pytest.mark.parametrize("name", ["prelu", "sparse embedding"])
def test_a_weight_that_is_frozen_later_has_no_sensitivity_until_it_is_trained_again(
    name: str, mean: str
) -> None:
    model, inputs = network(name, torch.float64), read(torch.float64)
    part = model.get_submodule("1")
    with attach(Sensitivity(0.1, mean=mean), SGD(model.parameters(), 0.1), model) as attachment:
        seen = []
        for trained in (True, False, True):
            _ = part.requires_grad_(trained)
            attachment.observe(forward(model, inputs))
            observed(attachment.worker)
            of = attachment.worker.sensitivities
            seen.append({key: one.clone() for key, one in of.items()})
    own = [key for key in seen[0] if key.startswith("1.")]
    assert all(bool(seen[0][key].any()) and not bool(seen[1][key].any()) for key in own)
    assert near(seen[2], seen[0], 0.0)
    assert all(near({k: seen[1][k]}, {k: seen[0][k]}, 0.0) for k in seen[0] if k not in own)


class Beside(nn.Module):
    """Two layers whose outputs are added, so that one tensor is the gradient of both."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.bend = nn.BatchNorm1d(5), nn.PReLU()

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        return self.norm(inputs) + self.bend(inputs)


def test_a_gradient_that_two_layers_share_is_changed_for_neither() -> None:
    _ = torch.manual_seed(0)
    inputs = read(torch.float64)
    model = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), Beside(), nn.Tanh(), nn.Linear(5, 1))
    _ = model.double().eval()  # of one output, so that there is one pass
    with attach(Sensitivity(0.1), SGD(model.parameters(), 0.1), model) as attachment:
        attachment.observe(forward(model, inputs))
        assert near(attachment.worker.sensitivities, defined(model, inputs), 1e-12)


def test_a_layer_that_was_replaced_is_refused_by_name() -> None:
    model = small_network()
    optimizer = SGD(model.parameters(), 0.1)
    attachment = attach(Sensitivity(0.1), optimizer, model)
    inputs, labels = batch()
    attachment.observe(model(inputs), labels)
    optimizer.zero_grad()
    _ = optimizer.step()
    kept, model[7] = model[7], nn.Linear(64, 12, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"7\.weight is no parameter of the model any more"):
        attachment.observe(model(inputs), labels)
    model[7] = kept
    attachment.observe(model(inputs), labels)
