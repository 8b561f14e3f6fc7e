"""The laws of `Proximal`, for every penalty, every way to group and every optimizer."""

from collections.abc import Iterator
from itertools import groupby

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer

from abscise import attach
from abscise.penalties import L1, GroupLasso, Kind, NofM, Penalty, SparseGroupLasso, TransformedL1
from abscise.sparsify import Filters, Metric, Proximal
from support.penalty_cases import CASES
from support.sparsifier_cases import GROUPINGS, Grouping, Part
from support.sparsifying import OPTIMIZERS, rows_of, same, small_network, state_of, train

# The coverage tracer would double their time; other tests run the same code.
pytestmark = pytest.mark.no_cover

PENALTIES = {str(case.penalty): case.penalty for case in CASES}
ACCURACY = {str(case.penalty): case.accuracy for case in CASES}
OF_EACH_TYPE = {type(each): (name, each) for name, each in PENALTIES.items()}
FITTING = {name: each for name, each in OF_EACH_TYPE.values() if not isinstance(each, NofM)}
STRENGTH = 0.5
ADAPTIVE = ("adam", "amsgrad", "adamw", "fused", "rmsprop", "centred", "adagrad")


def options(grouping: Grouping) -> dict[str, object]:
    return {"groups": grouping.make(), "where": grouping.where}


def by_layer(grouping: Grouping) -> Iterator[list[tuple[Part, ...]]]:
    """Groups of the same parameters."""
    for _, groups in groupby(grouping.members, lambda parts: [part[0] for part in parts]):
        yield list(groups)


def shrunk(
    grouping: Grouping,
    penalty: Penalty,
    weights: dict[str, Tensor],
    steps: dict[str, Tensor] | float,
) -> dict[str, Tensor]:
    """The weights after the map, gathered and put back by plain indexing."""
    after = {name: value.clone() for name, value in weights.items()}
    for groups in by_layer(grouping):
        matrix = torch.stack([torch.cat(rows_of(weights, list(parts))) for parts in groups])
        step: Tensor | float = 0.0
        if isinstance(steps, dict):
            step = torch.stack([torch.cat(rows_of(steps, list(parts))) for parts in groups])
        else:
            step = steps
        for parts, row in zip(groups, penalty.prox(matrix, step), strict=True):
            sizes = [piece.numel() for piece in rows_of(weights, list(parts))]
            for (name, index), piece in zip(parts, row.split(sizes), strict=True):
                after[name][index] = piece.view(after[name][index].shape)
    return after


def one_step(optimizer_name: str, sparsifier: Proximal) -> tuple[dict[str, Tensor], ...]:
    """The weights after two plain steps, and after two with the map behind the second."""
    results = []
    for with_map in (False, True):
        model = small_network()
        optimizer = OPTIMIZERS[optimizer_name](model.parameters())
        train(model, optimizer, 1)
        if with_map:
            _ = attach(sparsifier, optimizer, model)
        train(model, optimizer, 1, first=1)
        results.append(state_of(model))
    return tuple(results)


def assert_near(found: dict[str, Tensor], expected: dict[str, Tensor], accuracy: float) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-12 + accuracy, msg=name)
        assert not bool(torch.signbit(found[name][found[name] == 0]).any()), "-0.0"


@pytest.mark.parametrize("groups", GROUPINGS)
@pytest.mark.parametrize("name", FITTING)
def test_a_step_is_the_plain_step_and_then_the_map(name: str, groups: str) -> None:
    grouping, penalty = GROUPINGS[groups], FITTING[name]
    sparsifier = Proximal(penalty, STRENGTH, **options(grouping))  # type: ignore[arg-type]
    plain, found = one_step("momentum", sparsifier)
    expected = shrunk(grouping, penalty, plain, 0.1 * STRENGTH)
    assert not same(expected, plain)
    assert_near(found, expected, ACCURACY[name])


def divisors(optimizer: Optimizer) -> Iterator[Tensor]:
    """sqrt(v) + eps as the published algorithms have it, from the optimizer's state."""
    group = optimizer.param_groups[0]
    for parameter in group["params"]:
        state = optimizer.state[parameter]
        step = int(state.get("step", 0))
        if "exp_avg_sq" in state:
            second = state.get("max_exp_avg_sq", state["exp_avg_sq"]) / (1 - 0.999**step)
        elif "grad_avg" in state:
            second = state["square_avg"] - state["grad_avg"] ** 2
        else:
            second = state["square_avg"] if "square_avg" in state else state["sum"]
        yield second**0.5 + group["eps"]


METRIC = [name for name, each in FITTING.items() if each.takes_metric]


@pytest.mark.parametrize(
    ("kind", "name", "groups"),
    [
        *[("adam", name, groups) for name in METRIC for groups in GROUPINGS],
        *[(kind, OF_EACH_TYPE[GroupLasso][0], "units") for kind in ADAPTIVE],
        *[(kind, OF_EACH_TYPE[TransformedL1][0], "columns") for kind in ADAPTIVE],
    ],
)
def test_with_an_adaptive_optimizer_the_map_is_taken_in_its_metric(
    kind: str, name: str, groups: str
) -> None:
    grouping, penalty = GROUPINGS[groups], FITTING[name]
    strength = 1e-3
    sparsifier = Proximal(penalty, strength, **options(grouping))  # type: ignore[arg-type]
    plain, found = one_step(kind, sparsifier)
    model = small_network()
    optimizer = OPTIMIZERS[kind](model.parameters())
    train(model, optimizer, 2)
    rate = optimizer.param_groups[0]["lr"] / (1.1 if kind == "adagrad" else 1.0)
    names = [key for key, _ in model.named_parameters()]
    steps = {n: rate * strength / d for n, d in zip(names, divisors(optimizer), strict=True)}
    expected = shrunk(grouping, penalty, plain, steps)
    assert not same(expected, plain)
    for key, value in expected.items():
        slack = 1e-10 + ACCURACY[name]
        torch.testing.assert_close(found[key], value, rtol=1e-7, atol=slack, msg=key)


@pytest.mark.parametrize("groups", GROUPINGS)
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_step_of_strength_zero_is_the_plain_step_bit_for_bit(kind: str, groups: str) -> None:
    for penalty in (L1(), GroupLasso(), SparseGroupLasso()):
        plain, found = one_step(kind, Proximal(penalty, 0.0, **options(GROUPINGS[groups])))  # type: ignore[arg-type]
        assert same(plain, found)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_without_groups_weights_are_shrunk_and_neither_biases_nor_norms(kind: str) -> None:
    for penalty in FITTING.values():
        if penalty.kind is not Kind.ELEMENTWISE:
            continue
        sparsifier = Proximal(penalty, 0.01, metric=Metric.PLAIN)
        plain, found = one_step(kind, sparsifier)
        rate = OPTIMIZERS[kind](small_network().parameters()).param_groups[0]["lr"]
        rate /= 1.1 if kind == "adagrad" else 1.0
        for name, value in plain.items():
            touched = value.ndim >= 2
            expected = penalty.prox(value, rate * 0.01) if touched else value
            torch.testing.assert_close(found[name], expected, rtol=1e-9, atol=1e-12)
            assert torch.equal(found[name], value) != touched


@pytest.mark.parametrize("penalty", [NofM(1, 2), NofM(2, 3)], ids=str)
def test_n_of_m_leaves_n_of_every_m(penalty: NofM) -> None:
    model = small_network()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    with attach(Proximal(penalty, 1.0, groups=Filters()), optimizer, model):
        train(model, optimizer, 2)
    blocks = model.get_parameter("0.weight").reshape(-1, penalty.m)
    assert bool((blocks.ne(0).sum(1) <= penalty.n).all())


def test_what_a_unit_map_groups_never_includes_columns_that_read() -> None:
    """The last layer reads the units of the third, and is pinned: nothing of it moves."""
    for penalty in FITTING.values():
        plain, found = one_step("sgd", Proximal(penalty, 1.0, **options(GROUPINGS["units"])))  # type: ignore[arg-type]
        assert torch.equal(plain["9.weight"], found["9.weight"])
        assert torch.equal(plain["9.bias"], found["9.bias"])
