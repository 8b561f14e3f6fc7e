"""Removal while training: the same predictions, the same training, the same objects."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import StepLR

import abscise
from abscise._errors import NotEqualError
from abscise.compaction import restructure
from abscise.shrinking import _worker
from support.shrinking import CASES, OPTIMIZERS, apart, batch, example, shrinking, train, twin

# The coverage tracer would double their time; other tests run the same code.
pytestmark = pytest.mark.no_cover

OTHERS = [kind for kind in OPTIMIZERS if kind not in {"sgd", "adam", "adamw", "rmsprop"}]


def parameters(model: nn.Module) -> int:
    return sum(it.numel() for it in model.parameters())


def state_of(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """Everything that a removal touches, by name, as copies."""
    found = {f"model.{name}": it.detach().clone() for name, it in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            found[f"grad.{name}"] = parameter.grad.clone()
        for key, value in optimizer.state[parameter].items():
            found[f"{key}.{name}"] = torch.as_tensor(value).clone()
    return found


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        *(("mlp", kind) for kind in ("sgd", "adam", "adamw", "rmsprop")),
        *(("conv-bn", kind) for kind in ("sgd", "adam")),
        ("residual", "adam"),
        *(pytest.param("mlp", kind, marks=pytest.mark.slow) for kind in OTHERS),
        *(pytest.param("residual", kind, marks=pytest.mark.slow) for kind in OPTIMIZERS),
    ],
)
def test_units_that_are_dead_for_training_go_and_the_rest_trains_on_as_before(
    case: str, kind: str
) -> None:
    model = CASES[case].build()
    optimizer = OPTIMIZERS[kind](model.parameters())
    _ = train(model, optimizer, 4)
    dense, other = twin(model, optimizer)
    attachment = shrinking(model, optimizer, every=2)
    losses = train(model, optimizer, 22, 4)
    (shrink,) = attachment.worker.shrinks
    assert (shrink.step, shrink.removed, shrink.snapped) == (2, CASES[case].removed, 0)
    assert shrink.parameters == parameters(model) < shrink.parameters_before == parameters(dense)
    assert apart(train(dense, other, 22, 4), losses) < 1e-9


@pytest.mark.parametrize("case", CASES)
def test_at_the_moment_of_removal_the_predictions_are_the_same(case: str) -> None:
    model = CASES[case].build()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    kept: list[nn.Module] = []
    _ = optimizer.register_step_post_hook(lambda *_: kept.append(copy.deepcopy(model)))
    attachment = shrinking(model, optimizer, every=2)
    _ = train(model, optimizer, 2)
    assert abscise.verify(kept[-1], model, example()).passed
    assert len(attachment.worker.shrinks) == 1
    assert not abscise.verify(kept[0], model, example()).passed


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_a_live_unit_that_goes_would_be_seen_in_what_is_learned(kind: str) -> None:
    case = CASES["mlp"]
    model = case.build()
    optimizer = OPTIMIZERS[kind](model.parameters())
    with torch.no_grad():  # silent now, but its bias is above 0: it has a gradient
        model.get_parameter("3.weight")[5] = 0.0
        model.get_parameter("3.bias")[5] = 1e-3
    plan = abscise.propose(model, example())
    assert plan.removed_units == case.removed + 1
    small = abscise.apply(plan, model)
    dense, other = twin(model, optimizer)
    losses = train(dense, other, 20)
    assert apart(train(small, OPTIMIZERS[kind](small.parameters()), 20), losses) > 1e-5
    attachment = shrinking(model, optimizer)
    assert apart(train(model, optimizer, 20), losses) < 1e-9
    assert sum(it.removed for it in attachment.worker.shrinks) == case.removed


def test_all_that_holds_the_model_goes_on_with_the_same_objects() -> None:
    model = CASES["conv-bn"].build()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    scheduler = StepLR(optimizer, 2, 0.5)
    before = [id(it) for it in (*model.modules(), *model.parameters(), *model.buffers())]
    held = [id(it) for group in optimizer.param_groups for it in group["params"]]
    dense, other = twin(model, optimizer)
    second = StepLR(other, 2, 0.5)
    _ = shrinking(model, optimizer)
    losses: tuple[list[float], list[float]] = ([], [])
    for step in range(8):
        losses[0].extend(train(model, optimizer, 1, step))
        losses[1].extend(train(dense, other, 1, step))
        scheduler.step()
        second.step()
    assert [id(it) for it in (*model.modules(), *model.parameters(), *model.buffers())] == before
    assert [id(it) for group in optimizer.param_groups for it in group["params"]] == held
    assert optimizer.param_groups[0]["lr"] == 0.01 * 0.5**4
    assert apart(*losses) < 1e-9
    kept = [
        ("4", "in_channels"),
        ("4", "out_channels"),
        ("5", "num_features"),
        ("8", "in_features"),
    ]
    sizes = [getattr(model.get_submodule(name), size) for name, size in kept]
    assert sizes == [4, 3, 3, 27]
    for parameter in model.parameters():
        assert optimizer.state[parameter]["exp_avg"].shape == parameter.shape


def test_a_loss_that_is_still_held_does_not_disturb_the_next_step() -> None:
    model = CASES["mlp"].build()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    attachment = shrinking(model, optimizer)
    fired: list[tuple[int, ...]] = []
    hook = model.get_parameter("1.weight").register_post_accumulate_grad_hook(
        lambda it: fired.append(tuple(it.shape))
    )
    held = []
    for step in range(3):
        images, labels = batch(step)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        held.append(loss)  # and with it the graph
        loss.backward()
        _ = optimizer.step()
    assert len(attachment.worker.shrinks) == 1
    assert fired == [(12, 72), (9, 72), (9, 72)]
    hook.remove()


def test_gradients_that_are_not_cleared_go_on_being_summed() -> None:
    results = []
    for attached in (True, False):
        model = CASES["mlp"].build()
        optimizer = OPTIMIZERS["sgd"](model.parameters())
        if attached:
            _ = shrinking(model, optimizer)
        losses = []
        for step in range(6):
            images, labels = batch(step)
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            _ = optimizer.step()
            losses.append(float(loss.detach()))
        results.append(losses)
    assert apart(*results) < 1e-9


def test_a_skipped_step_is_none_and_the_scaler_goes_on() -> None:
    model = CASES["mlp"].build(dtype=torch.float32)
    optimizer = SGD(model.parameters(), 0.05, fused=True)  # called even for a skipped step
    attachment = shrinking(model, optimizer, every=2)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2)
    done = []
    for step in range(7):
        images, labels = batch(step, torch.float32)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        if step in (1, 5):
            loss = loss * torch.inf
        _ = scaler.scale(loss).backward()
        _ = scaler.step(optimizer)
        scaler.update()
        done.append((attachment.worker.step, len(attachment.worker.shrinks)))
    assert done == [(1, 0), (1, 0), (2, 1), (3, 1), (4, 1), (4, 1), (5, 1)]
    assert scaler.get_scale() == 2.0


@pytest.mark.parametrize("place", ["analyse", "check_same", "shrink_weights_"])
def test_a_removal_that_fails_half_way_leaves_everything_as_it_was(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = CASES["conv-bn"].build()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    average = copy.deepcopy(model)
    _ = train(model, optimizer, 2)
    attachment = shrinking(model, optimizer, ema=average)
    real = getattr(_worker, place)

    def fails(*args: Any) -> None:
        if place == "shrink_weights_":
            real(*args)
        raise NotEqualError(place)

    def notes(*_: Any) -> dict[str, Tensor]:
        calls.append(state_of(model, optimizer))
        return {}

    images, labels = batch(2)
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(images), labels).backward()
    calls: list[dict[str, Tensor]] = []
    before = copy.deepcopy((attachment.worker.plan, str(model), str(average)))
    with monkeypatch.context() as patched:
        patched.setattr(_worker, place, fails)
        patched.setattr(_worker, "to_zero", notes)
        with pytest.raises(NotEqualError, match=place):
            _ = optimizer.step()
    assert calls
    assert same(calls[0], state_of(model, optimizer))
    assert (attachment.worker.plan, str(model), str(average)) == before
    assert attachment.worker.shrinks == []
    _ = train(model, optimizer, 1)
    assert len(attachment.worker.shrinks) == 1
    assert not same(calls[0], state_of(model, optimizer))


def test_a_removal_leaves_random_state_mode_and_flags_alone() -> None:
    model = nn.Sequential(CASES["mlp"].build(), nn.Dropout(0.5))
    model.get_parameter("0.5.bias").requires_grad_(False)  # noqa: FBT003
    optimizer = OPTIMIZERS["adam"](it for it in model.parameters() if it.requires_grad)
    attachment = shrinking(model, optimizer)
    drawn: list[Tensor] = []
    images, labels = batch(0)
    nn.functional.cross_entropy(model(images), labels).backward()
    modes = [it.training for it in model.modules()]
    before = torch.get_rng_state()
    _ = optimizer.step()
    drawn.append(torch.get_rng_state())
    assert len(attachment.worker.shrinks) == 1
    assert torch.equal(before, drawn[0])
    assert [it.training for it in model.modules()] == modes
    assert not model.get_parameter("0.5.bias").requires_grad
    assert all(it.requires_grad for name, it in model.named_parameters() if name != "0.5.bias")


def test_the_kept_plan_rebuilds_the_shrunk_network_from_the_original_class() -> None:
    model = CASES["residual"].build()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    attachment = shrinking(model, optimizer)
    _ = train(model, optimizer, 2)
    with torch.no_grad():  # another one dies later: of indices that have moved
        for leaf in ("weight", "bias"):
            model.get_parameter(f"inner_norm.1.{leaf}")[3] = 0.0
            optimizer.state[model.get_parameter(f"inner_norm.1.{leaf}")]["exp_avg"][3] = 0.0
    _ = train(model, optimizer, 2, 2)
    assert [it.removed for it in attachment.worker.shrinks] == [3, 1]
    plan = attachment.worker.plan
    assert plan.removed_units == 4
    assert [(it.layer, it.index) for it in plan.removals if it.layer == "inner.1"] == [
        ("inner.1", 3),
        ("inner.1", 4),
    ]
    fresh = CASES["residual"].build(seed=1)
    rebuilt = abscise.apply(plan, fresh, structure_only=True)
    _ = rebuilt.load_state_dict(model.state_dict())
    assert str(rebuilt) == str(model)
    assert torch.equal(rebuilt.eval()(example()), model.eval()(example()))
    assert str(restructure(plan, fresh)) != str(fresh)


@pytest.mark.parametrize("at", [1, 5])
def test_a_resumed_run_equals_the_uninterrupted_one(at: int) -> None:
    whole = CASES["conv-bn"].build()
    optimizer = Adam(whole.parameters(), 0.01)
    attachment = shrinking(whole, optimizer, every=2, patience=2)
    _ = train(whole, optimizer, at)
    state, weights = attachment.state_dict(), copy.deepcopy(whole.state_dict())
    moments = copy.deepcopy(optimizer.state_dict())
    _ = train(whole, optimizer, 8 - at, at)

    resumed = CASES["conv-bn"].build(seed=1)
    other = Adam(resumed.parameters(), 0.5)
    second = shrinking(resumed, other, every=2, patience=2)
    second.load_state_dict(state)
    _ = resumed.load_state_dict(weights)
    other.load_state_dict(moments)
    _ = train(resumed, other, 8 - at, at)
    assert same(state_of(whole, optimizer), state_of(resumed, other))
    assert second.worker.plan == attachment.worker.plan
    assert second.worker.step == attachment.worker.step == 8
    shrinks = [*attachment.worker.shrinks, *second.worker.shrinks]
    assert {it.step for it in shrinks} == {4}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"step": -1}, "step must be an integer >= 0, got -1"),
        ({"format": 2}, "format must be 1, got 2"),
        ({"small": [1]}, "small must be a dictionary of tensors"),
        ({"plan": b"x"}, "plan must be a text"),
        ({"plan": "{"}, "state_dict: plan: "),
        ({"small": {}}, "the state has 0 units of 1, the network 12"),
        ({"extra": 1}, "the keys must be format, step, small, plan"),
    ],
)
def test_a_state_that_is_not_ours_is_refused(change: dict[str, Any], told: str) -> None:
    model = CASES["mlp"].build()
    attachment = shrinking(model, SGD(model.parameters(), 0.1))
    with pytest.raises(ValueError, match=told):
        attachment.load_state_dict({**attachment.state_dict(), **change})


def test_a_state_of_a_network_that_was_shrunk_otherwise_is_refused() -> None:
    attachments = []
    for dead in (0, 1):
        model = CASES["mlp"].build()
        optimizer = SGD(model.parameters(), 0.1)
        with torch.no_grad():
            for leaf in ("weight", "bias"):
                model.get_parameter(f"3.{leaf}")[dead] = 0.0
        attachments.append(shrinking(model, optimizer))
        _ = train(model, optimizer, 1)
    first, second = attachments
    with pytest.raises(ValueError, match="shrunk otherwise: attach to the network as it was built"):
        second.load_state_dict(first.state_dict())
    second.load_state_dict(second.state_dict())
