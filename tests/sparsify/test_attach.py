"""What `attach` promises about steps, hooks, scalers, and everything that belongs to the user."""

from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import LBFGS, SGD, Adam, Optimizer
from torch.optim.lr_scheduler import StepLR
from typing_extensions import override

from abscise import attach
from abscise.penalties import L1, GroupLasso, GroupTransformedL1
from abscise.sparsify import Filters, Proximal, Rows, Sparsifier, Worker
from support.sparsifier_cases import unit_map
from support.sparsifying import batch, same, small_network, state_of, train


def hooks_of(optimizer: Optimizer) -> tuple[int, int]:
    return (len(optimizer._optimizer_step_pre_hooks), len(optimizer._optimizer_step_post_hooks))


def test_after_detach_nothing_is_left() -> None:
    model = small_network()
    optimizer = Adam(model.parameters(), 0.01)
    calls = []
    _ = optimizer.register_step_post_hook(lambda *_: calls.append(1))
    before, attributes = hooks_of(optimizer), set(vars(optimizer))
    with attach(Proximal(L1(), 0.1), optimizer, model) as attachment:
        assert attachment.attached
        assert hooks_of(optimizer) == (before[0] + 1, before[1] + 1)
    assert attachment._handles == []
    attachment.detach()
    assert hooks_of(optimizer) == before
    assert set(vars(optimizer)) == attributes
    plain = small_network()
    train(plain, Adam(plain.parameters(), 0.01), 3)
    train(model, optimizer, 3)
    assert same(state_of(model), state_of(plain))
    assert calls == [1, 1, 1]


def test_an_exception_in_the_block_detaches() -> None:
    model = small_network()
    optimizer = SGD(model.parameters(), 0.1)
    with pytest.raises(KeyError), attach(Proximal(L1(), 0.1), optimizer, model):
        raise KeyError
    assert hooks_of(optimizer) == (0, 0)


def test_attaching_and_acting_draws_no_random_numbers() -> None:
    model = small_network()
    optimizer = SGD(model.parameters(), 0.1)
    before = torch.get_rng_state()
    with attach(Proximal(GroupLasso(), 0.1, groups=unit_map()), optimizer, model):
        train(model, optimizer, 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_attaching_changes_no_weight() -> None:
    model = small_network()
    before = state_of(model)
    _ = attach(Proximal(L1(), 10.0), SGD(model.parameters(), 0.1), model)
    assert same(state_of(model), before)


def test_the_same_sparsifier_is_not_attached_twice_to_one_optimizer() -> None:
    model = small_network()
    optimizer, other = SGD(model.parameters(), 0.1), SGD(model.parameters(), 0.1)
    sparsifier = Proximal(L1(), 0.1)
    attachment = attach(sparsifier, optimizer, model)
    with pytest.raises(ValueError, match="already attached to this optimizer: call detach"):
        _ = attach(sparsifier, optimizer, model)
    assert attach(sparsifier, other, model).attached
    attachment.detach()
    assert attach(sparsifier, optimizer, model).attached


def test_two_sparsifiers_act_one_after_the_other() -> None:
    model, plain = small_network(), small_network()
    optimizer = SGD(model.parameters(), 0.1)
    _ = attach(Proximal(L1(), 0.3), optimizer, model)
    _ = attach(Proximal(GroupLasso(), 0.2, groups=Rows()), optimizer, model)
    train(plain, SGD(plain.parameters(), 0.1), 1)
    train(model, optimizer, 1)
    expected = GroupLasso().prox(L1().prox(plain.get_parameter("7.weight"), 0.03), 0.02)
    torch.testing.assert_close(model.get_parameter("7.weight").detach(), expected)


def test_it_acts_once_per_step_however_many_batches_were_accumulated() -> None:
    model, plain = small_network(), small_network()
    optimizer = SGD(model.parameters(), 0.1)
    attachment = attach(Proximal(L1(), 0.3), optimizer, model)
    for network, its in ((model, optimizer), (plain, SGD(plain.parameters(), 0.1))):
        for seed in range(3):
            inputs, labels = batch(seed)
            cross_entropy(network(inputs), labels).backward()
        its.step()
    assert attachment.worker.step == 1
    assert torch.equal(
        model.get_parameter("0.weight"), L1().prox(plain.get_parameter("0.weight"), 0.03)
    )


def test_a_closure_is_called_before_the_map() -> None:
    model, plain = small_network(), small_network()
    optimizer, other = SGD(model.parameters(), 0.1), SGD(plain.parameters(), 0.1)
    _ = attach(Proximal(L1(), 0.3), optimizer, model)

    def closure() -> float:
        optimizer.zero_grad()
        inputs, labels = batch()
        loss = cross_entropy(model(inputs), labels)
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) > 0
    train(plain, other, 1)
    assert torch.equal(
        model.get_parameter("0.weight"), L1().prox(plain.get_parameter("0.weight"), 0.03)
    )


def test_each_param_group_and_each_moment_has_its_learning_rate() -> None:
    model, plain = small_network(), small_network()

    def made(network: nn.Module) -> tuple[SGD, StepLR]:
        rates: list[dict[str, Any]] = [
            {"params": network.get_submodule("0").parameters(), "lr": 0.4}
        ]
        rest = [p for name, p in network.named_parameters() if not name.startswith("0.")]
        optimizer = SGD([*rates, {"params": rest}], 0.1)
        return optimizer, StepLR(optimizer, 1, gamma=0.5)

    optimizer, schedule = made(model)
    other, its_schedule = made(plain)
    _ = attach(Proximal(L1(), lambda step: 0.3 * (step == 3)), optimizer, model)
    for step in range(3):
        train(model, optimizer, 1, step)
        train(plain, other, 1, step)
        if step < 2:
            schedule.step()
            its_schedule.step()
    for name, rate in (("0.weight", 0.1), ("7.weight", 0.025)):
        expected = L1().prox(plain.get_parameter(name), rate * 0.3)
        assert torch.equal(model.get_parameter(name), expected)


def split_rates(model: nn.Module) -> SGD:
    """The scales of norms learn faster than the rest."""
    fast = [p for name, p in model.named_parameters() if name == "1.weight"]
    slow = [p for name, p in model.named_parameters() if name != "1.weight"]
    groups: list[dict[str, Any]] = [{"params": fast, "lr": 0.2}, {"params": slow}]
    return SGD(groups, 0.1)


def test_several_learning_rates_within_a_unit_are_a_metric() -> None:
    model, plain = small_network(), small_network()
    optimizer = split_rates(model)
    _ = attach(Proximal(GroupLasso(), 0.3, groups=unit_map()), optimizer, model)
    train(model, optimizer, 1)
    train(plain, split_rates(plain), 1)
    names = ("0.weight", "1.weight", "1.bias")
    matrix = torch.cat([plain.get_parameter(name).reshape(6, -1) for name in names], 1)
    steps = torch.full_like(matrix, 0.03)
    steps[:, 18] = 0.06
    found = torch.cat([model.get_parameter(name).reshape(6, -1) for name in names], 1)
    torch.testing.assert_close(found.detach(), GroupLasso().prox(matrix, steps))


def test_several_learning_rates_within_a_unit_are_refused_where_there_is_no_exact_map() -> None:
    model = small_network()
    sparsifier = Proximal(GroupTransformedL1(), 0.3, groups=unit_map())
    with pytest.raises(ValueError, match=r"0\.1 of 0\.weight, 0\.2 of 1\.weight, .* no exact map"):
        _ = attach(sparsifier, split_rates(model), model)
    optimizer = SGD([{"params": [p]} for p in model.parameters()], 0.1)
    attachment = attach(sparsifier, optimizer, model)
    train(model, optimizer, 1)
    optimizer.param_groups[1]["lr"] = 0.2
    with pytest.raises(ValueError, match="put them in one param group"):
        train(model, optimizer, 1)
    assert attachment.worker.step == 1


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_the_scaler_skips_changes_nothing(fused: bool) -> None:
    model = small_network().float()
    optimizer = Adam(model.parameters(), 0.01, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    attachment = attach(Proximal(L1(), 0.1), optimizer, model)
    seen = []
    for poisoned in (False, True, False):
        inputs, labels = batch()
        optimizer.zero_grad()
        loss: Tensor = scaler.scale(cross_entropy(model(inputs.float()), labels))
        loss.backward()
        if poisoned:
            gradient = model.get_parameter("0.weight").grad
            assert gradient is not None
            gradient[0, 0, 0, 0] = float("inf")
        before = state_of(model)
        _ = scaler.step(optimizer)
        scaler.update()
        seen.append(same(state_of(model), before))
    assert seen == [False, True, False]
    assert attachment.worker.step == 2


def test_an_exception_in_the_step_leaves_the_sparsifier_as_it_was() -> None:
    class Broken(SGD):
        broken = True

        @override
        def step(self, closure: Any = None) -> Any:
            if self.broken:
                raise KeyError
            return super().step(closure)

    model = small_network()
    optimizer = Broken(model.parameters(), 0.1)
    attachment = attach(Proximal(L1(), 0.3), optimizer, model)
    before = state_of(model)
    with pytest.raises(KeyError):
        optimizer.step()
    assert same(state_of(model), before)
    assert attachment.worker.step == 0
    optimizer.broken = False
    train(model, optimizer, 1)
    assert attachment.worker.step == 1


def test_weights_without_a_gradient_are_left_as_the_optimizer_leaves_them() -> None:
    model = small_network()
    before = state_of(model)
    optimizer = SGD(model.parameters(), 0.1)
    _ = attach(Proximal(L1(), 0.3), optimizer, model)
    model.get_parameter("9.weight").sum().backward()
    optimizer.step()
    after = state_of(model)
    assert [name for name in before if not torch.equal(before[name], after[name])] == ["9.weight"]


def test_wrappers_do_not_change_the_names() -> None:
    for wrapped in (nn.DataParallel, partial(torch.compile, backend="eager")):
        model = small_network()
        attachment = attach(
            Proximal(GroupLasso(), 0.1, groups=unit_map()),
            SGD(model.parameters(), 0.1),
            cast("nn.Module", wrapped(model)),
        )
        assert attachment.worker.layers[0].bunch.names == "0.weight, 1.weight, 1.bias"


def test_a_group_that_is_not_trained_at_all_is_left_out() -> None:
    model = small_network()
    optimizer = SGD(model[7:].parameters(), 0.1)
    attachment = attach(Proximal(GroupLasso(), 0.1, groups=unit_map()), optimizer, model)
    assert [layer.bunch.names for layer in attachment.worker.layers] == ["7.weight, 7.bias"]


@pytest.mark.parametrize("how", ["frozen", "not in the optimizer"])
def test_a_group_of_which_a_part_is_trained_is_refused_by_name(how: str) -> None:
    model = small_network()
    if how == "frozen":
        _ = model[1].requires_grad_(requires_grad=False)
    weights = [p for name, p in model.named_parameters() if not name.startswith("1.")]
    optimizer = SGD(model.parameters() if how == "frozen" else weights, 0.1)
    with pytest.raises(ValueError, match=r"^1\.weight, 1\.bias: frozen, or not .* as 0\.weight"):
        _ = attach(Proximal(GroupLasso(), 0.1, groups=unit_map()), optimizer, model)
    sparsifier = Proximal(GroupLasso(), 0.1, groups=unit_map(), exclude=("1",))
    attachment = attach(sparsifier, optimizer, model)
    assert attachment.worker.layers[0].bunch.names == "0.weight"


def test_lbfgs_and_things_that_are_no_sparsifier_are_refused() -> None:
    model = small_network()
    with pytest.raises(TypeError, match="LBFGS searches along lines"):
        _ = attach(Proximal(L1(), 0.1), LBFGS(model.parameters()), model)
    with pytest.raises(TypeError, match="got L1"):
        _ = attach(L1(), SGD(model.parameters(), 0.1), model)  # type: ignore[arg-type]


def test_channels_last_weights_are_shrunk_where_they_are() -> None:
    plain = small_network()
    train(plain, SGD(plain.parameters(), 0.1), 1)
    model = small_network().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = Adam(model.parameters(), 0.01)
    for sparsifier in (Proximal(L1(), 0.1), Proximal(GroupLasso(), 0.1, groups=Filters())):
        before = state_of(model)
        pointer = model.get_parameter("0.weight").data_ptr()
        with attach(sparsifier, optimizer, model):
            train(model, optimizer, 1)
        assert model.get_parameter("0.weight").data_ptr() == pointer
        assert not same(before, state_of(model))


class Refusing(Sparsifier[Worker]):
    """Refuses the first `refusals` times, before or after the step; counts what is asked of it."""

    class Counter(Worker):
        def __init__(self, refusals: int, when: str) -> None:
            self.refusals, self.when = refusals, when
            self.calls: list[str] = []

        def _called(self, when: str) -> None:
            self.calls.append(when)
            if when == self.when and self.refusals:
                self.refusals -= 1
                raise KeyError(when)

        @override
        def before_step(self, optimizer: Optimizer, *, fresh: bool) -> None:
            self._called("before")

        @override
        def after_step(self, optimizer: Optimizer) -> None:
            self._called("after")

        @override
        def state_dict(self) -> dict[str, Any]:
            return {}

        @override
        def load_state_dict(self, state: Mapping[str, Any]) -> None:
            del state

    def __init__(self, refusals: int = 0, when: str = "") -> None:
        self.counter = self.Counter(refusals, when)

    @override
    def bind(self, optimizer: Optimizer, model: nn.Module) -> Worker:
        return self.counter


@pytest.mark.parametrize(
    ("when", "seen"),
    [
        ("before", (["before"], [])),
        ("after", (["before", "after"], ["before"])),
    ],
)
def test_after_a_step_that_one_refuses_all_begin_the_next_one_anew(
    when: str, seen: tuple[list[str], list[str]]
) -> None:
    model = small_network()
    optimizer = SGD(model.parameters(), 0.1)
    first, refusing, last = Refusing(), Refusing(1, when), Refusing()
    for one in (first, refusing, last):
        _ = attach(one, optimizer, model)
    with pytest.raises(KeyError):
        train(model, optimizer, 1)
    assert (first.counter.calls, last.counter.calls) == seen
    train(model, optimizer, 1)
    for one, before in zip((first, last), seen, strict=True):
        assert one.counter.calls[-2:] == ["before", "after"]
        assert one.counter.calls.count("before") == before.count("before") + 1
