"""Site: a hidden layer of a test network of which it is known by construction what has to go."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from random import Random

from torch import nn


class Folding(Enum):
    """What becomes of a non-zero constant in front of the readers of a site."""

    ALWAYS = "always"  # unpadded or linear: into a bias
    CARRIER = "carrier"  # zero-padded: into one kept constant channel (rule R11)
    NEVER = "never"  # nothing is promised


@dataclass(frozen=True, slots=True)
class Site:
    """Units that `writer` makes, `norm` and `activation` transform and only `readers` read.

    Names are qualified module names. `norm` is the last normalisation before the readers; where a
    depthwise convolution lies between, its `writer` is still the first layer that writes the unit.
    """

    writer: str
    norm: str | None
    activation: str | None
    readers: tuple[str, ...]
    folding: Folding

    def under(self, prefix: str) -> "Site":
        """The same site in a module that is a child named `prefix`."""

        def rename(name: str | None) -> str | None:
            return None if name is None else f"{prefix}.{name}"

        readers = tuple(f"{prefix}.{name}" for name in self.readers)
        return Site(
            f"{prefix}.{self.writer}",
            rename(self.norm),
            rename(self.activation),
            readers,
            self.folding,
        )


class Network(nn.Module):
    """A test network that declares its sites, and whether its input size may change."""

    def __init__(self) -> None:
        super().__init__()
        self.sites: tuple[Site, ...] = ()
        self.any_size = True

    def adopt(self, prefix: str, sites: tuple[Site, ...]) -> None:
        """Take over the sites of the child named `prefix`."""
        self.sites += tuple(site.under(prefix) for site in sites)


ACTIVATIONS: tuple[Callable[[int], nn.Module], ...] = (
    lambda _: nn.ReLU(),
    lambda _: nn.ReLU(inplace=True),
    lambda _: nn.ReLU6(),
    lambda _: nn.LeakyReLU(0.1),
    lambda _: nn.GELU(),
    lambda _: nn.SiLU(),
    lambda _: nn.Hardswish(),
    lambda _: nn.Tanh(),
    lambda _: nn.ELU(),
    lambda _: nn.Sigmoid(),
    lambda _: nn.Softplus(),
    nn.PReLU,
)


def activation(dice: Random, width: int) -> nn.Module:
    """ReLU half of the time, else any element-wise activation, for `width` channels."""
    if dice.random() < 0.5:
        return nn.ReLU(inplace=dice.random() < 0.5)
    return dice.choice(ACTIVATIONS)(width)
