"""A resumed run is the run that was not interrupted; a state that is not ours is refused."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Adam, Optimizer

from abscise import attach
from abscise.penalties import L1, GroupLasso, IntegratedTransformedL1
from abscise.sparsify import Attachment, Cubic, Proximal, ProximalWorker
from abscise.train import Checkpoints, Recipe, fit
from abscise.train._packing import pack, unpack
from support.killing import RECIPE, made
from support.sparsifier_cases import unit_map
from support.sparsifying import same, small_network, state_of, train

RUNS: dict[str, Callable[[], Proximal]] = {
    "elements": lambda: Proximal(L1(), Cubic(0.01, 6)),
    "units": lambda: Proximal(GroupLasso(), 0.05, groups=unit_map(), metric="plain", regrow=False),
    "metric": lambda: Proximal(GroupLasso(), 1e-3, groups=unit_map()),
    "depth": lambda: Proximal(IntegratedTransformedL1.at_depth, 1e-3, groups=unit_map()),
    "frozen zeros": lambda: Proximal(L1(), 0.02, regrow=False),
    "healing": lambda: Proximal(L1(), 0.02, heal_at=3),
    "budget": lambda: Proximal(L1(), 1e-3, target_sparsity=0.5, target_by=8),
    "units' budget": lambda: Proximal(
        GroupLasso(), 1.0, groups=unit_map(), target_sparsity=0.5, target_by=40
    ),
}


@pytest.mark.parametrize("at", [0, 1, 4, 6])
@pytest.mark.parametrize("kind", RUNS)
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(kind: str, at: int) -> None:
    whole = small_network()
    optimizer = Adam(whole.parameters(), 0.01)
    attachment = attach(RUNS[kind](), optimizer, whole)
    train(whole, optimizer, at)
    tensors: dict[str, torch.Tensor] = {}
    packed = pack(attachment.state_dict(), tensors, "attachment")
    weights, moments = state_of(whole), copy.deepcopy(optimizer.state_dict())
    train(whole, optimizer, 8 - at, at)

    resumed = small_network(seed=1)
    other = Adam(resumed.parameters(), 0.5)
    second = attach(RUNS[kind](), other, resumed)
    _ = resumed.load_state_dict(weights)
    other.load_state_dict(moments)
    second.load_state_dict(unpack(packed, tensors))  # type: ignore[arg-type]
    train(resumed, other, 8 - at, at)
    assert same(state_of(whole), state_of(resumed))
    assert (second.worker.step, second.worker.healing) == (8, kind == "healing")
    assert second.worker.strength == attachment.worker.strength


def test_a_state_that_was_forgotten_would_be_seen() -> None:
    for kind in ("elements", "frozen zeros", "healing", "budget", "units' budget"):
        results = []
        for remembers in (True, False):
            model = small_network()
            optimizer = Adam(model.parameters(), 0.01)
            first = attach(RUNS[kind](), optimizer, model)
            train(model, optimizer, 4)
            state = first.state_dict()
            first.detach()
            second = attach(RUNS[kind](), optimizer, model)
            if remembers:
                second.load_state_dict(state)
            train(model, optimizer, 4, 4)
            results.append(state_of(model))
        assert not same(*results), kind


def attached(kind: str = "healing", steps: int = 4) -> Attachment[ProximalWorker]:
    model = small_network()
    optimizer = Adam(model.parameters(), 0.01)
    attachment = attach(RUNS[kind](), optimizer, model)
    train(model, optimizer, steps)
    return attachment


EDITED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "missing": (lambda state: state.pop("step"), "the keys must be format, acts_on, step, healing"),
    "unknown": (lambda state: state.update(more=1), "got format, acts_on, .*, more"),
    "format": (lambda state: state.update(format=1), "format must be 2, got 1"),
    "step": (lambda state: state.update(step=-1), "step must be an integer >= 0, got -1"),
    "truth": (lambda state: state.update(step=True), "step must be an integer >= 0, got True"),
    "healing": (lambda state: state.update(healing=1), "healing must be True or False, got 1"),
    "control": (lambda state: state.update(control={}), "control must be a dictionary of looks"),
    "looks": (lambda state: state["control"].update(looks="x"), "control.looks must be an integer"),
    "level": (
        lambda state: state["control"].update(level=float("nan")),
        "control.level must be a finite number, got nan",
    ),
    "norms": (lambda state: state.update(norms=[1.0]), "norms must be a float64 tensor"),
    "groups": (
        lambda state: state.update(norms=torch.ones(3, dtype=torch.float64)),
        "norms must be one number for each of 25 groups, or empty, got",
    ),
    "masks": (lambda state: state.update(masks=[]), "masks must be a dictionary"),
    "name": (
        lambda state: state["masks"].update({"1.weight": state["masks"]["0.weight"]}),
        "masks must be of parameters that are shrunk, got '1.weight'",
    ),
    "shape": (
        lambda state: state["masks"].update({"0.weight": torch.ones(2, dtype=torch.bool)}),
        r"masks.0.weight must be a bool tensor of \(6, 2, 3, 3\), got 'torch.bool of \(2,\)'",
    ),
    "dtype": (
        lambda state: state["masks"].update({"0.weight": torch.ones(6, 2, 3, 3)}),
        "got 'torch.float32 of",
    ),
}


@pytest.mark.parametrize("case", EDITED)
def test_an_edited_state_is_refused_in_one_line_and_changes_nothing(case: str) -> None:
    change, text = EDITED[case]
    attachment = attached()
    before = attachment.state_dict()
    state = copy.deepcopy(before)
    change(state)
    with pytest.raises(ValueError, match=f"^state_dict: .*{text}") as refused:
        attachment.load_state_dict(state)
    assert "\n" not in str(refused.value)
    after = attachment.state_dict()
    assert {**before, "masks": 0} == {**after, "masks": 0}
    assert same(before["masks"], after["masks"])


def test_a_loaded_state_is_a_copy() -> None:
    attachment = attached()
    state = attachment.state_dict()
    attachment.load_state_dict(state)
    assert same(attachment.state_dict()["masks"], state["masks"])
    for mask in state["masks"].values():
        _ = mask.fill_(value=True)
    assert not same(attachment.state_dict()["masks"], state["masks"])


def test_a_run_of_the_reference_loop_is_resumed_exactly(tmp_path: Any) -> None:
    """The loop keeps what an attachment remembers; half a run resumed is the whole run."""

    recipe: Recipe = RECIPE

    def sparse(model: nn.Module, optimizer: Optimizer) -> Attachment[ProximalWorker]:
        return attach(Proximal(L1(), Cubic(0.01, 20), regrow=False), optimizer, model)

    def stopped(model: nn.Module, optimizer: Optimizer) -> Attachment[ProximalWorker]:
        attachment = sparse(model, optimizer)

        def stop(*_: object) -> None:
            if attachment.worker.step == 7:
                raise KeyError

        _ = optimizer.register_step_pre_hook(stop)
        return attachment

    whole = fit(recipe, data=made(), attachments=[sparse])
    with pytest.raises(KeyError):
        _ = fit(
            recipe, data=made(), attachments=[stopped], checkpoints=Checkpoints(tmp_path, every=1)
        )
    resumed = fit(
        recipe,
        data=made(),
        attachments=[sparse],
        checkpoints=Checkpoints(tmp_path, every=1, resume=True),
    )
    assert resumed.resumed_at == 7
    assert same(state_of(resumed.model), state_of(whole.model))
    zeros = [int((p == 0).sum()) for p in whole.model.parameters() if p.ndim > 1]
    assert sum(zeros) > 5
