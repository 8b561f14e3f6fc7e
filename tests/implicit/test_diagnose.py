"""diagnose: the verdict follows the optimizer and the network; what is not known is said."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adadelta, Adagrad, Adam, AdamW, NAdam, Optimizer, RMSprop
from typing_extensions import override

from abscise._errors import InputError, ModelError
from abscise.implicit import Diagnosis, Fate, Kind, Outcome, diagnose, gradient_sizes

X = torch.zeros(2, 6)


def net(activation: nn.Module | None = None, *, norm: bool = True) -> nn.Sequential:
    _ = torch.manual_seed(0)
    norms = [nn.BatchNorm1d(20)] if norm else []
    return nn.Sequential(nn.Linear(6, 20), *norms, activation or nn.ReLU(), nn.Linear(20, 3))


def asked(kind: Callable[..., Optimizer], model: nn.Module, **options: Any) -> Diagnosis:
    told = {key: options.pop(key) for key in ("gradient_rms", "steps") if key in options}
    optimizer = kind(model.parameters(), **options)
    return diagnose(model, optimizer, X, **{"steps": 20_000, "gradient_rms": 1e-3, **told})


L2: dict[str, Any] = {"lr": 1e-3, "weight_decay": 1e-4}
VERDICTS: dict[str, tuple[Callable[..., Optimizer], dict[str, Any], Outcome]] = {
    "Adam": (Adam, L2, Outcome.WILL_DIE),
    "RMSprop": (RMSprop, L2, Outcome.WILL_DIE),
    "Adam of unknown gradients": (Adam, L2 | {"gradient_rms": None}, Outcome.DEPENDS),
    "Adam of a run that is not told": (Adam, L2 | {"steps": None}, Outcome.DEPENDS),
    "a run hardly long enough": (Adam, L2 | {"steps": 10_000}, Outcome.FEW),
    "a short run": (Adam, L2 | {"steps": 1000}, Outcome.TOO_SLOW),
    "AMSGrad": (Adam, L2 | {"amsgrad": True}, Outcome.TOO_SLOW),
    "a large eps": (Adam, L2 | {"eps": 1e-3}, Outcome.TOO_SLOW),
    "AdamW": (AdamW, L2, Outcome.TOO_SLOW),
    "Adagrad": (Adagrad, L2, Outcome.TOO_SLOW),
    "Adadelta": (Adadelta, {"lr": 1.0, "weight_decay": 1e-4}, Outcome.TOO_SLOW),
    "SGD": (SGD, {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4}, Outcome.TOO_SLOW),
    "no decay": (Adam, {"lr": 1e-3}, Outcome.WILL_NOT),
    "a decay that is rounded away": (AdamW, {"lr": 1e-4, "weight_decay": 1e-5}, Outcome.WILL_NOT),
    "a cycle": (Adam, {"lr": 0.1, "weight_decay": 0.1}, Outcome.WILL_NOT),
    "an optimizer without a law": (NAdam, L2, Outcome.UNKNOWN),
    "RMSprop, centered": (RMSprop, L2 | {"centered": True}, Outcome.UNKNOWN),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_the_outcome_follows_the_optimizer(name: str) -> None:
    kind, options, outcome = VERDICTS[name]
    found = asked(kind, net(), **options)
    assert found.outcome is outcome
    assert found.verdict.endswith(".")
    assert kind.__name__ in found.verdict


def test_a_subclass_of_a_known_optimizer_is_unknown() -> None:
    class Mine(Adam):
        pass

    found = asked(Mine, net(), **L2)
    assert found.outcome is Outcome.UNKNOWN
    assert "Mine" in found.verdict
    assert {part.fate for part in found.parts} == {Fate.UNKNOWN}
    assert {part.steps for part in found.parts} == {None}


@pytest.mark.parametrize("activation", [nn.ELU(), nn.Tanh(), nn.SELU(), nn.Softsign()])
def test_units_hardly_die_where_a_gradient_always_gets_through(activation: nn.Module) -> None:
    found = asked(Adam, net(activation), **L2)
    assert found.outcome is Outcome.UNLIKELY
    assert type(activation).__name__.lower() in found.verdict
    assert any("ReLU in place of" in line for line in found.more)


@pytest.mark.parametrize(
    "activation", [nn.GELU(), nn.SiLU(), nn.Mish(), nn.Softplus(), nn.Sigmoid()]
)
def test_units_may_die_where_output_and_gradient_fade_far_below_0(activation: nn.Module) -> None:
    far = torch.tensor(-20.0, requires_grad=True)
    value = activation(far)
    value.backward()
    assert far.grad is not None
    assert max(value.abs(), far.grad.abs()) < 1e-6
    found = asked(Adam, net(activation), **L2)
    assert found.outcome is Outcome.DEPENDS
    assert f"{type(activation).__name__.lower()} lets next to no gradient through" in found.verdict
    assert asked(Adam, net(activation), **L2, steps=20).outcome is Outcome.TOO_SLOW
    assert asked(AdamW, net(activation), **L2).outcome is Outcome.TOO_SLOW
    long = asked(AdamW, net(activation), **L2, steps=10**9)
    assert long.outcome is Outcome.DEPENDS


class NewGELUActivation(nn.Module):
    """By hand, as in libraries of language models: what is called is tanh."""

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        inside = (2 / torch.pi) ** 0.5 * (inputs + 0.044715 * inputs**3)
        return 0.5 * inputs * (1 + torch.tanh(inside))


class HardSwishMe(NewGELUActivation):
    """A name that has another in it."""


def test_a_fading_function_by_hand_is_known_by_the_name_of_its_class() -> None:
    found = asked(Adam, net(NewGELUActivation()), **L2)
    assert found.network.living == ("gelu", "tanh")
    assert found.outcome is Outcome.DEPENDS
    assert asked(Adam, net(HardSwishMe()), **L2).network.living == ("tanh",)


class Functional(nn.Module):
    """No module tells that it rectifies."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.one, self.two, self.function = nn.Linear(6, 5), nn.Linear(5, 3), function

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        return self.two(self.function(self.one(inputs)))


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (torch.relu, "relu"),
        (lambda it: it.relu(), "relu"),
        (nn.functional.relu6, "relu6"),
        (lambda it: it.clamp(min=0), "clamp at 0"),
        (lambda it: torch.clamp(it, 0), "clamp at 0"),
    ],
)
def test_functions_that_rectify_are_seen_with_example_inputs(
    function: Callable[[Tensor], Tensor], name: str
) -> None:
    model = Functional(function)
    optimizer = Adam(model.parameters(), **L2)
    assert diagnose(model, optimizer, X).network.dying == (name,)
    assert diagnose(model, optimizer).network.dying == ()
    assert "example inputs" in " ".join(diagnose(model, optimizer).findings)


def test_a_clamp_that_lets_negative_numbers_through_does_not_rectify() -> None:
    model = Functional(lambda it: it.clamp(min=-1))
    assert diagnose(model, Adam(model.parameters(), **L2), X).network.dying == ()


def test_a_module_that_is_never_called_tells_nothing_once_there_are_inputs() -> None:
    model = net(nn.Tanh())
    model.append(nn.Identity())
    model[-1].unused = nn.ReLU()
    optimizer = Adam(model.parameters(), **L2)
    assert diagnose(model, optimizer).network.dying == ("relu",)
    found = diagnose(model, optimizer, X, steps=10_000, gradient_rms=1e-3)
    assert found.network.dying == ()
    assert found.outcome is Outcome.UNLIKELY
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_activations_can_be_named_and_must_be_known() -> None:
    model = Functional(torch.relu)
    optimizer = Adam(model.parameters(), **L2)
    assert diagnose(model, optimizer, activations=["relu"]).network.dying == ("relu",)
    with pytest.raises(InputError, match="'gelus' is not known"):
        _ = diagnose(model, optimizer, activations=["gelus"])


def test_gradients_are_read_from_the_state_of_the_optimizer() -> None:
    model = net(norm=False)
    optimizer = Adam(model.parameters(), lr=1e-9, weight_decay=1e-12)
    for _ in range(20):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, 0.02)
        _ = optimizer.step()
    for part in diagnose(model, optimizer, X).parts:
        assert part.gradient_rms == pytest.approx(0.02, rel=1e-3)
        assert part.gradient_source == "state of the optimizer"


def test_parts_are_the_kinds_of_each_group() -> None:
    model = net()
    weights = [it for it in model.parameters() if it.dim() > 1]
    others = [it for it in model.parameters() if it.dim() == 1]
    groups: list[dict[str, Any]] = [{"params": weights}, {"params": others, "weight_decay": 0.0}]
    found = diagnose(model, Adam(groups, **L2), X)
    shown = [(part.group, part.kind, part.numbers, part.strength) for part in found.parts]
    assert shown == [
        (0, Kind.WEIGHT, 180, 1e-4),
        (1, Kind.BIAS, 23, 0.0),
        (1, Kind.GAMMA, 20, 0.0),
        (1, Kind.BETA, 20, 0.0),
    ]


def test_a_decay_that_is_rounded_away_is_counted() -> None:
    found = asked(AdamW, net(), lr=1e-4, weight_decay=1e-5)
    assert all(part.no_op_share in {1.0, None} for part in found.parts)
    model = net()
    with torch.no_grad():
        model.get_parameter("0.weight")[0] = 0.0  # zeros stay zeros, whatever the decay
    assert asked(AdamW, model, lr=1e-3, weight_decay=1e-2).parts[0].no_op_share == 0


def test_subnormal_numbers_are_counted_and_foretold() -> None:
    model = net()
    with torch.no_grad():
        model.get_parameter("0.weight")[0] = 1e-40
    found = asked(Adam, model, lr=1e-4, weight_decay=1e-4, steps=1_000_000)
    assert found.parts[0].subnormal == 6
    assert any("6 subnormal numbers" in line for line in found.findings)
    assert any("gamma: subnormal" in line for line in found.findings)


def test_what_the_optimizer_does_not_hold_is_named() -> None:
    model = net()
    stranger = nn.Parameter(torch.ones(1))
    held = [it for name, it in model.named_parameters() if name != "0.weight"]
    _ = model.get_parameter("0.bias").requires_grad_(False)  # noqa: FBT003 - torch's
    found = " ".join(diagnose(model, Adam([*held, stranger], **L2), X).findings)
    assert "does not hold 0.weight" in found
    assert "1 parameters of the optimizer are not the model's" in found
    assert "no gradient is asked for 0.bias" in found


def test_a_layer_that_is_dead_as_a_whole_is_named() -> None:
    model = net()
    with torch.no_grad():
        _ = model.get_parameter("1.weight").fill_(1e-7)
    assert "dead as a whole layer already: 1.weight" in asked(Adam, model, **L2).findings


def test_no_batch_norm_and_no_activation_are_said() -> None:
    found = " ".join(asked(Adam, nn.Sequential(nn.Linear(6, 3)), **L2).findings)
    assert "no batch norm" in found
    assert "no activation" in found


@pytest.mark.parametrize("training", [True, False])
def test_the_model_its_mode_buffers_and_the_random_state_stay(*, training: bool) -> None:
    model = nn.Sequential(net(), nn.Dropout()).train(training)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    random = torch.get_rng_state()
    optimizer = Adam(model.parameters(), **L2)
    _ = diagnose(model, optimizer, X)
    _ = gradient_sizes(model, [(X, torch.zeros(2, dtype=torch.int64))])
    with pytest.raises(InputError, match="does not run"):
        _ = diagnose(model, optimizer, torch.zeros(2, 7))
    assert {module.training for module in model.modules()} == {training}
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not optimizer.state


def test_a_model_that_only_runs_in_eval_mode_is_diagnosed() -> None:
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = net()

        @override
        def forward(self, inputs: Tensor) -> Tensor:
            assert not self.training
            return self.body(inputs)

    assert asked(Adam, Frozen(), **L2).outcome is Outcome.WILL_DIE


def test_gradient_sizes_are_root_mean_squares_over_elements_and_batches() -> None:
    model = nn.Linear(2, 1, bias=False)
    batches = [(torch.tensor([[1.0, 2.0]]), torch.zeros(1)), (torch.zeros(1, 2), torch.zeros(1))]
    found = gradient_sizes(model, batches, lambda out, _: out.sum())
    assert found == {"weight": pytest.approx(((1 + 4) / 2 / 2) ** 0.5)}


def test_gradients_of_no_batch_are_refused() -> None:
    with pytest.raises(InputError, match="smaller than one batch"):
        _ = gradient_sizes(net(), [])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"threshold": 0.0}, "threshold must be > 0"),
        ({"gradient_rms": -1.0}, "gradient_rms must be >= 0"),
        ({"gradient_rms": {"0.weight": float("nan")}}, "gradient_rms must be >= 0"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    model = net()
    with pytest.raises(ValueError, match=words):
        _ = diagnose(model, Adam(model.parameters()), **options)


def test_weights_that_are_no_numbers_are_refused() -> None:
    model = net()
    with torch.no_grad():
        model.get_parameter("0.weight")[0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"0\.weight has NaN"):
        _ = diagnose(model, Adam(model.parameters()))
    with pytest.raises(ModelError, match="no parameters"):
        _ = diagnose(nn.ReLU(), Adam(net().parameters()))


@pytest.mark.parametrize("model", [nn.Sequential(nn.LazyLinear(3)), net().to("meta")])
def test_weights_without_values_are_refused(model: nn.Module) -> None:
    with pytest.raises(ModelError, match="has no values yet"):
        _ = diagnose(model, Adam(net().parameters()))


def test_weights_that_are_zero_already_are_said() -> None:
    model = net(norm=False)
    with torch.no_grad():
        for parameter in model.parameters():
            _ = parameter.zero_()
    assert asked(Adam, model, **L2).verdict.startswith("Nothing is left to die")


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        (Adam, L2 | {"lr": 0.0}, "the learning rate is 0"),
        (AdamW, {"lr": 1.0, "weight_decay": 3.0}, "takes 3 of a weight"),
        (SGD, {"lr": 10.0, "weight_decay": 1.0}, "takes 10 of a weight"),
    ],
)
def test_rates_that_lead_nowhere_are_said(
    kind: Callable[..., Optimizer], options: dict[str, Any], words: str
) -> None:
    found = asked(kind, net(), **options)
    assert found.outcome is Outcome.WILL_NOT
    assert words in found.verdict


def test_coarse_numbers_are_said_to_swallow_small_steps() -> None:
    model = net().bfloat16()
    found = diagnose(model, Adam(model.parameters(), **L2), steps=10_000, gradient_rms=1e-3)
    assert {part.coarse for part in found.parts} == {"bfloat16"}
    assert any("bfloat16 rounds small steps away" in line for line in found.findings)
    assert {part.coarse for part in asked(Adam, net(), **L2).parts} == {None}


def test_a_decoupled_decay_that_would_be_enough_is_named() -> None:
    (_, advice) = asked(AdamW, net(), lr=1e-3, weight_decay=1e-3, steps=10_000).more
    enough = float(advice.split("=")[1].split(",")[0])
    again = asked(AdamW, net(), lr=1e-3, weight_decay=1.02 * enough, steps=10_000)
    assert again.outcome is Outcome.WILL_DIE


@pytest.mark.parametrize("name", VERDICTS)
def test_a_diagnosis_is_json(name: str) -> None:
    kind, options, outcome = VERDICTS[name]
    found = asked(kind, net(), **options)
    again = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert again["outcome"] == outcome.value
    assert len(again["parts"]) == len(found.parts)


def test_few_units_die_where_silence_must_come_in_the_first_half() -> None:
    soon = asked(Adam, net(), **L2).parts[0].steps
    assert soon is not None

    def outcome_of(run: int) -> Outcome:
        # The gradients count as having lasted for half the run: long runs change the time a little.
        return asked(Adam, net(), **L2, steps=run).outcome

    found = [outcome_of(round(soon * share)) for share in (0.9, 1.1, 1.9, 2.1)]
    assert found == [Outcome.TOO_SLOW, Outcome.FEW, Outcome.FEW, Outcome.WILL_DIE]
    few = asked(Adam, net(), **L2, steps=round(1.5 * soon))
    part = min((it for it in few.parts if it.layers), key=lambda it: it.steps or 0)
    assert part.steps is not None
    assert f"silent by step {round(1.5 * soon) - part.steps:,.0f}" in few.verdict
    assert few.less
    (advice,) = (line for line in few.more if line.startswith("beta2"))
    shorter = (0.9, float(advice.split()[1].rstrip(":")))
    again = asked(Adam, net(), **L2, steps=round(1.5 * soon), betas=shorter)
    assert again.outcome is Outcome.WILL_DIE
