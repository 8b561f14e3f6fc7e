"""Dead for the outputs is not dead for training; which units are is told apart exactly."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

import abscise
from abscise._inputs import as_inputs
from abscise.compaction import unit_map
from abscise.graph import analyse
from abscise.shrinking._dead import dead_units
from support.shrinking import CASES, batch, example, kill_
from support.small import Calls

Rows = Sequence[tuple[str, tuple[int, ...]]]


def dead(
    model: nn.Module, optimizer: Optimizer, zeroed: dict[str, Tensor] | None = None
) -> set[tuple[str, int]]:
    """(layer, index) of the units that are dead for training."""
    analysis = analyse(model, as_inputs(example()))
    labels = analysis.labels
    found = dead_units(analysis, model, optimizer, labels.candidates, zeroed or {})
    homes = unit_map(analysis).homes()
    return {homes[unit] for unit in np.flatnonzero(found.units).tolist()}


def mlp(activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    with torch.random.fork_rng():
        _ = torch.manual_seed(0)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(72, 6), activation(), nn.Linear(6, 4), activation(),
            nn.Linear(4, 3),
        ).double()  # fmt: skip


def norm(shift: float) -> nn.Sequential:
    """Unit 1 of layer 0 has the scale 0 and this shift; unit 4 both 0."""
    with torch.random.fork_rng():
        _ = torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(2, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
            nn.MaxPool2d(2), nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4), nn.ReLU(),
            nn.Flatten(), nn.Linear(4, 3),
        ).double()  # fmt: skip
    kill_(model, [("1.weight", (1, 4)), ("1.bias", (1, 4))])
    with torch.no_grad():
        model.get_parameter("1.bias")[1] = shift
    return model


def sgd(parameters: Iterable[Tensor]) -> Optimizer:
    return SGD(parameters, 0.1)


@pytest.mark.parametrize(
    ("shift", "alive"), [(0.0, False), (-0.5, False), (0.5, True), (-0.0, False)]
)
def test_a_scale_of_zero_is_dead_for_training_unless_its_shift_gets_through(
    shift: float, *, alive: bool
) -> None:
    model = norm(shift)
    expected = {("0", 4)} if alive else {("0", 1), ("0", 4)}
    assert dead(model, sgd(model.parameters())) == expected
    assert abscise.propose(model, example()).removed_units == 2  # for the outputs both are


def test_autograd_agrees_about_which_units_get_a_gradient() -> None:
    for shift, alive in ((-0.5, False), (0.5, True)):
        model = norm(shift)
        images, labels = batch(0)
        cross_entropy(model(images), labels).backward()
        for name in ("0.weight", "1.weight", "1.bias"):
            gradient = model.get_parameter(name).grad
            assert gradient is not None
            assert not gradient[4].any()
        gradient = model.get_parameter("1.bias").grad
        assert gradient is not None
        assert bool(gradient[1] != 0) == alive


@pytest.mark.parametrize(
    ("make", "lasts"),
    [
        (lambda it: SGD(it, 0.1), True),
        (lambda it: SGD(it, 0.1, momentum=0.9, weight_decay=1e-3), True),
        (lambda it: SGD(it, 0.1, momentum=0.9, nesterov=True, weight_decay=1e-3), True),
        (lambda it: SGD(it, 0.1, momentum=0.9, weight_decay=1.0), False),
        (lambda it: Adam(it, 0.1), True),
        (lambda it: AdamW(it, 0.1, weight_decay=0.1), True),
        (lambda it: Adam(it, 0.1, weight_decay=0.1), False),
        (lambda it: RMSprop(it, 0.1, weight_decay=0.1), False),
    ],
)
def test_a_negative_shift_serves_only_where_the_optimizer_lets_it_stay_below_zero(
    make: Callable[[Any], Optimizer], *, lasts: bool
) -> None:
    model = norm(-0.05)
    optimizer = make(model.parameters())
    assert (("0", 1) in dead(model, optimizer)) == lasts
    shift = model.get_parameter("1.bias")
    highest = -1.0
    for _ in range(60):  # what the decay does by itself
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        _ = optimizer.step()
        highest = max(highest, float(shift[1].detach()))
    assert (highest <= 0) == lasts


def test_a_zero_with_momentum_is_not_at_rest_unless_it_is_about_to_be_snapped() -> None:
    model = mlp()
    kill_(model, [("1.weight", (2, 5)), ("1.bias", (2, 5))])
    optimizer = SGD(model.parameters(), 0.1, momentum=0.9)
    for parameter in model.parameters():
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    optimizer.state[model.get_parameter("1.weight")]["momentum_buffer"][2, 7] = 1e-30
    assert dead(model, optimizer) == {("1", 5)}
    rows = torch.zeros(6, 72, dtype=torch.bool)
    rows[2] = True
    assert dead(model, optimizer, {"1.weight": rows}) == {("1", 2), ("1", 5)}


@pytest.mark.parametrize(
    ("activation", "outgoing", "expected"),
    [
        (nn.ReLU, False, True),
        (nn.ReLU6, False, True),
        (nn.Tanh, False, False),
        (nn.Tanh, True, True),
        (nn.GELU, False, False),
        (nn.GELU, True, True),
        (nn.LeakyReLU, False, False),
        (nn.Sigmoid, True, False),
    ],
)
def test_with_a_slope_at_zero_only_incoming_and_outgoing_zeros_together_are_dead(
    activation: type[nn.Module], *, outgoing: bool, expected: bool
) -> None:
    model = mlp(activation)
    kill_(model, [("1.weight", (3,)), ("1.bias", (3,))])
    if outgoing:
        with torch.no_grad():
            model.get_parameter("3.weight")[:, 3] = 0.0
    assert (("1", 3) in dead(model, sgd(model.parameters()))) == expected


def test_outgoing_zeros_alone_are_not_dead() -> None:
    model = mlp()
    with torch.no_grad():
        model.get_parameter("3.weight")[:, 3] = 0.0
    assert dead(model, sgd(model.parameters())) == set()
    assert abscise.propose(model, example()).removed_units == 1


def test_a_zero_row_before_a_norm_is_not_dead_while_its_scale_lives() -> None:
    model = CASES["conv-bn"].build()
    with torch.no_grad():
        model.get_parameter("0.weight")[0] = 0.0
        model.get_parameter("1.bias")[0] = 0.0
        mean = model.get_buffer("1.running_mean")
        mean[0] = 100.0  # in eval mode far below 0; in train mode 0
    assert dead(model, sgd(model.parameters())) == {("0", 1), ("0", 4), ("4", 0)}
    assert abscise.propose(model, example()).removed_units == 4


def test_a_zero_that_a_gradient_moves_is_not_relied_on() -> None:
    # Unit 3 is read by one unit only, whose scale is 0 but whose shift lives: that scale will grow.
    model = norm(0.5)
    with torch.no_grad():
        model.get_parameter("4.weight")[1:, 3] = 0.0
        model.get_parameter("5.weight")[0] = 0.0
        model.get_parameter("5.bias")[0] = 0.5
    assert dead(model, sgd(model.parameters())) == {("0", 4)}
    assert abscise.propose(model, example()).removed_units == 4
    with torch.no_grad():  # at rest for ever; but the zeros in the rows of live readers have one
        model.get_parameter("5.bias")[0] = -0.5
    assert dead(model, sgd(model.parameters())) == {("0", 4), ("4", 0)}


def test_a_sum_of_constants_that_happens_to_vanish_is_not_relied_on() -> None:
    def forward(self: Any, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        return self.last(relu(self.one(flat) + self.two(flat)))

    def built(first: float, second: float) -> nn.Module:
        model = Calls(forward, one=nn.Linear(72, 4), two=nn.Linear(72, 4), last=nn.Linear(4, 3))
        kill_(model, [("one.weight", (1,)), ("two.weight", (1,))])
        with torch.no_grad():
            model.one.bias[1], model.two.bias[1] = first, second
        return model.double()

    for pair, expected in (
        ((0.0, 0.0), True), ((-0.5, -0.25), True), ((0.5, -0.5), False), ((0.5, -2.0), False)
    ):  # fmt: skip
        model = built(*pair)
        assert (("one", 1) in dead(model, sgd(model.parameters()))) == expected
        assert abscise.propose(model, example()).removed_units == 1


def test_a_floor_or_a_number_that_is_added_makes_no_lasting_zero() -> None:
    for function in (
        torch.floor,
        lambda it: torch.nn.functional.relu6(it + 3) / 6 * it,
        lambda it: torch.clamp(it, min=-1.0),
    ):

        def forward(self: Any, images: Tensor, function: Any = function) -> Tensor:
            return self.last(function(self.one(images.flatten(1))))

        model = Calls(forward, one=nn.Linear(72, 4), last=nn.Linear(4, 3)).double()
        kill_(model, [("one.weight", (1,))])
        with torch.no_grad():
            model.one.bias[1] = -4.0
        assert dead(model, sgd(model.parameters())) == set()


def test_a_gate_of_zero_does_not_kill_what_opens_it() -> None:
    def forward(self: Any, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        return self.last(relu(self.one(flat)) * self.gate(flat))

    model = Calls(
        forward, one=nn.Linear(72, 4), gate=nn.Linear(72, 4), last=nn.Linear(4, 3)
    ).double()  # fmt: skip
    kill_(model, [("gate.weight", (1, 2)), ("gate.bias", (1, 2))])
    kill_(model, [("one.weight", (2,)), ("one.bias", (2,))])
    assert dead(model, sgd(model.parameters())) == {("one", 2)}


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 12))]
)
def test_what_is_called_dead_gets_no_gradient_for_any_batch(seed: int) -> None:
    """Random zeros, random signs; autograd is the judge, now and after steps of training."""
    generator = torch.Generator().manual_seed(seed)
    model = CASES["residual"].build(seed=seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 and "classes" not in name:
                chosen = torch.rand(len(parameter), generator=generator)
                parameter[chosen < 0.5] = 0.0
                parameter[chosen > 0.85] = -0.5
    optimizer = AdamW(model.parameters(), 0.05, weight_decay=0.1)
    found = dead(model, optimizer)
    units = abscise.find_units(model, example())
    ids = [int(units.layers[layer][index]) for layer, index in found]
    for step in range(8):
        images, labels = batch(step)
        optimizer.zero_grad()
        cross_entropy(model(images), labels).backward()
        for unit in ids:
            for (name, axis), places in units.members(unit).items():
                if not name.endswith(("weight", "bias")):
                    continue
                gradient = model.get_parameter(name).grad
                assert gradient is not None
                assert not gradient.index_select(axis, torch.tensor(places)).any()
        _ = optimizer.step()
    assert found  # the law says nothing about an empty set
