"""Resuming the baselines and both stages, through a checkpoint's packing; states not ours."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Adam, Optimizer
from typing_extensions import override

from abscise import attach
from abscise.sparsify import (
    Attachment,
    Bisection,
    Cubic,
    DecoupledDecay,
    Lobster,
    Magnitude,
    NetworkSlimming,
    Sparsifier,
    Thresholding,
    ThresholdingWorker,
)
from abscise.train import Checkpoints, Trained, fit
from abscise.train._packing import pack, unpack
from support.killing import RECIPE, made
from support.sparsifier_cases import unit_map
from support.sparsifying import batch, same, small_network, state_of, train

STEPS, EPOCH = 12, 2
RUNS: dict[str, list[Callable[[], Sparsifier[Any]]]] = {
    "magnitude": [lambda: Magnitude(0.7, steps=9, every=2)],
    "units": [lambda: Magnitude(0.5, 8, every=3, groups=unit_map(), scope="global")],
    "slimming": [lambda: NetworkSlimming(Cubic(10.0, 10))],
    "subgradient": [lambda: NetworkSlimming(Cubic(0.5, 10), "subgradient")],
    "decay": [lambda: DecoupledDecay(Cubic(0.2, 10))],
    "lobster, fixed": [
        lambda: Lobster(Cubic(0.2, 10)),
        lambda: Thresholding(0.5, 0.02, patience=2),
    ],
    "by step": [lambda: DecoupledDecay(0.1), lambda: Thresholding(1.0, 0.02, every=3, after=2)],
    "search": [
        lambda: Lobster(0.05),
        lambda: Thresholding(0.7, Bisection(0.5, plateau=1), patience=3),
    ],
}


def loss_and_error(model: nn.Module) -> tuple[float, float]:
    """On a batch that nobody trains on."""
    inputs, labels = batch(1000)
    _ = model.eval()
    with torch.no_grad():
        logits = model(inputs)
    _ = model.train()
    error = (logits.argmax(1) != labels).double().mean().item()
    return cross_entropy(logits, labels).item(), error


class Run:
    """A network, its optimizer and its sparsifiers."""

    def __init__(self, kind: str, seed: int = 0) -> None:
        self.model = small_network(seed)
        self.optimizer = Adam(self.model.parameters(), 0.01)
        self.attachments = [attach(make(), self.optimizer, self.model) for make in RUNS[kind]]

    def go(self, first: int, last: int) -> None:
        for step in range(first, last):
            train(self.model, self.optimizer, 1, step)
            if (step + 1) % EPOCH == 0:
                for one in self.attachments:
                    _ = one.after_epoch(lambda: loss_and_error(self.model))

    def states(self) -> list[dict[str, Any]]:
        return [one.state_dict() for one in self.attachments]


def packed(states: list[dict[str, Any]]) -> list[Any]:
    """The states as a checkpoint keeps them."""
    found = []
    for state in states:
        tensors: dict[str, Tensor] = {}
        json = pack(state, tensors, "attachment")
        found.append(unpack(json, {name: value.clone() for name, value in tensors.items()}))
    return found


@pytest.mark.parametrize("at", [0, 1, 4, 7, 10])
@pytest.mark.parametrize("kind", RUNS)
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(kind: str, at: int) -> None:
    whole = Run(kind)
    whole.go(0, at)
    states, moments = packed(whole.states()), copy.deepcopy(whole.optimizer.state_dict())
    weights = state_of(whole.model)
    whole.go(at, STEPS)

    resumed = Run(kind, seed=1)
    _ = resumed.model.load_state_dict(weights)
    resumed.optimizer.load_state_dict(moments)
    for one, state in zip(resumed.attachments, states, strict=True):
        one.load_state_dict(state)
    resumed.go(at, STEPS)
    for run in (whole, resumed):
        weights = state_of(run.model)
        for one in run.attachments:
            one.finish()
    assert same(state_of(whole.model), state_of(resumed.model))
    for one, two in zip(whole.attachments, resumed.attachments, strict=True):
        assert one.worker.step == two.worker.step == STEPS
        assert getattr(one.worker, "checks", 0) == getattr(two.worker, "checks", 0)
        assert getattr(one.worker, "kept", 0) == getattr(two.worker, "kept", 0)
    zeros = sum(int((p == 0).sum()) for p in whole.model.parameters())
    assert (zeros > 0) is (kind not in ("decay", "subgradient"))


@pytest.mark.parametrize("kind", RUNS)
def test_a_state_that_was_forgotten_would_be_seen(kind: str) -> None:
    results = []
    for remembers in (True, False):
        first = Run(kind)
        first.go(0, 7)
        second = copy.deepcopy(first.states())
        for one in first.attachments:
            one.detach()
        again = [attach(make(), first.optimizer, first.model) for make in RUNS[kind]]
        if remembers:
            for attachment, state in zip(again, second, strict=True):
                attachment.load_state_dict(state)
        first.attachments = again
        first.go(7, STEPS)
        for one in first.attachments:
            one.finish()
        results.append(state_of(first.model))
    assert not same(*results)


def test_what_pruning_has_switched_off_is_remembered() -> None:
    run = Run("slimming")
    run.go(0, 3)
    run.attachments[0].worker.prune(0.5)
    states = packed(run.states())
    other = Run("slimming", seed=1)
    other.attachments[0].load_state_dict(states[0])
    assert other.attachments[0].worker.strength == 0
    other.go(3, 4)
    assert other.attachments[0].worker.sparsity == 0.5


def test_the_kept_state_is_a_copy() -> None:
    run = Run("lobster, fixed")
    run.go(0, 6)
    kept = run.states()[1]["kept"]["tensors"]
    before = {name: value.clone() for name, value in kept.items()}
    run.attachments[1].load_state_dict(run.states()[1])
    for value in kept.values():
        _ = value.zero_()
    run.attachments[1].finish()
    assert same(state_of(run.model), before)


Change = Callable[[dict[str, Any]], object]
EDITED: dict[str, tuple[str, int, Change, str]] = {
    "magnitude": ("magnitude", 0, lambda s: s.pop("masks"), "the keys must be format, step, masks"),
    "step": ("magnitude", 0, lambda s: s.update(step=1.5), "step must be an integer >= 0, got 1.5"),
    "mask": (
        "units",
        0,
        lambda s: s["masks"].update({"0.weight": torch.ones(6, dtype=torch.bool)}),
        r"masks.0.weight must be a bool tensor of \(6, 1, 1, 1\), got 'torch.bool of \(6,\)'",
    ),
    "pruned": ("slimming", 0, lambda s: s.update(pruned=1), "pruned must be True or False, got 1"),
    "decay": ("decay", 0, lambda s: s.update(format=2), "format must be 1, got 2"),
    "unknown": ("search", 1, lambda s: s.update(more=1), "the keys must be format, step, fallen"),
    "best": ("search", 1, lambda s: s.update(best=None), "best must be a number, got None"),
    "nan": ("search", 1, lambda s: s.update(best=float("nan")), "best must be a number, got nan"),
    "lost": ("search", 1, lambda s: s.update(lost=-1), "lost must be an integer >= 0, got -1"),
    "stopped": ("search", 1, lambda s: s.update(stopped="x"), "stopped must be empty, .*got 'x'"),
    "checks": ("search", 1, lambda s: s.update(checks={}), "checks must be a list"),
    "check": (
        "search",
        1,
        lambda s: s["checks"][0].update(zeros=True),
        "checks.0.zeros must be an integer",
    ),
    "kept": ("search", 1, lambda s: s["kept"].pop("check"), "the keys must be check, tensors"),
    "tensors": (
        "search",
        1,
        lambda s: s["kept"]["tensors"].pop("1.running_mean"),
        "kept.tensors must be the model's parameters and buffers",
    ),
    "shape": (
        "search",
        1,
        lambda s: s["kept"]["tensors"].update({"0.weight": torch.ones(2)}),
        r"kept.tensors.0.weight must be torch.float64 of \(6, 2, 3, 3\)",
    ),
    "kept mask": (
        "search",
        1,
        lambda s: s["kept"]["masks"].update({"0.weight": torch.ones(2)}),
        r"kept.masks.0.weight must be a bool tensor",
    ),
}


@pytest.mark.parametrize("case", EDITED)
def test_an_edited_state_is_refused_in_one_line_and_changes_nothing(case: str) -> None:
    kind, place, change, text = EDITED[case]
    run = Run(kind)
    run.go(0, 6)
    attachment = run.attachments[place]
    before = packed(run.states())[place]
    state = copy.deepcopy(before)
    change(state)
    with pytest.raises(ValueError, match=f"^state_dict: .*{text}") as refused:
        attachment.load_state_dict(state)
    assert "\n" not in str(refused.value)
    after = packed(run.states())[place]
    assert {**before, "masks": 0, "kept": 0} == {**after, "masks": 0, "kept": 0}


# ------------------------------------------------------------------ in the reference loop


class Recorded:
    """The thresholding of a run, for the test to look at."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.drivers: list[Attachment[ThresholdingWorker]] = []
        self._stop_at = stop_at

    def decay(self, model: nn.Module, optimizer: Optimizer) -> Attachment[Any]:
        def stop(*_: object) -> None:
            if self.drivers[-1].worker.step == self._stop_at:
                raise KeyError

        _ = optimizer.register_step_pre_hook(stop)
        return attach(Lobster(0.1), optimizer, model)

    def driver(self, model: nn.Module, optimizer: Optimizer) -> Attachment[ThresholdingWorker]:
        options = Thresholding(0.7, 0.03, patience=2)
        self.drivers.append(attach(options, optimizer, model))
        return self.drivers[-1]


def fitted(folder: Path | None, recorded: Recorded, *, resume: bool = False) -> Trained:
    checkpoints = None if folder is None else Checkpoints(folder, every=1, resume=resume)
    return fit(
        RECIPE,
        data=made(),
        attachments=[recorded.driver, recorded.decay],
        checkpoints=checkpoints,
    )


@pytest.mark.parametrize("stop_at", [2, 5, 8])
def test_a_run_of_the_reference_loop_is_resumed_exactly(tmp_path: Path, stop_at: int) -> None:
    uninterrupted, resumed = Recorded(), Recorded()
    whole = fitted(None, uninterrupted)
    with pytest.raises(KeyError):
        _ = fitted(tmp_path, Recorded(stop_at))
    again = fitted(tmp_path, resumed, resume=True)
    assert again.resumed_at == stop_at
    assert same(state_of(again.model), state_of(whole.model))
    one, two = uninterrupted.drivers[0].worker, resumed.drivers[0].worker
    assert one.checks == two.checks
    assert one.kept == two.kept
    assert one.kept is not None
    assert one.kept.zeros == sum(int((p == 0).sum()) for p in whole.model.parameters()) > 0


def test_a_run_that_is_stopped_ends_early_and_resumed_does_not_go_on(tmp_path: Path) -> None:
    class Impatient(Recorded):
        @override
        def driver(self, model: nn.Module, optimizer: Optimizer) -> Attachment[ThresholdingWorker]:
            options = Thresholding(1.0, 0.05, patience=1)
            self.drivers.append(attach(options, optimizer, model))
            return self.drivers[-1]

        @override
        def decay(self, model: nn.Module, optimizer: Optimizer) -> Attachment[Any]:
            return attach(DecoupledDecay(0.0), optimizer, model)

    first, second = Impatient(), Impatient()
    ended = fitted(tmp_path, first)
    worker = first.drivers[0].worker
    assert worker.reason == "nothing more falls"
    assert ended.history[-1].step == worker.step < ended.history[-1].steps
    again = fitted(tmp_path, second, resume=True)
    assert again.resumed_at == worker.step == second.drivers[0].worker.step
    assert same(state_of(again.model), state_of(ended.model))
    assert again.test_accuracy == ended.test_accuracy
