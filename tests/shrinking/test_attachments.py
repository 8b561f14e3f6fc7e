"""What else is attached to the optimizer goes on, or says why it cannot."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer
from typing_extensions import override

import abscise
from abscise._units import UnitMap
from abscise.implicit import Record, Tracker
from abscise.penalties import L1, GroupLasso
from abscise.sparsify import Proximal, Rows, Sparsifier, Worker
from support.shrinking import CASES, apart, example, kill_, shrinking, train, twin

PLAIN = GroupLasso(by_size=False)  # else a group's strength follows its size, which shrinks
PENALTIES: dict[str, Any] = {
    "units": lambda units: Proximal(PLAIN, 0.1, groups=units, metric="plain"),
    "rows": lambda _: Proximal(PLAIN, 0.05, groups=Rows(), where=("1", "3"), metric="plain"),
    "elements": lambda _: Proximal(L1(), 1e-3),
    "zeros that stay": lambda units: Proximal(
        PLAIN, 0.1, groups=units, metric="plain", regrow=False
    ),
    "a budget": lambda units: Proximal(
        GroupLasso(), 0.02, groups=units, metric="plain", target_sparsity=0.8, target_by=30
    ),
}


def courses(kind: str, *, unread: bool) -> tuple[list[float], list[float]]:
    """Losses with and without removal; `unread`: what reads the dead units is 0 as well."""
    results = []
    for attached in (True, False):
        model = CASES["mlp"].build()
        if unread:
            with torch.no_grad():
                model.get_parameter("3.weight")[:, [0, 3, 7]] = 0.0
                model.get_parameter("5.weight")[:, 2] = 0.0
        optimizer = SGD(model.parameters(), 0.1, momentum=0.5)
        sparsifier = PENALTIES[kind](abscise.find_units(model, example()))
        first = abscise.attach(sparsifier, optimizer, model)
        looks = [shrinking(model, optimizer, every=3)] if attached else []
        results.append(train(model, optimizer, 16))
        for look in looks:
            assert sum(it.removed for it in look.worker.shrinks) >= CASES["mlp"].removed
        assert first.worker.step == 16
        first.load_state_dict(first.state_dict())
    return results[0], results[1]


@pytest.mark.parametrize("kind", PENALTIES)
def test_a_proximal_method_goes_on_as_if_nothing_had_gone(kind: str) -> None:
    assert apart(*courses(kind, unread=True)) < (1e-9 if kind != "a budget" else 1e-2)


def test_a_penalty_of_rows_misses_the_weights_that_read_the_dead_units() -> None:
    assert apart(*courses("elements", unread=False)) < 1e-9
    assert 1e-6 < apart(*courses("units", unread=False)) < 1e-2


def test_units_that_a_proximal_method_kills_go_once_snapped() -> None:
    model = CASES["conv-bn"].build()
    optimizer = Adam(model.parameters(), 0.01)
    units = abscise.find_units(model, example())
    _ = abscise.attach(Proximal(GroupLasso(), 2.0, groups=units, metric="plain"), optimizer, model)
    attachment = shrinking(model, optimizer, every=2, patience=2, snap=1e-6)
    _ = train(model, optimizer, 30)
    shrinks = attachment.worker.shrinks
    assert sum(it.removed for it in shrinks) > CASES["conv-bn"].removed
    assert sum(it.snapped for it in shrinks) > 0
    assert max(it.moved for it in shrinks) < 1e-3
    assert model(example()).shape == (8, 3)


def test_a_tracker_goes_on_with_the_units_that_are_left() -> None:
    model = CASES["conv-bn"].build()
    optimizer = Adam(model.parameters(), 0.01)
    records: list[Record] = []

    def note(record: Any) -> None:
        records.append(record)

    with Tracker(model, example(), optimizer, every=1, sinks=[note]) as tracker:
        _ = shrinking(model, optimizer, every=2)
        _ = train(model, optimizer, 4)
        state = tracker.state_dict()
        tracker.load_state_dict(state)
    counts = [{it.layer: (it.units, it.dead[1e-3]) for it in record.layers} for record in records]
    assert counts[0]["1"] == (6, 2)
    assert counts[-1]["1"] == (4, 0)
    assert counts[-1]["5"] == (3, 0)
    assert all(it.revived == 0 for record in records for it in record.layers)


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one = nn.Linear(72, 8), nn.Linear(8, 8)
        self.two, self.classes = nn.Linear(8, 8), nn.Linear(8, 3)
        self.two.weight, self.two.bias = self.one.weight, self.one.bias

    @override
    def forward(self, images: Tensor) -> Tensor:
        features = torch.relu(self.stem(images.flatten(1)))
        return self.classes(torch.relu(self.two(torch.relu(self.one(features)))))


def test_a_tracker_goes_on_with_layers_that_share_a_weight() -> None:
    model = Tied().double()
    kill_(
        model,
        [(f"{layer}.{leaf}", (1, 3)) for layer in ("stem", "one") for leaf in ("weight", "bias")],
    )
    optimizer = Adam(model.parameters(), 0.01)
    dense, other = twin(model, optimizer)
    records: list[Any] = []
    with Tracker(model, example(), optimizer, every=1, sinks=[records.append]):
        _ = shrinking(model, optimizer, every=2)
        losses = train(model, optimizer, 4)
    assert apart(losses, train(dense, other, 4)) < 1e-9
    counts = [[(it.units, it.dead[1e-3], it.revived) for it in one.layers] for one in records]
    assert counts == [[(8, 2, 0)] * 3] * 2 + [[(6, 0, 0)] * 3] * 2


class Stubborn(Sparsifier[Worker]):
    """Holds on to shapes."""

    class _Worker(Worker):
        @override
        def after_step(self, optimizer: Optimizer) -> None:
            del optimizer

        @override
        def state_dict(self) -> dict[str, Any]:
            return {}

        @override
        def load_state_dict(self, state: Mapping[str, Any]) -> None:
            del state

    @override
    def bind(self, optimizer: Optimizer, model: nn.Module) -> Worker:
        del optimizer, model
        return self._Worker()


def test_an_attachment_that_cannot_follow_says_so_and_nothing_has_gone() -> None:
    model = CASES["mlp"].build()
    optimizer = SGD(model.parameters(), 0.1)
    units = abscise.find_units(model, example())
    first = abscise.attach(Proximal(GroupLasso(), 1e-3, groups=units), optimizer, model)
    worker = first.worker
    second = abscise.attach(Stubborn(), optimizer, model)
    attachment = shrinking(model, optimizer)
    with pytest.raises(ValueError, match="Stubborn cannot follow units that are removed"):
        _ = train(model, optimizer, 1)
    assert first.worker is worker
    assert model.get_parameter("1.weight").shape == (12, 72)
    second.detach()
    _ = train(model, optimizer, 1)
    assert first.worker is not worker
    assert model.get_parameter("1.weight").shape == (9, 72)
    assert len(attachment.worker.shrinks) == 1


def test_an_attachment_that_cannot_follow_is_refused_before_the_first_step() -> None:
    model = CASES["mlp"].build()
    optimizer = SGD(model.parameters(), 0.1)
    _ = abscise.attach(abscise.ShrinkWhileTraining(example(), every=1000), optimizer, model)
    stubborn = abscise.attach(Stubborn(), optimizer, model)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    with pytest.raises(ValueError, match="Stubborn cannot follow units that are removed"):
        _ = train(model, optimizer, 1)
    assert all(map(torch.equal, before, model.parameters()))
    stubborn.detach()
    _ = train(model, optimizer, 1)
    assert not all(map(torch.equal, before, model.parameters()))


def test_the_unit_map_without_some_units_is_that_of_the_smaller_network() -> None:
    model = CASES["residual"].build()
    units = abscise.find_units(model, example())
    plan = abscise.propose(model, example())
    rest = units.without({(edit.name, edit.axis): edit.removed for edit in plan.edits})
    small = abscise.find_units(abscise.apply(plan, model), example())

    def sizes(of: UnitMap) -> dict[Any, int]:
        found: dict[Any, int] = {axis: len(ids) for axis, ids in of.axes.items()}
        return found | {layer: len(ids) for layer, ids in of.layers.items()}

    def partition(of: UnitMap) -> set[frozenset[tuple[Any, int]]]:
        places: dict[int, set[tuple[Any, int]]] = {}
        for axis, ids in of.axes.items():
            for place, unit in enumerate(ids.tolist()):
                places.setdefault(unit, set()).add((axis, place))
        return {frozenset(found) for found in places.values()}

    assert sizes(rest) == sizes(small) != sizes(units)
    assert partition(rest) == partition(small)


def real_run(snap: float) -> tuple[int, Tensor]:
    """Units that Adam with L2 killed and that went, and the outputs at the end."""
    with torch.random.fork_rng():
        _ = torch.manual_seed(0)
        model = nn.Sequential(
            nn.Flatten(), nn.Linear(72, 64), nn.ReLU(), nn.Linear(64, 3)
        ).double()  # fmt: skip
    optimizer = Adam(model.parameters(), 0.002, betas=(0.9, 0.95), weight_decay=0.03)
    attachment = shrinking(model, optimizer, every=25, snap=snap)
    for _ in range(400):
        _ = train(model, optimizer, 1)  # always the same batch
    return sum(it.removed for it in attachment.worker.shrinks), model(example()).detach()


def test_what_adam_with_l2_kills_goes_once_snapped_and_never_without() -> None:
    count, small = real_run(1e-3)
    assert count > 16
    none, dense = real_run(0.0)
    assert none == 0
    assert float((small - dense).abs().max()) < 0.1 * float(dense.abs().max())
