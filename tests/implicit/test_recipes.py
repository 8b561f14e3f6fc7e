"""Each recipe equals its update written by hand, in float64, in both forms of decay."""

import copy
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from abscise import implicit
from abscise.implicit import Decay, Kind, Strengths, read_rule
from abscise.implicit import _recipes as recipes

LR, STEPS = 0.05, 7
STRENGTHS = Strengths(weights=0.02, biases=0.0, gamma=0.01, beta=0.005)
State = dict[str, Tensor]


def zero(state: State, name: str, like: Tensor) -> Tensor:
    return state.setdefault(name, torch.zeros_like(like))


def adam(gradient: Tensor, state: State, step: int) -> Tensor:
    first, second = zero(state, "first", gradient), zero(state, "second", gradient)
    state["first"] = 0.9 * first + 0.1 * gradient
    state["second"] = 0.999 * second + 0.001 * gradient**2
    root = (state["second"] / (1 - 0.999**step)).sqrt() + 1e-8
    return state["first"] / (1 - 0.9**step) / root


def rmsprop(gradient: Tensor, state: State, step: int) -> Tensor:
    del step
    state["second"] = 0.99 * zero(state, "second", gradient) + 0.01 * gradient**2
    return gradient / (state["second"].sqrt() + 1e-8)


def adadelta(gradient: Tensor, state: State, step: int) -> Tensor:
    del step
    state["second"] = 0.9 * zero(state, "second", gradient) + 0.1 * gradient**2
    moved = zero(state, "moved", gradient)
    update = ((moved + 1e-6) / (state["second"] + 1e-6)).sqrt() * gradient
    state["moved"] = 0.9 * moved + 0.1 * update**2
    return update


def adagrad(gradient: Tensor, state: State, step: int) -> Tensor:
    del step
    state["sum"] = zero(state, "sum", gradient) + gradient**2
    return gradient / (state["sum"].sqrt() + 1e-10)


def sgd(gradient: Tensor, state: State, step: int) -> Tensor:
    del step
    state["velocity"] = 0.9 * zero(state, "velocity", gradient) + gradient
    return state["velocity"]


BY_HAND: dict[str, Callable[[Tensor, State, int], Tensor]] = {
    "adadelta": adadelta,
    "adagrad": adagrad,
    "adam": adam,
    "rmsprop": rmsprop,
    "sgd": sgd,
}
RECIPES = [f"{name}_{form}" for name in BY_HAND for form in ("l2", "wd")]


def net() -> nn.Module:
    _ = torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2)).double()


def kind_of(name: str) -> Kind:
    table = {"1.weight": Kind.GAMMA, "1.bias": Kind.BETA}
    return table.get(name, Kind.WEIGHT if name.endswith("weight") else Kind.BIAS)


def gradients(model: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)


def by_hand(model: nn.Module, recipe: str, wd_first: bool) -> None:
    name, _, form = recipe.partition("_")
    states: dict[str, State] = {}
    with torch.no_grad():
        for step in range(1, STEPS + 1):
            gradients(model, step)
            for key, weight in model.named_parameters():
                lam, state = STRENGTHS.of(kind_of(key)), states.setdefault(key, {})
                assert weight.grad is not None
                if form == "l2":
                    _ = weight.sub_(LR * BY_HAND[name](weight.grad + lam * weight, state, step))
                elif wd_first:
                    moved = LR * BY_HAND[name](weight.grad, state, step)
                    _ = weight.mul_(1 - lam).sub_(moved)
                else:
                    _ = weight.sub_(LR * BY_HAND[name](weight.grad, state, step)).mul_(1 - lam)


def difference(recipe: str, *, wd_first: bool = False) -> float:
    model = net()
    twin = copy.deepcopy(model)
    make: Callable[..., torch.optim.Optimizer] = getattr(implicit, recipe)
    optimizer = make(model, LR, STRENGTHS)
    for step in range(1, STEPS + 1):
        gradients(model, step)
        _ = optimizer.step()
    by_hand(twin, recipe, wd_first)
    pairs = zip(model.parameters(), twin.parameters(), strict=True)
    return max(float((ours - theirs).detach().abs().max()) for ours, theirs in pairs)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_equals_its_update_by_hand(recipe: str) -> None:
    assert difference(recipe) < 1e-14


@pytest.mark.parametrize("recipe", [it for it in RECIPES if it.endswith("wd")])
def test_wd_before_the_update_is_another_method(recipe: str) -> None:
    assert difference(recipe, wd_first=True) > 1e-5


def test_every_recipe_has_a_row() -> None:
    public = {
        name
        for name in implicit.__all__
        if name.endswith(("_l2", "_wd")) and inspect.isfunction(getattr(implicit, name))
    }
    assert public == set(RECIPES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_diagnose_reads_the_strength_of_each_kind(recipe: str) -> None:
    optimizer: torch.optim.Optimizer = getattr(implicit, recipe)(net(), LR, STRENGTHS)
    decay = Decay.COUPLED if recipe.endswith("l2") else Decay.SHRINK
    for group in optimizer.param_groups:
        rule, expected = read_rule(optimizer, group), STRENGTHS.of(Kind(group["kind"]))
        assert rule is not None
        assert rule.strength == expected
        assert rule.decay is (decay if expected else Decay.NONE)


def test_one_number_is_the_strength_of_everything() -> None:
    optimizer = implicit.adam_l2(net(), LR, 0.1)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1] * 4


def test_strengths_go_with_the_state_dict() -> None:
    model = net()
    optimizer, other = implicit.adam_wd(model, LR, 0.1), implicit.adam_wd(model, LR, 0.2)
    other.load_state_dict(optimizer.state_dict())
    assert [group["shrink"] for group in other.param_groups] == [0.1] * 4


def test_wd_leaves_what_was_not_updated() -> None:
    model = net()
    before = [it.detach().clone() for it in model.parameters()]
    optimizer = implicit.adam_wd(model, LR, 0.1)
    _ = optimizer.step()  # nothing has a gradient
    gradients(model, 1)
    optimizer.found_inf = torch.ones(())  # type: ignore[attr-defined]
    recipes._shrink(optimizer, (), {})  # as after a fused step that GradScaler skips
    assert all(torch.equal(it, was) for it, was in zip(model.parameters(), before, strict=True))
    del optimizer.found_inf  # type: ignore[attr-defined]
    recipes._shrink(optimizer, (), {})
    assert all(
        torch.equal(it, 0.9 * was) for it, was in zip(model.parameters(), before, strict=True)
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Strengths(-1.0), "strength of weights must be >= 0 and finite, got -1.0"),
        (lambda: Strengths(0.1, gamma=float("nan")), "strength of gamma"),
        (lambda: implicit.sgd_wd(net(), LR, 1.0), "wd must be below 1"),
    ],
)
def test_strengths_out_of_range_are_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        _ = make()
