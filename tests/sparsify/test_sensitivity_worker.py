"""What observing and shrinking do to weights, and that they do nothing to anything else."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam, Optimizer

from abscise import attach
from abscise._errors import ModelError
from abscise.sparsify import Attachment, Sensitivity, SensitivityWorker, SeReNe, WarmUp
from abscise.train import Checkpoints, fit
from support.killing import RECIPE
from support.killing import made as small_data
from support.memory import Largest
from support.sparsifying import batch, same, small_network, state_of, step_on

OPTIONS: dict[str, dict[str, Any]] = {
    "exact": {},
    "specific": {"outputs": "target"},
    "batch mean": {"mean": "batch"},
    "estimate": {"estimate": True, "average": 0.7, "rescale": True},
    "some examples": {"estimate": True, "examples": 3, "average": 0.5, "every": 2},
}
MAKING: dict[str, Callable[..., Sensitivity | SeReNe]] = {
    **{
        name: lambda s=0.01, o=o, **more: Sensitivity(s, **o, **more) for name, o in OPTIONS.items()
    },
    "units": lambda s=0.01, **more: SeReNe(s, estimate=True, rescale=True, average=0.5, **more),
}
Made = tuple[nn.Sequential, SGD, Attachment[SensitivityWorker]]


def made(kind: str, strength: Any = 0.01, **more: Any) -> Made:
    model = small_network()
    optimizer = SGD(model.parameters(), 0.1)
    return model, optimizer, attach(MAKING[kind](strength, **more), optimizer, model)


def train(
    model: nn.Module, optimizer: Any, attachment: Attachment[Any] | None, steps: range
) -> None:
    for step in steps:
        step_on(batch(step), model, optimizer, attachment)


@pytest.mark.parametrize("kind", MAKING)
def test_a_step_is_the_plain_step_and_then_the_decay_of_what_matters_little(kind: str) -> None:
    model, optimizer, attachment = made(kind, WarmUp(0.3, steps=3))
    plain = small_network()
    train(model, optimizer, attachment, range(1))
    train(plain, SGD(plain.parameters(), 0.1), None, range(1))
    found, before = dict(model.named_parameters()), dict(plain.named_parameters())
    rescale = kind in ("estimate", "units")
    for name, value in attachment.worker.sensitivities.items():
        of = value.max() if rescale else 1.0
        decay = 0.1 * (1 - value / of).clamp(min=0)
        torch.testing.assert_close(found[name], before[name] * (1 - decay), rtol=1e-9, atol=1e-12)
        assert not torch.allclose(found[name], before[name] * (1 - 0.1 * 0.1 * (1 - value / of)))
    assert attachment.worker.step == 1
    assert attachment.worker.strength == pytest.approx(0.2)


def test_the_decay_descends_its_objective_with_sensitivities_held() -> None:
    model, _, attachment = made("exact")
    attachment.observe(model(batch()[0]), batch()[1])
    for name, value in attachment.worker.sensitivities.items():
        weights = model.get_parameter(name).detach().clone().requires_grad_()
        objective = 0.5 * (weights**2 * (1 - value).clamp(min=0)).sum()
        objective.backward()
        moved = model.get_parameter(name).detach() * (1 - value).clamp(min=0)
        assert weights.grad is not None
        torch.testing.assert_close(weights.grad, moved)


@pytest.mark.parametrize("kind", MAKING)
def test_zeros_stay_zeros_and_no_sign_changes(kind: str) -> None:
    model, optimizer, attachment = made(kind, 0.999)
    inputs, labels = batch()
    attachment.observe(model(inputs), labels)
    for parameter in model.parameters():
        parameter.data.view(-1)[::2] = 0.0
        parameter.grad = torch.zeros_like(parameter)
    before = state_of(model)
    optimizer.step()
    for name, parameter in model.named_parameters():
        zero = before[name] == 0
        assert not bool(parameter[zero].any())
        assert not bool(torch.signbit(parameter[zero]).any())
        assert bool((parameter * before[name] >= 0).all())


class Everything:
    """What belongs to the user, before and after."""

    def __init__(self, model: nn.Module) -> None:
        self.state = state_of(model)
        self.gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
        self.random = torch.get_rng_state()
        self.modes = [one.training for one in model.modules()]
        self.hooks = [
            len(one._forward_hooks) + len(one._forward_pre_hooks) + len(one._backward_hooks)
            for one in model.modules()
        ]
        self.buffers = [id(one) for one in model.buffers()]
        self.autocast = torch.is_autocast_enabled("cpu")
        self.grad_mode = torch.is_grad_enabled()

    def same_as(self, other: "Everything") -> bool:
        pairs = list(zip(self.gradients, other.gradients, strict=True))
        names = ("modes", "hooks", "buffers", "autocast", "grad_mode")
        return (
            all(a is None if b is None else a is not None and torch.equal(a, b) for a, b in pairs)
            and all(getattr(self, name) == getattr(other, name) for name in names)
            and same(self.state, other.state)
            and torch.equal(self.random, other.random)
        )


def looked_at(attachment: Attachment[Any], logits: Tensor, labels: Tensor, context: str) -> None:
    drawn = attachment.state_dict()["generator"].clone()
    if context == "exception":
        with pytest.raises(ZeroDivisionError):
            attachment.observe(logits, labels)
        assert attachment.worker.sensitivities == {}
        assert torch.equal(attachment.state_dict()["generator"], drawn)
    elif context == "no_grad":
        with torch.no_grad():
            attachment.observe(logits, labels)
    elif context == "autocast":
        with torch.autocast("cpu", torch.bfloat16):
            attachment.observe(logits, labels)
            assert torch.is_autocast_enabled("cpu")
    else:
        attachment.observe(logits, labels)


@pytest.mark.parametrize("context", ["plain", "no_grad", "autocast", "exception"])
@pytest.mark.parametrize("kind", MAKING)
def test_observing_changes_nothing_of_the_users(kind: str, context: str) -> None:
    model = small_network()
    _ = model.append(nn.Dropout(0.3))
    optimizer = SGD(model.parameters(), 0.1)
    inputs, labels = batch()
    cross_entropy(model(inputs), labels).backward()  # gradients that are being accumulated
    failing: list[bool] = []
    _ = model[3].register_forward_pre_hook(lambda *_: 1 / 0 if failing else None)
    attachment = attach(MAKING[kind](0.01), optimizer, model)
    logits = model(inputs)
    before = Everything(model)
    if context == "exception":
        failing.append(True)
    looked_at(attachment, logits, labels, context)
    assert before.same_as(Everything(model))
    attachment.detach()
    failing.clear()
    assert sum(Everything(model).hooks) == 1
    _ = model(inputs)
    assert not before.same_as(Everything(model))  # batch norm and dropout would be seen


@pytest.mark.parametrize("kind", MAKING)
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(kind: str) -> None:
    for at in (0, 3):
        whole, optimizer, attachment = made(kind)
        train(whole, optimizer, attachment, range(at))
        state = copy.deepcopy(attachment.state_dict())
        weights = state_of(whole)
        train(whole, optimizer, attachment, range(at, 6))

        resumed, other, second = made(kind)
        _ = resumed.load_state_dict(weights)
        second.load_state_dict(state)
        train(resumed, other, second, range(at, 6))
        assert same(state_of(whole), state_of(resumed))
        ended, ending = attachment.state_dict(), second.state_dict()
        assert same(ended.pop("sensitivities"), ending.pop("sensitivities"))
        assert torch.equal(ended.pop("generator"), ending.pop("generator"))
        assert ended == ending


@pytest.mark.parametrize("kind", ["estimate", "some examples"])
def test_a_forgotten_state_would_be_seen(kind: str) -> None:
    whole, optimizer, attachment = made(kind)
    train(whole, optimizer, attachment, range(3))
    weights = state_of(whole)
    train(whole, optimizer, attachment, range(3, 6))
    resumed, other, second = made(kind)
    _ = resumed.load_state_dict(weights)
    train(resumed, other, second, range(3, 6))
    assert not same(state_of(whole), state_of(resumed))


def test_averages_are_of_sensitivities_and_measured_when_they_are_due() -> None:
    model, optimizer, attachment = made("exact", average=0.75, every=2)
    seen = []
    for step in range(4):
        train(model, optimizer, attachment, range(step, step + 1))
        seen.append(attachment.worker.sensitivities["9.weight"].clone())
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[2], seen[3])
    alone, its, fresh = made("exact")
    replay, replayed, _ = made("exact", average=0.75, every=2)
    del replay, replayed
    twin, its_optimizer, its_attachment = made("exact", average=0.75, every=2)
    train(twin, its_optimizer, its_attachment, range(2))
    _ = alone.load_state_dict(state_of(twin))
    train(alone, its, fresh, range(2, 3))
    now = fresh.worker.sensitivities["9.weight"]
    torch.testing.assert_close(seen[2], 0.75 * seen[0] + 0.25 * now)
    assert not torch.allclose(seen[2], now)


def test_of_accumulated_batches_the_first_is_measured_and_the_step_acts_once() -> None:
    model, optimizer, attachment = made("exact")
    first, second = batch(0), batch(1)
    attachment.observe(model(first[0]), first[1])
    found = attachment.worker.sensitivities["0.weight"].clone()
    logits = model(second[0])
    attachment.observe(logits, second[1])
    assert torch.equal(attachment.worker.sensitivities["0.weight"], found)
    cross_entropy(logits, second[1]).backward()
    optimizer.step()
    assert attachment.worker.step == 1


def test_weights_without_a_gradient_are_left_as_the_optimizer_leaves_them() -> None:
    model, optimizer, attachment = made("exact", 0.5)
    inputs, labels = batch()
    attachment.observe(model(inputs), labels)
    before = state_of(model)
    model.get_parameter("9.weight").sum().backward()
    optimizer.step()
    after = state_of(model)
    assert [name for name in before if not torch.equal(before[name], after[name])] == ["9.weight"]


def test_a_forward_pass_without_gradients_is_not_what_is_observed() -> None:
    model, _, attachment = made("exact")
    inputs, labels = batch()
    logits = model(inputs)
    attachment.observe(logits, labels)
    found = {k: v.clone() for k, v in attachment.worker.sensitivities.items()}
    other, _, its = made("exact")
    logits = other(inputs)
    with torch.no_grad():
        _ = other.eval()(2 * inputs)
        _ = other.train()
    its.observe(logits, labels)
    assert same(found, its.worker.sensitivities)


Act = Callable[[nn.Module, Any, Tensor, Any], object]
BAD: dict[str, tuple[Act, type[Exception], str]] = {
    "text": (lambda _m, _x, t, a: a.observe("logits", t), TypeError, "got str"),
    "integers": (lambda m, x, t, a: a.observe(m(x).long(), t), TypeError, "of torch.int64"),
    "vector": (lambda m, x, t, a: a.observe(m(x)[:, 0], t), ValueError, r"\(examples, outputs,"),
    "detached": (lambda m, x, t, a: a.observe(m(x).detach(), t), ValueError, "do not require grad"),
    "no target": (lambda m, x, _t, a: a.observe(m(x)), TypeError, "class indices .* got NoneType"),
    "soft target": (lambda m, x, t, a: a.observe(m(x), t.float()), TypeError, "torch.float32"),
    "shape": (lambda m, x, t, a: a.observe(m(x), t[:3]), ValueError, r"the shape \(8,\)"),
    "too large": (lambda m, x, t, a: a.observe(m(x), t + 3), ValueError, "in 0 .. 2, got [345]"),
    "negative": (lambda m, x, t, a: a.observe(m(x), t - 100), ValueError, "in 0 .. 2, got -"),
    "another model": (lambda _m, _x, t, a: a.observe(torch.ones(8, 3).requires_grad_(), t),
                      ValueError, "no forward pass with gradients was seen"),
    "other logits": (lambda m, x, t, a: a.observe(torch.cat([m(x), m(x)], 1), t),
                     ValueError, r"gives logits of \(8, 3\) instead of \(8, 6\)"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_observed_is_refused_in_one_line(case: str) -> None:
    act, error, text = BAD[case]
    model, _, attachment = made("specific")
    with pytest.raises(error, match=text) as refused:
        act(model, *batch(), attachment)
    assert "\n" not in str(refused.value)
    assert attachment.worker.sensitivities == {}
    train(model, attachment._optimizer, attachment, range(1))  # and it goes on


def test_a_step_without_an_observed_batch_is_refused_and_changes_nothing() -> None:
    model, optimizer, attachment = made("exact")
    inputs, labels = batch()
    cross_entropy(model(inputs), labels).backward()
    before = state_of(model)
    with pytest.raises(ValueError, match=r"no observe.* since the last step: call it between"):
        optimizer.step()
    assert same(before, state_of(model))
    train(model, optimizer, attachment, range(1))
    with pytest.raises(ValueError, match="since the last step"):
        optimizer.step()


def test_probabilities_are_warned_of_once_and_logits_are_not() -> None:
    model = small_network().append(nn.Softmax(1))
    optimizer = SGD(model.parameters(), 0.1)
    attachment = attach(Sensitivity(0.01), optimizer, model)
    with pytest.warns(UserWarning, match=r"logits lie in \[0, 1\] and sum to 1") as seen:
        attachment.observe(model(batch()[0]))
    assert len(seen) == 1
    attachment.observe(model(batch()[0]))  # warnings are errors
    train(*made("exact"), range(1))


@pytest.mark.parametrize("kind", MAKING)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_sensitivity_that_is_not_finite_is_refused_and_changes_nothing(
    kind: str, bad: float
) -> None:
    model, optimizer, attachment = made(kind, every=1) if kind != "some examples" else made(kind)
    train(model, optimizer, attachment, range(2))
    before = copy.deepcopy(attachment.state_dict())
    with torch.no_grad():
        _ = model.get_parameter("7.weight").fill_(bad)
    logits = model(batch()[0])
    with pytest.raises(ModelError, match="is not finite: look for NaN or infinity in weights"):
        attachment.observe(logits, batch()[1])
    after = attachment.state_dict()
    assert same(before.pop("sensitivities"), after.pop("sensitivities"))
    assert torch.equal(before.pop("generator"), after.pop("generator"))
    assert before == after


def test_what_the_model_returns_may_hold_the_logits_anywhere() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = small_network()

        def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[explicit-override]
            return inputs, self.inner(inputs)

    model = Packed()
    optimizer = SGD(model.parameters(), 0.1)
    with attach(Sensitivity(0.01), optimizer, model) as attachment:
        logits = model(batch()[0])[1]
        with pytest.raises(TypeError, match=r"returns tuple: say where the logits are, such as"):
            attachment.observe(logits)
    with attach(Sensitivity(0.01, logits=lambda out: out[1]), optimizer, model) as attachment:
        attachment.observe(model(batch()[0])[1])
        assert set(attachment.worker.sensitivities) == {n for n, _ in model.named_parameters()}


def test_the_sparsifier_itself_observes_while_it_is_attached_once() -> None:
    model = small_network()
    sparsifier = Sensitivity(0.01)
    with pytest.raises(ValueError, match="Sensitivity is not attached: call attach"):
        sparsifier.observe(torch.ones(2, 2))
    optimizer, other = SGD(model.parameters(), 0.1), Adam(model.parameters(), 0.1)
    with attach(sparsifier, optimizer, model):
        sparsifier.observe(model(batch()[0]))
        assert sparsifier.sensitivities["0.weight"].shape == (6, 2, 3, 3)
        with attach(sparsifier, other, model), pytest.raises(ValueError, match="to 2 optimizers"):
            sparsifier.observe(model(batch()[0]))
        sparsifier.observe(model(batch()[0]))
    with pytest.raises(ValueError, match="not attached"):
        _ = sparsifier.sensitivities


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "strength": ({"strength": 1.5}, r"strength must be in \[0, 1\), got 1.5: it is the share"),
    "outputs": ({"outputs": "some"}, "outputs must be one of all, target, got 'some'"),
    "mean": ({"mean": "median"}, "mean must be one of examples, batch, got 'median'"),
    "average": ({"average": 1.0}, r"average must be in \[0, 1\), got 1.0"),
    "every": ({"every": 0}, "every must be >= 1, got 0"),
    "examples": ({"examples": 0}, "examples must be >= 1, got 0"),
    "chunk_bytes": ({"chunk_bytes": 0}, "chunk_bytes must be >= 1, got 0"),
    "logits": ({"logits": 3}, "logits must be a function of what the model returns, got 3"),
    "where": ({"where": "0"}, "where must be a tuple of name patterns, got '0'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_impossible_options_are_refused(case: str) -> None:
    options, text = WRONG[case]
    with pytest.raises((ValueError, TypeError), match=f"^Sensitivity: {text}"):
        _ = Sensitivity(**{"strength": 0.1, **options})


def test_options_that_fit_no_parameter_or_step_are_refused() -> None:
    model = small_network()
    optimizer = SGD(model.parameters(), 0.1)
    with pytest.raises(ValueError, match="exclude: 'x' matches no parameter"):
        _ = attach(Sensitivity(0.1, exclude=("x",)), optimizer, model)
    with pytest.raises(ValueError, match="no parameter to act on"):
        _ = attach(Sensitivity(0.1, exclude=("*",)), optimizer, model)
    half = small_network().bfloat16()
    with pytest.raises(ValueError, match=r"torch\.bfloat16: steps below the rounding"):
        _ = attach(Sensitivity(0.1), SGD(half.parameters(), 0.1), half)
    attachment = attach(Sensitivity(lambda step: step - 1.0), optimizer, model)
    train(model, optimizer, attachment, range(1))
    with pytest.raises(ValueError, match=r"step 2: strength must be in \[0, 1\), got 1.0"):
        train(model, optimizer, attachment, range(1, 2))
    assert attachment.worker.step == 1


EDITED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "missing": (lambda s: s.pop("step"), "keys must be format, step, observed, sensitivities"),
    "format": (lambda s: s.update(format=2), "format must be 1, got 2"),
    "step": (lambda s: s.update(step=True), "step must be an integer >= 0, got True"),
    "observed": (lambda s: s.update(observed=1), "observed must be True or False, got 1"),
    "none": (lambda s: s.update(sensitivities={}), "sensitivities must be there after a step"),
    "names": (lambda s: s["sensitivities"].pop("0.weight"), "sensitivities must be of 0.weight"),
    "shape": (
        lambda s: s["sensitivities"].update({"0.weight": torch.ones(2)}),
        r"0.weight must be torch.float64 of \(6, 2, 3, 3\), got 'torch.float32 of \(2,\)'",
    ),
    "value": (lambda s: s["sensitivities"]["0.weight"].fill_(-1), ">= 0 and finite"),
    "generator": (lambda s: s.update(generator=torch.zeros(3, dtype=torch.uint8)), "torch.Gener"),
    "no generator": (lambda s: s.update(generator=3), "the state of a torch.Generator, got 'int'"),
}


@pytest.mark.parametrize("case", EDITED)
def test_an_edited_state_is_refused_in_one_line_and_changes_nothing(case: str) -> None:
    change, text = EDITED[case]
    model, optimizer, attachment = made("exact")
    train(model, optimizer, attachment, range(2))
    before = copy.deepcopy(attachment.state_dict())
    state = copy.deepcopy(before)
    change(state)
    with pytest.raises(ValueError, match=f"^state_dict: .*{text}") as refused:
        attachment.load_state_dict(state)
    assert "\n" not in str(refused.value)
    after = attachment.state_dict()
    assert same(before.pop("sensitivities"), after.pop("sensitivities"))
    assert torch.equal(before.pop("generator"), after.pop("generator"))
    assert before == after


@pytest.mark.parametrize("mean", ["examples", "batch"])
def test_what_outputs_and_examples_take_at_a_time_is_bounded_by_the_argument(mean: str) -> None:
    """All outputs of all examples would take far more; for one there is always room."""
    model = nn.Sequential(nn.Conv1d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 40))
    inputs = torch.randn(30, 3, 8)
    seen = {}
    for chunk_bytes in (1 << 16, 1 << 20):
        with attach(
            Sensitivity(0.1, mean=mean, chunk_bytes=chunk_bytes),
            SGD(model.parameters(), 0.1),
            model,
        ) as attachment:
            attachment.observe(model(inputs))  # finds out where gradients come from
            vars(attachment.worker)["_state"].observed = False
            logits = model(inputs)
            with Largest([*model.parameters(), inputs]) as largest:
                attachment.observe(logits)
            seen[chunk_bytes] = 4 * largest.elements
    assert seen[1 << 16] <= 1 << 16
    assert 1 << 16 < seen[1 << 20] <= 1 << 20


def test_a_run_of_the_reference_loop_observes_and_is_resumed_exactly(tmp_path: Path) -> None:
    """The loop shows each batch by itself, and keeps what is remembered."""

    def sensitive(model: nn.Module, optimizer: Optimizer) -> Attachment[SensitivityWorker]:
        return attach(MAKING["some examples"](0.05), optimizer, model)

    def stopped(model: nn.Module, optimizer: Optimizer) -> Attachment[SensitivityWorker]:
        attachment = sensitive(model, optimizer)

        def stop(*_: object) -> None:
            if attachment.worker.step == 7:
                raise KeyError

        _ = optimizer.register_step_pre_hook(stop)
        return attachment

    whole = fit(RECIPE, data=small_data(), attachments=[sensitive])
    plain = fit(RECIPE, data=small_data())
    assert not same(state_of(whole.model), state_of(plain.model))
    with pytest.raises(KeyError):
        _ = fit(
            RECIPE,
            data=small_data(),
            attachments=[stopped],
            checkpoints=Checkpoints(tmp_path, every=1),
        )
    resumed = fit(
        RECIPE,
        data=small_data(),
        attachments=[sensitive],
        checkpoints=Checkpoints(tmp_path, every=1, resume=True),
    )
    assert resumed.resumed_at == 7
    assert same(state_of(resumed.model), state_of(whole.model))
