"""compact(optimizer=, ema=): what belongs to the dense model goes on with the compacted one."""

import copy
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from typing_extensions import override

import abscise
from abscise._errors import ModelError
from abscise.compaction import Plan, restructure
from abscise.compaction._carried import carried_optimizer
from support.shrinking import CASES, OPTIMIZERS, apart, batch, example, kill_, train, twin

# The coverage tracer would double their time; other tests run the same code.
pytestmark = pytest.mark.no_cover

KEYS = {
    "sgd": {"momentum_buffer"},
    "adam": {"exp_avg", "exp_avg_sq"},
    "adadelta": {"square_avg", "acc_delta"},
    "centred": {"square_avg", "momentum_buffer", "grad_avg"},
}


def compacted(model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
    result = abscise.compact(model, example(), optimizer=optimizer)
    assert result.certificate.passed
    assert result.optimizer is not None
    return result.model, result.optimizer


@cache
def plan_of(case: str) -> Plan:
    plan = abscise.propose(CASES[case].build(), example())
    assert (plan.removed_units, plan.folds) == (CASES[case].removed, ())
    return plan


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("case", CASES)
def test_dense_and_compacted_model_train_on_alike(case: str, kind: str) -> None:
    model = CASES[case].build()
    optimizer = OPTIMIZERS[kind](model.parameters())
    _ = train(model, optimizer, 5)
    small = restructure(plan_of(case), model)
    own = carried_optimizer(optimizer, model, small, plan_of(case))
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())
    dense = train(model, optimizer, 20, 5)
    assert apart(train(small, own, 20, 5), dense) < 1e-9


def test_a_state_that_was_forgotten_or_belonged_to_others_would_be_seen() -> None:
    model = CASES["mlp"].build()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    _ = train(model, optimizer, 5)
    small, own = compacted(model, optimizer)
    fresh = copy.deepcopy(small)
    shifted, other = twin(small, own)
    for held in other.state.values():
        held["exp_avg"] = held["exp_avg"].roll(1, 0)
    dense = train(model, optimizer, 20, 5)
    assert apart(train(fresh, OPTIMIZERS["adam"](fresh.parameters()), 20, 5), dense) > 1e-3
    assert apart(train(shifted, other, 20, 5), dense) > 1e-3


def test_a_live_unit_that_was_cut_would_be_seen() -> None:
    model = CASES["mlp"].build()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    kill_(model, [("3.weight", (5,))])  # its bias lives: a constant that has a gradient
    _ = train(model, optimizer, 5)
    with torch.no_grad():
        kill_(model, [("3.weight", (5,))])
        model.get_parameter("3.bias")[5] = 0.5
    small, own = compacted(model, optimizer)
    assert apart(train(small, own, 20, 5), train(model, optimizer, 20, 5)) > 1e-3


@pytest.mark.parametrize("kind", KEYS)
def test_each_state_is_that_of_the_parameter_s_own_elements(kind: str) -> None:
    model = CASES["conv-bn"].build()
    optimizer = OPTIMIZERS[kind](model.parameters())
    _ = train(model, optimizer, 3)
    small, own = compacted(model, optimizer)
    rows, columns = [1, 2, 3], [0, 2, 3, 5]
    for name, index in (("1.weight", columns), ("4.bias", rows)):
        old = optimizer.state[model.get_parameter(name)]
        new = own.state[small.get_parameter(name)]
        assert {k for k, v in new.items() if isinstance(v, Tensor) and v.ndim} == KEYS[kind]
        for key in KEYS[kind]:
            assert torch.equal(new[key], old[key][index])
            assert new[key].data_ptr() != old[key].data_ptr()
        assert new.get("step") == old.get("step")
    old = optimizer.state[model.get_parameter("4.weight")]
    new = own.state[small.get_parameter("4.weight")]
    for key in KEYS[kind]:
        assert torch.equal(new[key], old[key][rows][:, columns])


def test_the_given_optimizer_and_its_state_stay_as_they_were() -> None:
    model = CASES["mlp"].build()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    _ = train(model, optimizer, 3)
    before = copy.deepcopy(optimizer.state_dict())
    _ = train(*compacted(model, optimizer), 3)
    after = optimizer.state_dict()
    assert before["param_groups"] == after["param_groups"]
    for place, held in before["state"].items():
        assert all(torch.equal(value, after["state"][place][key]) for key, value in held.items())


def test_states_lie_in_memory_as_their_parameters_do() -> None:
    model = CASES["conv-bn"].build().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = OPTIMIZERS["fused"](model.parameters())
    _ = train(model, optimizer, 3)
    small, own = compacted(model, optimizer)
    for parameter in small.parameters():
        for key in ("exp_avg", "exp_avg_sq"):
            assert own.state[parameter][key].stride() == parameter.stride()
    weight = small.get_parameter("4.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    assert apart(train(small, own, 20, 3), train(model, optimizer, 20, 3)) < 1e-9


def test_groups_keep_their_options_and_parameters_outside_the_model_stay() -> None:
    model = CASES["mlp"].build()
    temperature = nn.Parameter(torch.ones((), dtype=torch.float64))
    first, *rest = model.parameters()
    groups: list[dict[str, Any]] = [
        {"params": [first], "lr": 0.5, "weight_decay": 0.25},
        {"params": rest},
        {"params": [temperature], "lr": 0.125},
    ]
    optimizer = AdamW(groups, lr=0.01)
    small, own = compacted(model, optimizer)
    assert type(own) is AdamW
    assert [group["lr"] for group in own.param_groups] == [0.5, 0.01, 0.125]
    assert own.param_groups[0]["weight_decay"] == 0.25
    assert own.param_groups[0]["params"] == [small.get_parameter("1.weight")]
    assert own.param_groups[2]["params"][0] is temperature
    held = [id(it) for group in own.param_groups[:2] for it in group["params"]]
    assert held == [id(it) for it in small.parameters()]


def test_a_tied_parameter_is_carried_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.read = nn.Linear(72, 6)
            self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)
            self.two.weight = self.one.weight
            self.classes = nn.Linear(6, 3)

        @override
        def forward(self, images: Tensor) -> Tensor:
            hidden = self.read(images.flatten(1)).relu()
            return self.classes(self.two(self.one(hidden).relu()).relu())

    model = Tied().double()
    for layer in (model.read, model.one, model.two):
        kill_(layer, [("weight", (4,)), ("bias", (4,))])
    optimizer = Adam(model.parameters(), 0.01)
    _ = train(model, optimizer, 3)
    small, own = compacted(model, optimizer)
    assert isinstance(small, Tied)
    assert small.one.weight is small.two.weight
    assert small.one.weight.shape == (5, 5)
    assert own.state[small.one.weight]["exp_avg"].shape == (5, 5)
    assert len(own.param_groups[0]["params"]) == len(list(small.parameters()))
    assert apart(train(small, own, 20, 3), train(model, optimizer, 20, 3)) < 1e-9


def test_a_new_bias_joins_the_group_of_its_weight() -> None:
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(72, 6), nn.ReLU(), nn.Linear(6, 5, bias=False), nn.Linear(5, 3)
    ).double()
    kill_(model, [("1.weight", (2,))])
    with torch.no_grad():
        model.get_parameter("1.bias")[2] = 0.75
    optimizer = SGD([{"params": model[1].parameters()}, {"params": model[3:].parameters()}], 0.1)
    small, own = compacted(model, optimizer)
    bias = small.get_parameter("3.bias")
    assert [it is bias for it in own.param_groups[1]["params"]] == [False, False, False, True]
    before = bias.detach().clone()
    _ = train(small, own, 1)
    assert not torch.equal(bias, before)


class Selecting(nn.Module):
    """A stream of 16 of which `three` reads only some, while `classes` reads all."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(2, 16, 3, padding=1)
        self.three = nn.Conv2d(16, 16, 3, padding=1)
        self.classes = nn.Linear(32, 3)

    @override
    def forward(self, images: Tensor) -> Tensor:
        stream = self.one(images).relu()
        both = torch.cat([self.three(stream).relu(), stream], 1)
        return self.classes(both.mean((2, 3)))


def test_selected_inputs_keep_their_state_also_a_second_time() -> None:
    model = Selecting().double()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    _ = train(model, optimizer, 3)
    with torch.no_grad():
        _ = model.three.weight[:, :8].zero_()
    old = optimizer.state[model.three.weight]["exp_avg_sq"]
    small, own = compacted(model, optimizer)
    assert isinstance(small, Selecting)
    assert small.three.get_buffer("kept_inputs").tolist() == list(range(8, 16))
    assert torch.equal(own.state[small.three.weight]["exp_avg_sq"], old[:, 8:])
    _ = train(small, own, 2)
    with torch.no_grad():
        small.three.weight[:, [1, 5]] = 0.0
    held = own.state[small.three.weight]["exp_avg_sq"]
    again, last = compacted(small, own)
    assert isinstance(again, Selecting)
    kept = [place for place in range(8) if place not in (1, 5)]
    assert again.three.get_buffer("kept_inputs").tolist() == [place + 8 for place in kept]
    assert torch.equal(last.state[again.three.weight]["exp_avg_sq"], held[:, kept])
    _ = train(again, last, 2)


class Custom(Optimizer):
    """Keeps a number per row, as factored optimizers do."""

    def __init__(self, parameters: Any, held: Any) -> None:
        super().__init__(parameters, {})
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["rows"] = held(parameter)

    @override
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        del closure


@pytest.mark.parametrize(
    ("held", "told"),
    [
        (lambda p: torch.zeros(p.shape[0], 2), r"rows of 1.weight.*\[12, 72\].*\[12, 2\]"),
        (lambda p: [torch.zeros_like(p)], "rows of 1.weight.*got a list"),
    ],
)
def test_a_state_of_unknown_shape_is_refused_by_name(held: Any, told: str) -> None:
    model = CASES["mlp"].build()
    with pytest.raises(ModelError, match=told):
        _ = abscise.compact(model, example(), optimizer=Custom(model.parameters(), held))
    whole = Custom(model.get_submodule("5").parameters(), lambda p: torch.zeros(p.shape[0], 2))
    kill_(model, [("1.weight", (1,)), ("1.bias", (1,))])
    with pytest.raises(ModelError, match=r"rows of 5.weight"):
        _ = abscise.compact(model, example(), optimizer=whole)


def test_states_of_parameters_that_nothing_is_cut_from_may_have_any_shape() -> None:
    model = CASES["mlp"].build()
    optimizer = Custom([model.get_parameter("5.bias")], lambda _: {"any": 1})
    result = abscise.compact(model, example(), optimizer=optimizer)
    assert result.optimizer is not None
    held = result.optimizer.state[result.model.get_parameter("5.bias")]
    assert held == {"rows": {"any": 1}}


def averaged(model: nn.Module) -> dict[str, Tensor]:
    """An average that lags behind: in it the dead units still live a little."""
    generator = torch.Generator().manual_seed(5)
    return {
        name: tensor + 0.01 * torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype)
        for name, tensor in model.state_dict().items()
        if tensor.is_floating_point()
    }


def as_module(model: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    result = copy.deepcopy(model)
    _ = result.load_state_dict(dict(tensors), strict=False)
    return result


def constants_in(model: nn.Module) -> None:
    """Scales of 0, with a shift that has to be folded."""
    with torch.no_grad():
        model.get_parameter("5.weight")[1] = 0.0
        model.get_parameter("5.bias")[1] = 0.5


def test_an_average_is_cut_and_folded_whatever_its_form() -> None:
    model = CASES["conv-bn"].build()
    constants_in(model)
    tensors = averaged(model)
    wrapped = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    _ = wrapped.module.load_state_dict(tensors, strict=False)
    forms: list[Any] = [tensors, as_module(model, tensors), wrapped]
    results = [abscise.compact(model, example(), ema=form) for form in forms]
    small = results[0].model
    shapes = {name: tensor.shape for name, tensor in small.state_dict().items()}
    by_name, plain, average = (result.ema for result in results)
    assert isinstance(by_name, dict)
    assert {name: tensor.shape for name, tensor in by_name.items()}.items() <= shapes.items()
    assert isinstance(plain, nn.Module)
    assert isinstance(average, AveragedModel)
    x = example()
    one = as_module(small, by_name).eval()(x)
    assert torch.equal(one, plain.eval()(x))
    assert torch.equal(one, average.module.eval()(x))
    # The same as the dense average, with the model's values in what is removed.
    dense = as_module(model, tensors).eval()
    with torch.no_grad():
        for name, rows in (("1", [1, 4]), ("5", [0, 1])):
            for leaf in ("weight", "bias", "running_mean", "running_var"):
                target = dense.state_dict()[f"{name}.{leaf}"]
                target[rows] = model.state_dict()[f"{name}.{leaf}"][rows]
        columns = [place for unit in (0, 1) for place in range(unit * 9, unit * 9 + 9)]
        dense.state_dict()["8.weight"][:, columns] = model.state_dict()["8.weight"][:, columns]
    assert torch.allclose(one, dense(x), rtol=0, atol=1e-12)
    assert not torch.allclose(one, as_module(model, tensors).eval()(x), rtol=0, atol=1e-6)


def test_the_new_average_goes_on() -> None:
    model = CASES["conv-bn"].build()
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    optimizer = OPTIMIZERS["adam"](model.parameters())
    for step in range(3):
        _ = train(model, optimizer, 1, step)
        average.update_parameters(model)
    result = abscise.compact(model, example(), optimizer=optimizer, ema=average)
    assert result.optimizer is not None
    assert isinstance(result.ema, AveragedModel)
    assert int(result.ema.n_averaged) == 3
    for step in range(3, 6):
        _ = train(result.model, result.optimizer, 1, step)
        result.ema.update_parameters(result.model)
        _ = train(model, optimizer, 1, step)
        average.update_parameters(model)
    x, _ = batch(77)
    with torch.no_grad():
        kept = torch.allclose(average.eval()(x), result.ema.eval()(x), rtol=0, atol=1e-9)
    assert kept


@pytest.mark.parametrize(
    ("ema", "told"),
    [
        ({"1.weight": torch.zeros(3)}, r"1.weight is \[3\], in the model \[12, 72\]"),
        ({"ghost": torch.zeros(3)}, "ghost.*no such name"),
        (nn.Linear(2, 2), "Linear holds other parameters than Sequential"),
    ],
)
def test_an_average_of_something_else_is_refused(ema: Any, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        _ = abscise.compact(CASES["mlp"].build(), example(), ema=ema)
