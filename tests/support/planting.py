"""Plant exact zeros in a network, and say which units then have to go by construction."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor, nn

from support.equality import unit_count, unit_rows, writers
from support.networks import NORMS
from support.sites import Folding, Network, Site


@dataclass(frozen=True, slots=True)
class Promise:
    """Units of `writer` that must be removed, but for `spared` of them."""

    writer: str
    units: frozenset[int]
    spared: int


def plant_(network: Network, seed: int) -> tuple[Promise, ...]:
    """Kill units of `network` in every way there is; the promises hold for the result."""
    dice = Random(seed)
    with torch.no_grad():
        for _ in range(dice.randint(0, 2)):
            dice.choice(ANYWHERE)(network, dice)
        for site in network.sites:
            if dice.random() < 0.8:
                kill_at_site_(network, site, dice)
        if dice.random() < 0.08 and network.sites:
            kill_all_at_(network, dice.choice(network.sites))
        return tuple(promise(network, site) for site in network.sites)


def kill_at_site_(network: Network, site: Site, dice: Random) -> None:
    """Each unit of a site lives, or dies in one way of its own."""
    writer = network.get_submodule(site.writer)
    count = unit_count(writer)
    for index in range(count):
        if dice.random() < 0.45:
            dice.choice(AT_SITE)(network, site, index, dice)


def promise(network: Network, site: Site) -> Promise:
    """What must go at a site: the unread, the zeros, and all constants but a carrier."""
    writer = network.get_submodule(site.writer)
    count = unit_count(writer)
    unread = torch.ones(count, dtype=torch.bool)
    for name in site.readers:
        unread &= reader_columns(network.get_submodule(name), count) == 0
    values, known = constants(network, site)
    zero = known & (values == 0)
    constant = known & (values != 0) & torch.isfinite(values)
    spared = 0
    certain = unread | zero
    if site.folding is Folding.ALWAYS:
        certain = certain | constant
    elif site.folding is Folding.CARRIER and bool((constant & ~unread).any()):
        largest = values[constant & ~unread].abs().max()
        certain = certain | (constant & (values.abs() >= 1e-3 * largest))
        spared = 1
    if bool(certain.all()):
        spared = 1
    return Promise(site.writer, frozenset(certain.nonzero().flatten().tolist()), spared)


def reader_columns(reader: nn.Module, count: int) -> Tensor:
    """The largest |weight| with which `reader` reads each of `count` units."""
    weight = reader.get_parameter("weight").detach()
    axis = 0 if isinstance(reader, nn.ConvTranspose2d) else 1
    columns = weight.transpose(0, axis).abs().flatten(1)
    return columns.reshape(count, -1).amax(1)  # several columns a unit after a flatten


def constants(network: Network, site: Site) -> tuple[Tensor, Tensor]:
    """Per unit: the value that the readers see, and whether it is the same for every input."""
    writer = network.get_submodule(site.writer)
    bias = writer.bias if isinstance(writer.bias, Tensor) else torch.zeros(unit_count(writer))
    if site.norm is None:
        known = unit_rows(writer).flatten(1).abs().amax(1) == 0
        values = bias.to(torch.float64)
    else:
        norm = network.get_submodule(site.norm)
        known = norm.get_parameter("weight") == 0
        values = norm.get_parameter("bias").to(torch.float64)
    if site.activation is not None:
        values = network.get_submodule(site.activation)(values.clone()[None])[0]
    return values.detach(), known.detach()


def scale_to_zero_(network: Network, site: Site, index: int, dice: Random) -> None:
    """gamma = 0 with beta below, at or above zero; without a norm: row = 0 and any bias."""
    shift = dice.choice((-1.0, 0.0, 0.0, 1.0)) * dice.uniform(0.1, 2)
    if site.norm is not None:
        norm = network.get_submodule(site.norm)
        norm.get_parameter("weight")[index] = 0
        norm.get_parameter("bias")[index] = shift
        return
    writer = network.get_submodule(site.writer)
    _ = unit_rows(writer)[index].zero_()
    if isinstance(writer.bias, Tensor):
        writer.bias[index] = shift


def zero_row_(network: Network, site: Site, index: int, _dice: Random) -> None:
    """Incoming weights and bias = 0."""
    writer = network.get_submodule(site.writer)
    _ = unit_rows(writer)[index].zero_()
    if isinstance(writer.bias, Tensor):
        writer.bias[index] = 0


def unread_(network: Network, site: Site, index: int, _dice: Random) -> None:
    """The columns of all readers = 0."""
    count = unit_count(network.get_submodule(site.writer))
    for name in site.readers:
        zero_column_(network.get_submodule(name), index, count)


def both_(network: Network, site: Site, index: int, dice: Random) -> None:
    """Unread and constant."""
    scale_to_zero_(network, site, index, dice)
    unread_(network, site, index, dice)


def nearly_(network: Network, site: Site, index: int, dice: Random) -> None:
    """Tiny, but not zero: it must stay."""
    if site.norm is not None:
        network.get_submodule(site.norm).get_parameter("weight")[index] = dice.choice((1e-6, -1e-6))
    else:
        _ = unit_rows(network.get_submodule(site.writer))[index].mul_(1e-6)


def zero_column_(reader: nn.Module, index: int, count: int) -> None:
    """Zero the weights with which a dense `reader` reads unit `index` of `count`."""
    weight = reader.get_parameter("weight")
    axis = 0 if isinstance(reader, nn.ConvTranspose2d) else 1
    size = weight.shape[axis] // count
    _ = weight.narrow(axis, index * size, size).zero_()


def kill_all_at_(network: Network, site: Site) -> None:
    """A whole layer dies."""
    writer = network.get_submodule(site.writer)
    for parameter in writer.parameters():
        _ = parameter.zero_()
    if site.norm is not None:
        _ = network.get_submodule(site.norm).get_parameter("weight").zero_()


def kill_scales_(network: Network, dice: Random) -> None:
    """A random part of the scales of random norms; residual branches so die differently."""
    for module in network.modules():
        if isinstance(module, NORMS) and dice.random() < 0.5:
            for index in range(module.num_features):
                if dice.random() < 0.3:
                    module.weight[index] = 0
                    if dice.random() < 0.7:
                        module.bias[index] = dice.choice((0.0, -0.5, 0.7))


def kill_stream_(network: Network, dice: Random) -> None:
    """The same channels in every layer of one width: a residual stream dies as a whole."""
    norms = [module for module in network.modules() if isinstance(module, NORMS)]
    if not norms:
        return
    width = dice.choice(norms).num_features
    indices = dice.sample(range(width), dice.randint(1, width - 1))
    for norm in norms:
        if norm.num_features == width:
            norm.weight[indices] = 0
            norm.bias[indices] = 0
    for _, writer in writers(network)[:-1]:
        if unit_count(writer) == width and dice.random() < 0.8:
            unit_rows(writer)[indices] = 0
            if isinstance(writer.bias, Tensor):
                writer.bias[indices] = 0


def kill_columns_(network: Network, dice: Random) -> None:
    """Random input columns of random layers: some readers stop reading, others go on."""
    for _, reader in writers(network):
        if dice.random() < 0.5:
            weight = reader.get_parameter("weight")
            for index in range(weight.shape[1]):
                if dice.random() < 0.3:
                    weight[:, index] = 0


def kill_rows_(network: Network, dice: Random) -> None:
    """Random output rows of random layers, with or without their bias."""
    for _, writer in writers(network)[:-1]:
        if dice.random() < 0.5:
            for index in range(unit_count(writer)):
                if dice.random() < 0.3:
                    _ = unit_rows(writer)[index].zero_()
                    if isinstance(writer.bias, Tensor) and dice.random() < 0.7:
                        writer.bias[index] = 0


def kill_offsets_(network: Network, dice: Random) -> None:
    """The same offsets in every group of a grouped convolution: an equal number dies in each."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and 1 < module.groups < module.in_channels:
            offset = dice.randrange(module.in_channels // module.groups)
            module.weight[:, offset] = 0


Edit = Callable[[Network, Random], None]
SiteEdit = Callable[[Network, Site, int, Random], None]
ANYWHERE: tuple[Edit, ...] = (
    kill_scales_,
    kill_stream_,
    kill_columns_,
    kill_rows_,
    kill_offsets_,
)
AT_SITE: tuple[SiteEdit, ...] = (scale_to_zero_, scale_to_zero_, zero_row_, unread_, both_, nearly_)
