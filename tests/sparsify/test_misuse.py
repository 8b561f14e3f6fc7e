"""What goes wrong in loops: refused in one line before the step, and nothing has changed."""

import copy
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam, Optimizer

from abscise import attach
from abscise.penalties import L1, GroupLasso, Penalty, TransformedL1
from abscise.sparsify import Columns, Constant, Proximal, Rows
from support.sparsifier_cases import unit_map
from support.sparsifying import batch, same, small_network, state_of, train


def poison(model: nn.Module, value: float) -> None:
    """One number of one gradient becomes `value`."""
    inputs, labels = batch()
    cross_entropy(model(inputs), labels).backward()
    gradient = model.get_parameter("3.weight").grad
    assert gradient is not None
    gradient[1, 0, 0, 0] = value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    "sparsifier",
    [
        Proximal(L1(), 0.1),
        Proximal(L1(), 0.1, target_sparsity=0.5, target_by=10),
        Proximal(GroupLasso(), 0.1, groups=Rows(), where=("3", "7")),
    ],
)
def test_a_gradient_that_is_not_finite_is_refused_and_nothing_has_changed(
    sparsifier: Proximal, value: float
) -> None:
    if sparsifier.groups is not None:
        sparsifier = Proximal(GroupLasso(), 0.1, groups=unit_map())
    for make in (lambda w: SGD(w, 0.1, momentum=0.9), lambda w: Adam(w, 0.01)):
        model = small_network()
        optimizer: Optimizer = make(model.parameters())
        attachment = attach(sparsifier, optimizer, model)
        train(model, optimizer, 2)
        optimizer.zero_grad()
        poison(model, value)
        before = state_of(model), copy.deepcopy(optimizer.state_dict()), attachment.state_dict()
        with pytest.raises(ValueError, match=r"^the gradient of 3\.weight is NaN or infinite"):
            optimizer.step()
        assert same(state_of(model), before[0])
        assert str(optimizer.state_dict()) == str(before[1])
        assert attachment.state_dict() == before[2]
        optimizer.zero_grad()
        train(model, optimizer, 1)
        assert attachment.worker.step == 3
        assert not same(state_of(model), before[0])


def test_gradients_that_nobody_checks_do_what_the_optimizer_does_with_them() -> None:
    model = small_network()
    optimizer = SGD(model.parameters(), 0.1)
    _ = attach(Proximal(L1(), 0.1, check_gradients=False), optimizer, model)
    poison(model, float("nan"))
    optimizer.step()
    assert int(model.get_parameter("3.weight").isnan().sum()) == 1


def test_large_gradients_whose_norm_overflows_are_no_mistake() -> None:
    model = small_network().float()
    optimizer = SGD(model.parameters(), 1e-38)
    attachment = attach(Proximal(L1(), 0.1), optimizer, model)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 1e38)
    optimizer.step()
    assert attachment.worker.step == 1


def test_gradients_of_the_last_step_do_not_stop_a_closure() -> None:
    model = small_network()
    optimizer = SGD(model.parameters(), 0.1)
    attachment = attach(Proximal(L1(), 0.1), optimizer, model)
    poison(model, float("nan"))

    def closure() -> float:
        optimizer.zero_grad()
        inputs, labels = batch()
        loss = cross_entropy(model(inputs), labels)
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) > 0
    poison(model, float("nan"))
    assert optimizer.step(closure=closure) > 0
    assert attachment.worker.step == 2


def test_gradients_of_embeddings_that_are_sparse_are_looked_at() -> None:
    model = nn.Sequential(nn.Embedding(9, 4, sparse=True))
    optimizer = SGD(model.parameters(), 0.1)
    attachment = attach(Proximal(GroupLasso(), 0.1, groups=Rows()), optimizer, model)
    for factor in (1.0, float("nan")):
        optimizer.zero_grad()
        (model(torch.tensor([1, 2])).sum() * factor).backward()
        if factor == 1.0:
            optimizer.step()
    with pytest.raises(ValueError, match=r"the gradient of 0\.weight is NaN"):
        optimizer.step()
    assert attachment.worker.step == 1


Change = Callable[[nn.Sequential, Optimizer], object]

CHANGES: dict[str, tuple[Change, str]] = {
    "more parameters": (
        lambda _, o: o.add_param_group({"params": [nn.Parameter(torch.ones(3))]}),
        "held 11 parameters when the sparsifier was attached, and holds 12 now: detach, and",
    ),
    "fewer parameters": (lambda _, o: o.param_groups[0]["params"].pop(), "and holds 10 now"),
    "a negative rate": (
        lambda _, o: o.param_groups[0].update(lr=-0.1),
        "the learning rate must be >= 0 and finite, got -0.1",
    ),
    "a rate that is NaN": (
        lambda _, o: o.param_groups[0].update(lr=float("nan")),
        "the learning rate must be >= 0 and finite, got nan",
    ),
    "another dtype": (
        lambda m, _: m.to(torch.bfloat16),
        r"0\.weight is torch\.bfloat16, cpu, and was torch\.float64, cpu when the sparsifier was",
    ),
    "a frozen norm": (
        lambda m, _: m[1].requires_grad_(requires_grad=False),
        r"1\.weight, 1\.bias: frozen since the sparsifier was attached, but of the same groups",
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_changes_beneath_a_sparsifier_is_refused_before_the_step(case: str) -> None:
    change, text = CHANGES[case]
    model = small_network()
    optimizer = SGD(model.parameters(), 0.1)
    attachment = attach(Proximal(GroupLasso(), 0.1, groups=unit_map()), optimizer, model)
    train(model, optimizer, 1)
    _ = change(model, optimizer)
    before = state_of(model)
    with pytest.raises(ValueError, match=text) as refused:
        optimizer.step()
    assert "\n" not in str(refused.value)
    assert same(state_of(model), before)
    assert attachment.worker.step == 1


def test_a_layer_frozen_as_a_whole_rests_and_the_others_go_on() -> None:
    model = small_network()
    optimizer = SGD(model.parameters(), 0.1)
    attachment = attach(Proximal(GroupLasso(), 0.1, groups=unit_map()), optimizer, model)
    train(model, optimizer, 1)
    _ = model[:2].requires_grad_(requires_grad=False)
    before = state_of(model)
    train(model, optimizer, 1)
    after = state_of(model)
    rests = {
        name for name in dict(model.named_parameters()) if torch.equal(before[name], after[name])
    }
    assert rests == {"0.weight", "1.weight", "1.bias"}
    assert attachment.worker.step == 2


def test_rates_that_no_map_fits_are_refused_before_the_optimizer_moves() -> None:
    model = small_network()
    optimizer = SGD([{"params": [p]} for p in model.parameters()], 0.1)
    _ = attach(Proximal(L1(), lambda step: 1.0 if step < 3 else -1.0), optimizer, model)
    train(model, optimizer, 2)
    before = state_of(model)
    with pytest.raises(ValueError, match=r"step 3: strength must be >= 0 and finite, got -1\.0"):
        train_without_zeroing(model, optimizer)
    assert same(state_of(model) | {name: before[name] for name in buffers(model)}, before)


def buffers(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_buffers()]


def train_without_zeroing(model: nn.Module, optimizer: Optimizer) -> None:
    inputs, labels = batch()
    cross_entropy(model(inputs), labels).backward()
    optimizer.step()


def held(penalty: Penalty, **options: Any) -> Proximal:
    return Proximal(penalty, 0.1, groups=Rows(), regrow=False, **options)


OTHERS: dict[str, Proximal] = {
    "another penalty": held(GroupLasso()),
    "another parameter of it": held(TransformedL1(2.0)),
    "other layers": held(TransformedL1(1.0), exclude=("7",)),
    "other groups": Proximal(TransformedL1(1.0), 0.1, groups=Columns(), regrow=False),
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_state_is_not_taken_up_by_another_sparsifier(case: str) -> None:
    model = small_network()
    optimizer = SGD(model.parameters(), 0.1)
    with attach(held(TransformedL1(1.0)), optimizer, model) as attachment:
        train(model, optimizer, 2)
        state = attachment.state_dict()
    other = attach(OTHERS[case], optimizer, model)
    before = other.state_dict()
    with pytest.raises(ValueError, match=r"^state_dict: it belongs to another sparsifier"):
        other.load_state_dict(state)
    assert other.state_dict() == before
    other.detach()
    again = attach(held(TransformedL1(1.0)), optimizer, model)
    again.load_state_dict(state)
    assert again.worker.step == 2


@pytest.mark.parametrize("value", [True, "0.1", None, [0.1]])
def test_a_strength_that_is_no_number_is_refused(value: Any) -> None:
    for make in (lambda one: Proximal(L1(), one), Constant):
        with pytest.raises(TypeError, match="strength must be a number, got"):
            _ = make(value)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_of_model_and_optimizer_trains_without_the_sparsifier(
    clone: Callable[[Any], Any],
) -> None:
    model, plain = small_network(), small_network()
    optimizer, other = SGD(model.parameters(), 0.1), SGD(plain.parameters(), 0.1)
    attachment = attach(Proximal(L1(), 0.1), optimizer, model)
    own, its = clone((model, optimizer))
    train(own, its, 2)
    train(plain, other, 2)
    assert same(state_of(own), state_of(plain))
    assert attachment.worker.step == 0
    train(model, optimizer, 2)
    assert attachment.worker.step == 2
    assert not same(state_of(model), state_of(plain))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"heal_at": 1.5}, "heal_at must be a whole number of steps, got 1.5"),
        ({"heal_at": True}, "heal_at must be a whole number of steps, got True"),
        ({"target_sparsity": 0.5, "target_by": 2.5}, "target_by must be a whole number of steps"),
        ({"target_sparsity": "0.5", "target_by": 9}, "target_sparsity must be a number, got '0.5'"),
    ],
)
def test_an_option_of_another_kind_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(TypeError, match=text):
        _ = Proximal(L1(), 0.1, **options)


def test_healing_from_step_0_shrinks_nothing_and_holds_the_zeros_there_are() -> None:
    model, plain = small_network(), small_network()
    for network in (model, plain):
        with torch.no_grad():
            _ = network.get_parameter("7.weight")[:3].zero_()
    optimizer = SGD(model.parameters(), 0.1)
    attachment = attach(Proximal(L1(), 0.5, heal_at=0), optimizer, model)
    train(model, optimizer, 3)
    assert attachment.worker.healing
    assert not model.get_parameter("7.weight")[:3].any()
    train(plain, SGD(plain.parameters(), 0.1), 3)
    assert plain.get_parameter("7.weight")[:3].any()
    assert int((model.get_parameter("0.weight") == 0).sum()) == 0


def test_an_optimizer_without_a_learning_rate_is_refused() -> None:
    class Rateless(Optimizer):
        pass

    model = small_network()
    optimizer = Rateless(model.parameters(), {})
    with pytest.raises(ValueError, match="Rateless has no learning rate"):
        _ = attach(Proximal(L1(), 0.1), optimizer, model)


def stepped(optimizer: Optimizer) -> None:
    optimizer.step()


@pytest.mark.filterwarnings("ignore")  # torch's own, about what it does not trace
def test_a_compiled_step_does_what_the_plain_one_does() -> None:
    model, plain = small_network(), small_network()
    optimizer, other = SGD(model.parameters(), 0.1), SGD(plain.parameters(), 0.1)
    attachment = attach(Proximal(L1(), 0.3), optimizer, model)
    _ = attach(Proximal(L1(), 0.3), other, plain)
    compiled = torch.compile(partial(stepped, optimizer), backend="eager")
    for network, step in ((model, compiled), (plain, other.step)):
        for seed in range(2):
            network.zero_grad()
            inputs, labels = batch(seed)
            cross_entropy(network(inputs), labels).backward()
            _ = step()
    assert attachment.worker.step == 2
    assert same(state_of(model), state_of(plain))


def test_detached_in_the_middle_nothing_is_held_any_more() -> None:
    model = small_network()
    optimizer = SGD(model.parameters(), 0.1)
    attachment = attach(Proximal(L1(), 0.5, regrow=False), optimizer, model)
    train(model, optimizer, 5)
    zeros = {name: p.detach() == 0 for name, p in model.named_parameters() if p.ndim > 1}
    assert sum(int(zero.sum()) for zero in zeros.values()) > 20
    attachment.detach()
    train(model, optimizer, 5, 5)
    assert any(bool(model.get_parameter(name)[zero].any()) for name, zero in zeros.items())
