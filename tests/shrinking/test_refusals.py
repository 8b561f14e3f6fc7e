"""What cannot be shrunk while training is refused in words, and left as it was."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import relu
from torch.optim import LBFGS, SGD, Adafactor, Adam, Optimizer
from torch.optim.swa_utils import AveragedModel
from typing_extensions import override

import abscise
from abscise._errors import ModelError
from support.shrinking import CASES, batch, example, kill_, shrinking, train
from support.small import Calls


def mlp() -> nn.Module:
    return CASES["mlp"].build()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"every": 0}, "every must be >= 1, got 0"),
        ({"patience": 0}, "patience must be >= 1, got 0"),
        ({"at_least": 0}, "at_least must be >= 1, got 0"),
        ({"snap": -1e-3}, "snap must be a finite number >= 0, got -0.001"),
        ({"snap": math.nan}, "snap must be a finite number >= 0, got nan"),
    ],
)
def test_a_number_out_of_range_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        _ = abscise.ShrinkWhileTraining(example(), **options)


def test_a_pattern_of_what_to_keep_that_names_nothing_is_refused() -> None:
    model = mlp()
    with pytest.raises(ValueError, match="keep pattern 'ghost' matches no layer"):
        _ = shrinking(model, SGD(model.parameters(), 0.1), keep=("ghost",))


def test_what_is_to_be_kept_stays() -> None:
    model = mlp()
    optimizer = SGD(model.parameters(), 0.1)
    attachment = shrinking(model, optimizer, keep=("1",))
    _ = train(model, optimizer, 2)
    assert [it.removed for it in attachment.worker.shrinks] == [1]
    assert model.get_parameter("1.weight").shape == (12, 72)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (Adafactor, "does not know what Adafactor does to the rest"),
        (LBFGS, "LBFGS searches along lines"),
    ],
)
def test_an_optimizer_that_mixes_elements_is_refused(make: Any, told: str) -> None:
    model = mlp()
    with pytest.raises(TypeError, match=told):
        _ = shrinking(model, make(model.parameters()))


def test_a_state_that_cannot_be_cut_is_refused_before_there_is_anything_to_cut() -> None:
    model = mlp()
    optimizer = SGD(model.parameters(), 0.1)
    optimizer.state[model.get_parameter("3.weight")]["rows"] = torch.zeros(8)
    with pytest.raises(ModelError, match=r"rows of 3.weight must have the shape \[8, 12\].*\[8\]"):
        _ = shrinking(model, optimizer)


def test_a_parameter_of_another_optimizer_is_refused() -> None:
    model = mlp()
    with pytest.raises(ModelError, match=r"5.weight is not in the optimizer"):
        _ = shrinking(model, SGD([*model.parameters()][:4], 0.1))


def test_a_branch_that_only_training_reads_is_refused() -> None:
    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.last = nn.Linear(72, 6), nn.Linear(6, 3)
            self.extra = nn.Linear(6, 3)

        @override
        def forward(self, images: Tensor) -> Tensor:
            hidden = relu(self.one(images.flatten(1)))
            return self.last(hidden) + (self.extra(hidden) if self.training else 0)

    model = Auxiliary().double()
    with pytest.raises(ModelError, match=r"extra.weight takes no part in forward in eval mode"):
        _ = shrinking(model, SGD(model.parameters(), 0.1))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what torch.compile imports
def test_a_compiled_or_wrapped_model_is_refused() -> None:
    model = mlp()
    optimizer = SGD(model.parameters(), 0.1)
    compiled: Any = torch.compile(model)
    with pytest.raises(ValueError, match="is compiled for its sizes"):
        _ = shrinking(compiled, optimizer)
    with pytest.raises(ValueError, match="DataParallel keeps copies of the weights"):
        _ = shrinking(nn.DataParallel(model), optimizer)


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = mlp()
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(ValueError, match="several processes train this model"):
        _ = shrinking(model, SGD(model.parameters(), 0.1))
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 1)
    with pytest.raises(ValueError, match="AlphaDropout"):  # so the processes were no reason
        _ = shrinking(nn.Sequential(model, nn.AlphaDropout()), SGD(model.parameters(), 0.1))


def test_a_dropout_that_makes_numbers_of_zeros_is_refused() -> None:
    model = nn.Sequential(mlp(), nn.AlphaDropout())
    with pytest.raises(ValueError, match="1: AlphaDropout makes other numbers of 0"):
        _ = shrinking(model, SGD(model.parameters(), 0.1))


def test_a_compacted_model_whose_layers_select_is_refused() -> None:
    def forward(self: Any, images: Tensor) -> Tensor:
        stream = relu(self.one(images))
        both = torch.cat([relu(self.three(stream)), stream], 1)
        return self.last(both.mean((2, 3)))

    model = Calls(
        forward,
        one=nn.Conv2d(2, 16, 3),
        three=nn.Conv2d(16, 16, 3, padding=1),
        last=nn.Linear(32, 3),
    ).double()
    with torch.no_grad():
        model.three.weight[:, :8] = 0.0
    small = abscise.compact(model, example()).model
    with pytest.raises(ValueError, match=r"three.weight reads a selection of its inputs already"):
        _ = shrinking(small, SGD(small.parameters(), 0.1))


def test_two_of_one_kind_do_not_disturb_each_other_but_one_attached_twice_is_refused() -> None:
    model = mlp()
    optimizer = SGD(model.parameters(), 0.1)
    options = abscise.ShrinkWhileTraining(example(), every=1)
    _ = abscise.attach(options, optimizer, model)
    with pytest.raises(ValueError, match="already attached to this optimizer"):
        _ = abscise.attach(options, optimizer, model)


@pytest.mark.parametrize(
    ("ema", "told"),
    [
        ({"ghost": torch.zeros(1)}, "ema: ghost"),
        (nn.Linear(1, 1), "ema: Linear holds other parameters"),
    ],
)
def test_an_average_of_something_else_is_refused(ema: Any, told: str) -> None:
    model = mlp()
    with pytest.raises(ModelError, match=told):
        _ = shrinking(model, SGD(model.parameters(), 0.1), ema=ema)


def test_a_layer_that_dies_wholly_keeps_one_unit_and_says_so() -> None:
    model = mlp()
    kill_(model, [("3.weight", range(8)), ("3.bias", range(8))])  # type: ignore[list-item]
    optimizer = SGD(model.parameters(), 0.1)
    said: list[str] = []
    attachment = shrinking(model, optimizer, observer=lambda it: said.append(str(it)))
    losses = train(model, optimizer, 3)
    assert all(math.isfinite(loss) for loss in losses)
    (shrink,) = attachment.worker.shrinks
    layer = next(it for it in shrink.layers if it.layer == "3")
    assert (layer.removed, layer.left, layer.died) == (7, 1, True)
    assert "all of 3 is dead, one unit stays" in said[0]
    assert model.get_parameter("5.weight").shape == (3, 1)


def averaged(form: str, model: nn.Module) -> Any:
    if form == "module":
        return copy.deepcopy(model)
    if form == "averaged":
        return AveragedModel(model)
    return {name: it.detach().clone() for name, it in model.named_parameters()}


def tensors_of(average: Any) -> list[Tensor]:
    return list(average.values() if isinstance(average, dict) else average.parameters())


@pytest.mark.parametrize("form", ["module", "averaged", "names"])
def test_a_running_average_follows_and_goes_on(form: str) -> None:
    results = []
    for attached in (True, False):
        model = CASES["conv-bn"].build()
        optimizer = Adam(model.parameters(), 0.01)
        average = averaged(form, model)
        held = tensors_of(average)
        if attached:
            _ = shrinking(model, optimizer, every=2, ema=average)
        for step in range(5):
            _ = train(model, optimizer, 1, step)
            _follow(average, model)
        assert [id(it) for it in tensors_of(average)] == [id(it) for it in held]
        assert ((6, 2, 3, 3) in {tuple(it.shape) for it in held}) != attached
        named = average if isinstance(average, dict) else dict(average.named_parameters())
        _ = model.load_state_dict(
            {name.removeprefix("module."): it for name, it in named.items()}, strict=False
        )
        results.append(model.eval()(example()))
    assert torch.allclose(results[0], results[1], rtol=0, atol=1e-9)


def _follow(average: Any, model: nn.Module) -> None:
    if isinstance(average, AveragedModel):
        average.update_parameters(model)
        return
    named = average if isinstance(average, dict) else dict(average.named_parameters())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            _ = named[name].lerp_(parameter, 0.1)


class Squares(nn.Module):
    """Its forward compares a size with a number: no unit of `one` may go."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.last = nn.Linear(72, 6), nn.Linear(6, 3)

    @override
    def forward(self, images: Tensor) -> Tensor:
        hidden = relu(self.one(images.flatten(1)))
        return self.last(hidden / hidden.shape[1])


def test_units_that_forward_counts_stay() -> None:
    model = Squares().double()
    kill_(model, [("one.weight", (1,)), ("one.bias", (1,))])
    optimizer: Optimizer = SGD(model.parameters(), 0.1)
    attachment = shrinking(model, optimizer)
    _ = train(model, optimizer, 2)
    assert attachment.worker.shrinks == []
    assert model.one.out_features == 6
    images, _ = batch(0)
    assert model(images).shape == (8, 3)
