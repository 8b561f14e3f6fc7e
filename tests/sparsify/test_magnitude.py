"""Magnitude: the course of the share, which weights go, and that none comes back."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam

import abscise
from abscise import attach
from abscise.sparsify import Attachment, Filters, Magnitude, MagnitudeWorker, Rows, Scope
from support.sparsifier_cases import unit_map
from support.sparsifying import OPTIMIZERS, same, small_network, state_of, train

NAMES = ("0.weight", "3.weight", "7.weight", "9.weight")
KINDS: dict[str, dict[str, Any]] = {
    "layer": {},
    "global": {"scope": "global"},
    "rows": {"groups": Rows()},
    "units": {"groups": unit_map(), "scope": Scope.GLOBAL},
}


def attached(
    optimizer: str = "momentum", **options: Any
) -> tuple[nn.Sequential, Attachment[MagnitudeWorker], Any]:
    model = small_network()
    made = OPTIMIZERS[optimizer](model.parameters())
    return model, attach(Magnitude(**options), made, model), made


def zeros(model: nn.Module) -> dict[str, Tensor]:
    return {name: value == 0 for name, value in state_of(model).items() if name in NAMES}


@pytest.mark.parametrize("target", [0.0, 0.37, 0.9, 0.999])
def test_at_the_end_of_the_course_the_share_of_each_layer_is_met_to_one_weight(
    target: float,
) -> None:
    model, attachment, optimizer = attached(target_sparsity=target, steps=7, every=3)
    train(model, optimizer, 7)
    for mask in zeros(model).values():
        wanted = min(round(target * mask.numel()), mask.numel() - 1)
        assert int(mask.sum()) == wanted
    train(model, optimizer, 3, 7)
    held = sum(int(mask.sum()) for mask in zeros(model).values())
    assert attachment.worker.sparsity == held / sum(m.numel() for m in zeros(model).values())


def test_between_start_and_end_the_share_follows_the_cubic_course() -> None:
    model, attachment, optimizer = attached(target_sparsity=0.8, steps=10, after=2, every=4)
    seen = []
    for step in range(14):
        train(model, optimizer, 1, step)
        seen.append(attachment.worker.sparsity)
    total = sum(mask.numel() for mask in zeros(model).values())
    expected = [0.0] * 14
    for due, until in ((6, 10), (10, 12), (12, 15)):
        share = 0.8 * (1 - (1 - (due - 2) / 10) ** 3)
        expected[due - 1 : until - 1] = [share] * (until - due)
    assert seen == pytest.approx(expected, abs=2 / total)  # half a weight in each of four layers
    linear = [0.0] * 5 + [0.8 * 4 / 10] * 4 + [0.8 * 8 / 10] * 2 + [0.8] * 3
    assert seen != pytest.approx(linear, abs=2 / total)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "fused"])
def test_what_became_zero_never_comes_back(kind: str, optimizer: str) -> None:
    model, attachment, its = attached(
        optimizer, target_sparsity=0.6, steps=6, every=1, **KINDS[kind]
    )
    before = zeros(model)
    for step in range(9):
        train(model, its, 1, step)
        now = zeros(model)
        assert all(bool(now[name][mask].all()) for name, mask in before.items())
        before = now
    assert attachment.worker.sparsity == pytest.approx(0.6, abs=0.03)


def test_without_the_worker_what_was_zero_comes_back() -> None:
    model, attachment, optimizer = attached(target_sparsity=0.6, steps=1)
    train(model, optimizer, 1)
    before = zeros(model)
    attachment.detach()
    train(model, optimizer, 1, 1)
    after = zeros(model)
    assert not all(bool(after[name][mask].all()) for name, mask in before.items())


def plain_step(seed: int = 0) -> dict[str, Tensor]:
    model = small_network()
    train(model, SGD(model.parameters(), 0.1), 1, seed)
    return {name: state_of(model)[name] for name in NAMES}


def test_the_smallest_of_each_layer_go_or_the_smallest_of_all() -> None:
    weights = plain_step()
    for scope in Scope:
        model, _, optimizer = attached("sgd", target_sparsity=0.5, steps=1, scope=scope)
        train(model, optimizer, 1)
        every = torch.cat([value.abs().flatten() for value in weights.values()])
        for name, mask in zeros(model).items():
            own = weights[name].abs()
            pool = own.flatten() if scope is Scope.LAYER else every
            limit = pool.sort().values[round(0.5 * len(pool)) - 1]
            assert torch.equal(mask, own <= limit), (scope, name)
            assert torch.equal(state_of(model)[name][~mask], weights[name][~mask])


def test_whole_groups_go_by_the_root_mean_square_of_their_weights() -> None:
    weights = plain_step()
    model, attachment, optimizer = attached(
        "sgd", target_sparsity=0.3, steps=1, groups=Filters(), scope="global"
    )
    train(model, optimizer, 1)
    sizes = [weights[name].flatten(1).square().mean(1).sqrt() for name in NAMES[:2]]
    limit = torch.cat(sizes).sort().values[2]  # three of ten filters
    for name, size in zip(NAMES[:2], sizes, strict=True):
        assert torch.equal(zeros(model)[name].flatten(1).all(1), size <= limit)
        assert torch.equal(zeros(model)[name].flatten(1).any(1), size <= limit)
    assert attachment.worker.sparsity == 0.3
    by_norm = [weights[name].flatten(1).norm(dim=1) for name in NAMES[:2]]
    other = torch.cat(by_norm) <= torch.cat(by_norm).sort().values[2]
    assert not torch.equal(other, torch.cat(sizes) <= limit), "the twin: another rule differs here"


def test_a_dead_unit_is_zero_in_all_that_writes_it_and_can_be_removed() -> None:
    model, _, optimizer = attached("adam", target_sparsity=0.5, steps=4, every=2, groups=unit_map())
    train(model, optimizer, 6)
    dead = state_of(model)["0.weight"].flatten(1).eq(0).all(1)
    assert int(dead.sum()) == 3
    for name in ("1.weight", "1.bias"):
        assert torch.equal(state_of(model)[name] == 0, dead)
    inputs = torch.randn(3, 2, 6, 6, dtype=torch.float64)
    plan = abscise.propose(model.eval(), inputs)
    assert plan.removed_units == 3 + 2 + 6


def test_equal_weights_go_in_their_order_and_exactly_as_many_as_wanted() -> None:
    model = nn.Linear(10, 2, bias=False)
    torch.nn.init.ones_(model.weight)
    optimizer = SGD(model.parameters(), 0.0)
    with attach(Magnitude(0.35, steps=1), optimizer, model):
        model(torch.ones(1, 10)).sum().backward()
        optimizer.step()
    assert model.weight.detach().flatten().tolist() == [0.0] * 7 + [1.0] * 13


def test_weights_that_are_nan_are_refused_by_name_before_anything_is_changed() -> None:
    model, attachment, optimizer = attached(target_sparsity=0.5, steps=2, every=1)
    train(model, optimizer, 1)
    with torch.no_grad():
        weight = model.get_parameter("7.weight")
        weight[tuple(weight.nonzero()[0])] = float("nan")
    before, masks = zeros(model), attachment.state_dict()["masks"]
    with pytest.raises(ValueError, match=r"^Magnitude: 7\.weight: .* some are NaN$"):
        optimizer.step()
    assert same(zeros(model), before)
    assert same(attachment.state_dict()["masks"], masks)


REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "all": ({"target_sparsity": 1.0}, ValueError, r"target_sparsity must be in \[0, 1\), got 1\.0"),
    "negative": ({"target_sparsity": -0.1}, ValueError, r"in \[0, 1\), got -0\.1"),
    "nan": ({"target_sparsity": float("nan")}, ValueError, r"in \[0, 1\), got nan"),
    "steps": ({"steps": 0}, ValueError, "steps must be >= 1, got 0"),
    "after": ({"after": -1}, ValueError, "after must be >= 0, got -1"),
    "every": ({"every": 0}, ValueError, "every must be >= 1, got 0"),
    "scope": ({"scope": "all"}, ValueError, "scope must be one of layer, global, got 'all'"),
    "groups": ({"groups": Rows}, TypeError, "groups must be a UnitMap, Rows"),
    "where": ({"where": "7"}, TypeError, "where must be a tuple of name patterns, got '7'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_impossible_option_is_refused_in_one_line(case: str) -> None:
    options, kind, text = REFUSED[case]
    with pytest.raises(kind, match=f"^Magnitude: .*{text}") as refused:
        _ = Magnitude(**{"target_sparsity": 0.5, "steps": 9, **options})
    assert "\n" not in str(refused.value)


def test_parameters_that_the_optimizer_does_not_train_are_left() -> None:
    model = small_network()
    _ = model[0].requires_grad_(requires_grad=False)
    optimizer = Adam([p for name, p in model.named_parameters() if name != "3.weight"], 0.01)
    attachment = attach(Magnitude(0.5, steps=1), optimizer, model)
    assert [bunch.names for bunch in attachment.worker.bunches] == ["7.weight", "9.weight"]
    with pytest.raises(ValueError, match=r"^Magnitude: no parameter to act on"):
        _ = attach(Magnitude(0.5, steps=1, where=("3",)), optimizer, model)
    with pytest.raises(ValueError, match="where: 'none' matches no parameter of the model"):
        _ = attach(Magnitude(0.5, steps=1, where=("none",)), optimizer, model)


def test_tied_weights_are_counted_once() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    model[1].weight = model[0].weight
    optimizer = SGD(model.parameters(), 0.1)
    with attach(Magnitude(0.5, steps=1), optimizer, model) as attachment:
        model(torch.ones(1, 6)).sum().backward()
        optimizer.step()
        assert [bunch.names for bunch in attachment.worker.bunches] == ["0.weight"]
    assert int(model.get_parameter("0.weight").count_nonzero()) == 18
