"""The table of test families: each builds a small trained-like network from a seed."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor, nn

from support.joined import DenseNet, Inception, Unet
from support.mobile import MobileNet, ShuffleNet
from support.plain import Mlp, Vgg
from support.residual import ResNet
from support.sites import Network

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True, slots=True)
class Family:
    """How to build a network, the shape of one example, and another shape for the free ones."""

    make: Callable[[Random], Network]
    shape: tuple[int, ...] = (3, 8, 8)
    other_shape: tuple[int, ...] = (3, 12, 10)

    def build(self, seed: int, dtype: torch.dtype = torch.float64) -> Network:
        """A network in eval mode whose norms hold the statistics of random data."""
        with torch.random.fork_rng():
            _ = torch.manual_seed(seed)
            network = self.make(Random(seed)).to(torch.float64)
            trained_like_(network, self.inputs(16, seed), seed)
        return network.to(dtype).eval()

    def inputs(self, batch: int, seed: int, shape: tuple[int, ...] | None = None) -> Tensor:
        """`batch` random float64 examples."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(batch, *(shape or self.shape), generator=generator, dtype=torch.float64)


FAMILIES: dict[str, Family] = {
    "vgg": Family(lambda dice: Vgg(dice, norm=False, flatten=True)),
    "vgg-bn": Family(lambda dice: Vgg(dice, norm=True, flatten=dice.random() < 0.5)),
    "vgg-pool": Family(lambda dice: Vgg(dice, norm=dice.random() < 0.5, flatten=False)),
    "conv1d": Family(
        lambda dice: Vgg(dice, norm=True, flatten=dice.random() < 0.3, dims=1, size=14),
        (3, 14),
        (3, 19),
    ),
    "conv3d": Family(
        lambda dice: Vgg(dice, norm=True, flatten=False, dims=3), (3, 8, 8, 8), (3, 8, 9, 10)
    ),
    "mlp": Family(Mlp, (6,), (6,)),
    "resnet": Family(lambda dice: ResNet(dice, "basic")),
    "bottleneck": Family(lambda dice: ResNet(dice, "bottleneck")),
    "preactivation": Family(lambda dice: ResNet(dice, "pre")),
    "resnext": Family(lambda dice: ResNet(dice, "grouped")),
    "mobilenet": Family(MobileNet),
    "multiplier": Family(lambda dice: MobileNet(dice, multiplier=2)),
    "squeeze-excitation": Family(lambda dice: MobileNet(dice, gate=True)),
    "shufflenet": Family(ShuffleNet),
    "densenet": Family(DenseNet),
    "inception": Family(Inception),
    "unet": Family(Unet),
}


def trained_like_(model: nn.Module, inputs: Tensor, seed: int) -> None:
    """Random weights, scales of both signs, and running statistics near those of `inputs`."""
    generator = torch.Generator().manual_seed(seed)

    def noise(tensor: Tensor) -> Tensor:
        return torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor)

    norms = [module for module in model.modules() if isinstance(module, NORMS)]
    with torch.no_grad():
        for parameter in model.parameters():
            fan_in = max(1, parameter.shape[1:].numel()) if parameter.dim() > 1 else 0
            _ = parameter.copy_(noise(parameter) * ((2 / fan_in) ** 0.5 if fan_in else 0.3))
        for norm in norms:
            _ = norm.weight.copy_((noise(norm.weight) * 0.3).exp() * noise(norm.weight).sign())
        _measure_statistics(model, inputs, norms)
        for norm in norms:
            if norm.running_mean is None or norm.running_var is None:
                continue
            spread = norm.running_var.sqrt()
            _ = norm.running_mean.add_(noise(spread) * spread * 0.2)
            _ = norm.running_var.mul_((noise(spread) * 0.3).exp()).clamp_(min=1e-3)


def _measure_statistics(
    model: nn.Module, inputs: Tensor, norms: list[nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d]
) -> None:
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.random.fork_rng():
        _ = model.train()(inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    _ = model.eval()
