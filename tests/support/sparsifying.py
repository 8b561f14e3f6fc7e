"""Networks, optimizers and an independent gather for the tests of sparsifiers."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

from abscise.sparsify import Attachment

Making = Callable[[Iterable[Tensor]], Optimizer]

OPTIMIZERS: dict[str, Making] = {
    "sgd": lambda weights: SGD(weights, 0.1),
    "momentum": lambda weights: SGD(weights, 0.1, momentum=0.9, nesterov=True, weight_decay=1e-2),
    "adam": lambda weights: Adam(weights, 0.01),
    "amsgrad": lambda weights: Adam(weights, 0.01, amsgrad=True),
    "adamw": lambda weights: AdamW(weights, 0.01, foreach=True),
    "fused": lambda weights: Adam(weights, 0.01, fused=True),
    "rmsprop": lambda weights: RMSprop(weights, 0.01),
    "centred": lambda weights: RMSprop(weights, 0.01, centered=True, momentum=0.5),
    "adagrad": lambda weights: Adagrad(weights, 0.05, lr_decay=0.1),
}


def small_network(seed: int = 0) -> nn.Sequential:
    """Convolution and BatchNorm twice, two linear layers, in float64; inputs are (8, 2, 6, 6)."""
    with torch.random.fork_rng():
        _ = torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(2, 6, 3, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64, 12),
            nn.ReLU(),
            nn.Linear(12, 3),
        ).to(torch.float64)
        for parameter in network.parameters():
            _ = parameter.data.add_(torch.randn_like(parameter) * 0.05)
    return network


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Inputs and labels for `small_network`."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(8, 2, 6, 6, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(0, 3, (8,), generator=generator)


def train(model: nn.Module, optimizer: Optimizer, steps: int, first: int = 0) -> None:
    """`steps` optimizer steps, each on a batch of its own."""
    for step in range(first, first + steps):
        step_on(batch(step), model, optimizer)


def step_on(
    examples: tuple[Tensor, Tensor],
    model: nn.Module,
    optimizer: Optimizer,
    attachment: Attachment[Any] | None = None,
) -> None:
    """One optimizer step; the attachment, if there is one, is shown what the network says."""
    inputs, labels = examples
    optimizer.zero_grad()
    logits = model(inputs)
    if attachment is not None:
        attachment.observe(logits, labels)
    cross_entropy(logits, labels).backward()
    _ = optimizer.step()


def train_scaled(model: nn.Module, optimizer: Optimizer, steps: int, *, scaled: bool) -> None:
    """The same in float32, with gradients that a GradScaler multiplies, or without."""
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=scaled)
    for step in range(steps):
        inputs, labels = batch(step)
        optimizer.zero_grad()
        loss: Tensor = scaler.scale(cross_entropy(model(inputs.float()), labels))
        loss.backward()
        _ = scaler.step(optimizer)
        scaler.update()


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of everything that a model holds."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    """Bit for bit, as far as torch tells zeros apart."""
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def rows_of(tensors: dict[str, Tensor], parts: list[tuple[str, Any]]) -> list[Tensor]:
    """The elements of one group as flat pieces, by plain indexing: (name, index) each."""
    return [tensors[name][index].reshape(-1) for name, index in parts]
