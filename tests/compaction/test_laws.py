"""Laws of compaction over random networks of every family with zeros planted at random."""

import copy
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import abscise
from abscise._errors import PlanError
from abscise.compaction import plan_from_json, plan_to_json
from support.compacting import Checked, assert_well_formed, check, check_compact, removed
from support.effort import examples
from support.equality import assert_equal, difference, unit_count, writers
from support.networks import FAMILIES, Family
from support.oracle import may_go, unread
from support.planting import Promise, plant_, zero_column_
from support.sites import Network

SEEDS = st.integers(0, 2**20)
CHAINS = ("vgg", "vgg-bn", "vgg-pool", "conv1d", "mlp")
EVERY = pytest.mark.parametrize("name", FAMILIES)
# Under the coverage tracer torch.export takes half as long again; the other tests cover the code.
pytestmark = pytest.mark.no_cover


def planted(name: str, seed: int) -> tuple[Family, Network, tuple[Promise, ...]]:
    family = FAMILIES[name]
    network = family.build(seed)
    return family, network, plant_(network, seed)


def batches(family: Family, network: Network, seed: int) -> list[Tensor]:
    """Eight examples, one, seven, and two of another size where the network takes them."""
    found = [family.inputs(count, seed + count) for count in (8, 1, 7)]
    if network.any_size:
        found.append(family.inputs(2, seed, family.other_shape))
    return found


@EVERY
@given(seed=SEEDS)
@examples(12)
def test_compaction_is_exact_sound_and_removes_what_must_go(name: str, seed: int) -> None:
    family, network, promises = planted(name, seed)
    data = batches(family, network, seed)
    checked = check_compact(network, family.inputs(2, seed), *data, seed=seed)
    for layer, writer in writers(network)[:-1]:
        if not isinstance(writer, nn.ConvTranspose2d):  # its units are on axis 1
            for index in checked.removed(layer):
                assert may_go(network, data[0], layer, index), f"{layer}[{index}] is alive"
    for promise in promises:
        left = promise.units - checked.removed(promise.writer)
        assert len(left) <= promise.spared or only_one_is_left(checked, promise.writer), (
            f"{promise.writer} keeps {sorted(left)}"
        )
    if name in CHAINS:
        assert_unread_units_are_gone(network, data[0], checked)


def only_one_is_left(checked: Checked, layer: str) -> bool:
    """A layer that is dead as a whole keeps any one unit, since no tensor may become empty."""
    return unit_count(checked.model.get_submodule(layer)) == 1


def assert_unread_units_are_gone(network: Network, data: Tensor, checked: Checked) -> None:
    """In a chain, a unit whose value in front of its readers does not matter must go."""
    for site in network.sites:
        count = unit_count(network.get_submodule(site.writer))
        value = site.activation or site.norm or site.writer
        left = unread(network, data, value, count) - checked.removed(site.writer)
        assert not left or only_one_is_left(checked, site.writer), (
            f"{site.writer} keeps {sorted(left)}"
        )


@EVERY
@given(seed=SEEDS)
@examples(2)
def test_compacting_twice_removes_nothing_more_and_a_plan_survives_json(
    name: str, seed: int
) -> None:
    family, network, _ = planted(name, seed)
    example = family.inputs(2, seed)
    plan = abscise.propose(network, example)
    restored = plan_from_json(json.loads(json.dumps(plan_to_json(plan))))
    assert restored == plan
    once = abscise.apply(restored, network)
    again = abscise.propose(once, example)
    assert again.removals == ()
    assert again.edits == ()
    same = abscise.apply(again, once)
    assert difference(once, same, [family.inputs(8, seed)]).relative == 0


@EVERY
@given(seed=SEEDS)
@examples(1)
def test_a_saved_model_is_loaded_with_the_same_outputs_and_trains(
    name: str, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    family, network, _ = planted(name, seed)
    folder = Path(tmp_path_factory.mktemp("saved")) / "model"
    compaction = abscise.compact(network, family.inputs(2, seed))
    abscise.save(folder, compaction)
    fresh = family.build(seed)
    with torch.no_grad():
        for parameter in fresh.parameters():
            _ = parameter.fill_(0.5)
    loaded = abscise.load(folder, fresh)
    assert_equal(network, loaded, *batches(family, network, seed), seed=seed)
    loaded.train()(family.inputs(8, seed)).square().sum().backward()
    for parameter in loaded.parameters():
        assert parameter.grad is None or bool(torch.isfinite(parameter.grad).all())


@EVERY
def test_a_network_without_zeros_keeps_every_unit(name: str) -> None:
    family = FAMILIES[name]
    network = family.build(3)
    plan = abscise.propose(network, family.inputs(2, 3))
    assert plan.removals == ()
    compacted = abscise.apply(plan, network)
    assert_well_formed(network, compacted)
    before, after = network.state_dict(), compacted.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)


@EVERY
def test_units_that_are_nearly_dead_stay(name: str) -> None:
    family = FAMILIES[name]
    network = family.build(4)
    with torch.no_grad():
        for _, writer in writers(network)[:-1]:
            _ = writer.get_parameter("weight")[0].mul_(1e-30)
    assert abscise.propose(network, family.inputs(2, 4)).removals == ()


@EVERY
def test_units_that_are_kept_by_name_stay(name: str) -> None:
    family, network, promises = planted(name, 5)
    if not promises:
        pytest.skip("a family without promises")
    example = family.inputs(2, 5)
    kept = promises[0].writer
    checked = check(network, example, family.inputs(8, 5), keep=(kept,))
    assert checked.removed(kept) == set()


@pytest.mark.parametrize("name", ["mlp", "vgg-bn", "resnet", "densenet"])
def test_a_removal_of_a_live_unit_is_seen(name: str) -> None:
    """The twin of every equality law, on the plan: a live unit of it is wrongly removed."""
    family = FAMILIES[name]
    network = family.build(6)
    data = family.inputs(8, 6)
    site = network.sites[0]
    count = unit_count(network.get_submodule(site.writer))
    live = next(index for index in range(count) if not may_go(network, data, site.writer, index))
    zeroed = copy.deepcopy(network)
    with torch.no_grad():
        for reader in site.readers:
            zero_column_(zeroed.get_submodule(reader), live, count)
    plan = abscise.propose(zeroed, family.inputs(2, 6))
    assert removed(plan, f"{site.writer}.weight") == {live}
    with pytest.raises(PlanError, match="live"):
        _ = abscise.apply(plan, network)
    wrong = abscise.apply(plan, network, structure_only=True)
    assert difference(network, wrong, [data]).relative > 1e-8
