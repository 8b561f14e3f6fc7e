"""Interrupted anywhere and resumed, a run is the run that was never interrupted, bit for bit."""

import contextlib
import json
import random
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from abscise._errors import ModelError, StoreError
from abscise.train import (
    Augment,
    Checkpoints,
    Data,
    Interrupted,
    ModelName,
    OptimizerName,
    Progress,
    Recipe,
    Schedule,
    Split,
    Trained,
    finish_run,
    fit,
    is_finished,
    recipe_from,
)
from abscise.train._keeper import fingerprint
from abscise.train._lock import only_process_in
from support.checkpoints import read_inside, write_inside
from support.effort import examples

CHECKPOINT = "checkpoint.safetensors"


class Restless(nn.Module):
    """A small network that keeps everything a checkpoint could forget.

    It drops units, averages batches, draws from numpy and python, and counts its calls in a buffer
    that its state dict leaves out.
    """

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.drop = nn.Dropout(0.3)
        self.first = nn.Linear(64, 6)
        self.last = nn.Linear(6, 3)
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    @override
    def forward(self, images: Tensor) -> Tensor:
        hidden = self.drop(self.first(self.norm(images).flatten(1))).relu()
        if self.training:
            self.calls += 1
            hidden = hidden + 0.01 * (random.random() + np.random.random())  # noqa: NPY002
            hidden = hidden * (1 + 0.01 * self.calls)
        return self.last(hidden)


class Folded(nn.Module):
    """A network with parameters that are not row-major: channels last, and a transposed matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.second = nn.Conv2d(4, 5, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.turned = nn.Parameter(torch.randn(80, 3).t() / 9)
        assert not self.second.weight.is_contiguous()
        assert not self.turned.is_contiguous()

    @override
    def forward(self, images: Tensor) -> Tensor:
        hidden = self.second(self.conv(images).relu()).relu()
        return hidden.flatten(1) @ self.turned.t()


class Ledger:
    """An attachment: changes the weights after every step by what it remembers."""

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        self.seen = torch.zeros(3)
        self.steps = 0
        weight = model.get_parameter("first.weight")

        def decay(_optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
            self.steps += 1
            with torch.no_grad():
                weight.mul_(1 - 1e-3 * self.seen.sum() / (self.steps * 10))

        _ = optimizer.register_step_post_hook(decay)

    def observe(self, logits: Tensor, _labels: Tensor) -> None:
        self.seen += logits.detach().abs().mean(dim=0)

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen, "steps": self.steps, "pairs": {1: (None, float("inf"))}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        assert state["pairs"] == {1: (None, float("inf"))}
        self.seen, self.steps = state["seen"].clone(), state["steps"]


def made(seed: int = 0) -> Data:
    """28 + 9 + 9 examples of three classes, as `tests.train` can make them anywhere."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(46, 1, 8, 8, generator=generator)
    labels = torch.randint(0, 3, (46,), generator=generator)
    parts = zip(inputs.split([28, 9, 9]), labels.split([28, 9, 9]), strict=True)
    return Data(f"{__name__}:made", 3, *(Split(x, y) for x, y in parts))


RECIPE = Recipe(
    name="restless",
    data=f"{__name__}:made",
    shape=(1, 8, 8),
    classes=3,
    augment=Augment.CROP_FLIP,
    model=f"{__name__}:Restless",
    weight_decay=1e-3,
    epochs=4,
    batch_size=6,
    accumulate=2,
    drops=(0.4, 0.8),
    warmup=3,
    clip=0.5,
    report_every=3,
)
STEPS = 16  # four of 6 examples per epoch; 4 of the 28 wait for the next one


class Killed(Exception):  # noqa: N818 - no error
    """The end of a process, as far as one process can play it."""


class Bomb:
    """An attachment that kills the run in the middle of step `at`: weights half-way, no warning."""

    def __init__(self, at: int, optimizer: Optimizer) -> None:
        self._left = at
        _ = optimizer.register_step_pre_hook(self._tick)

    def _tick(self, *_: Any) -> None:
        self._left -= 1
        if self._left == 0:
            raise Killed


def bomb(at: int) -> Any:
    def attach(model: nn.Module, optimizer: Optimizer) -> Any:
        ledger = Ledger(model, optimizer)
        _ = Bomb(at, optimizer)
        return ledger

    return attach


def run(recipe: Recipe, folder: Path, *, resume: bool, every: int = 1, **more: Any) -> Trained:
    checkpoints = Checkpoints(folder, every, resume)
    options: dict[str, Any] = {"data": made(), "attachments": [Ledger]} | more
    return fit(recipe, checkpoints=checkpoints, **options)


def content(folder: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """All that a checkpoint holds, but the seconds: JSON, and the bytes of every tensor."""
    held, tensors = read_inside(folder / CHECKPOINT)
    del held["course"]["elapsed_s"]
    for epoch in held["course"]["epochs"]:
        del epoch["wall_s"]
    return held, {name: value.numpy().tobytes() for name, value in tensors.items()}


def epochs(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "wall_s"} for line in lines]


def assert_equal(one: Trained, two: Trained, first: Path, second: Path) -> None:
    assert content(first) == content(second)
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, two.model.state_dict()[name])
    assert one.history == two.history
    assert one.test_accuracy == two.test_accuracy
    assert epochs(first) == epochs(second)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, Path]:
    folder = tmp_path_factory.mktemp("whole")
    return run(RECIPE, folder, resume=False), folder


@examples(25)
@given(
    kills=st.lists(st.integers(1, STEPS), max_size=4),
    every=st.integers(1, 7),
)
def test_a_run_killed_anywhere_any_number_of_times_equals_the_uninterrupted_one(
    kills: list[int], every: int, whole: tuple[Trained, Path], tmp_path_factory: Any
) -> None:
    folder = tmp_path_factory.mktemp("killed") / "run"
    resume = False
    for steps in kills:
        with contextlib.suppress(Killed):
            _ = run(RECIPE, folder, resume=resume, every=every, attachments=[bomb(steps)])
        resume = True
    result = run(RECIPE, folder, resume=resume, every=every)
    assert_equal(result, whole[0], folder, whole[1])


VARIANTS: dict[str, dict[str, Any]] = {
    **{name.value: {"optimizer": name} for name in OptimizerName},
    "amsgrad": {"amsgrad": True},
    "cosine": {"schedule": Schedule.COSINE, "drops": ()},
    "bf16": {"precision": "bf16-mixed"},
    "flip": {"augment": Augment.FLIP},
    "mlp": {"model": ModelName.MLP, "hidden": (5,)},
    **{
        f"not row-major, {name.value}": {"model": f"{__name__}:Folded", "optimizer": name}
        for name in OptimizerName
    },
    "not row-major, amsgrad": {"model": f"{__name__}:Folded", "amsgrad": True},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_run_is_resumed_exactly(variant: str, tmp_path: Path) -> None:
    changes = {k: list(v) if isinstance(v, tuple) else v for k, v in VARIANTS[variant].items()}
    recipe = recipe_from(RECIPE.as_dict() | changes)
    plain: dict[str, Any] = {"attachments": []}
    one = run(recipe, tmp_path / "one", resume=False, **plain)
    killer = [lambda _model, optimizer: _Silent(Bomb(7, optimizer))]
    with pytest.raises(Killed):
        _ = run(recipe, tmp_path / "two", resume=False, every=4, attachments=killer)
    two = run(recipe, tmp_path / "two", resume=True, attachments=[lambda *_: _Silent(None)])
    assert two.resumed_at == 4
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, two.model.state_dict()[name])
    assert one.history == two.history


class _Silent:
    """An attachment without any state."""

    def __init__(self, _held: object) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        assert not state


def test_a_resume_that_forgot_something_would_be_seen(
    whole: tuple[Trained, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Killed):
        _ = run(RECIPE, tmp_path, resume=False, attachments=[bomb(6)])
    monkeypatch.setattr("abscise.train._parts.set_random_state", lambda _state: None)
    result = run(RECIPE, tmp_path, resume=True)
    with pytest.raises(AssertionError):
        assert_equal(result, whole[0], tmp_path, whole[1])


def test_checkpoints_change_nothing_about_the_weights(
    whole: tuple[Trained, Path],
) -> None:
    without = fit(RECIPE, data=made(), attachments=[Ledger])
    assert without.history == whole[0].history
    for name, value in without.model.state_dict().items():
        assert torch.equal(value, whole[0].model.state_dict()[name])


def killed_at(folder: Path, step: int, recipe: Recipe = RECIPE) -> None:
    with pytest.raises(Killed):
        _ = run(recipe, folder, resume=False, attachments=[bomb(step)])


def test_another_recipe_is_refused_with_the_key_and_both_values(tmp_path: Path) -> None:
    killed_at(tmp_path, 3)
    changed = replace(RECIPE, learning_rate=2e-3)
    with pytest.raises(StoreError, match=r"learning_rate 0\.001, the recipe given has 0\.002"):
        _ = run(changed, tmp_path, resume=True)


def test_what_is_only_reported_may_change(tmp_path: Path) -> None:
    killed_at(tmp_path, 3)
    renamed = replace(RECIPE, name="other", report_every=1)
    result = run(renamed, tmp_path, resume=True)
    assert [progress.step for progress in result.history] == list(range(3, STEPS + 1))


def test_other_data_is_refused(tmp_path: Path) -> None:
    killed_at(tmp_path, 3)
    with pytest.raises(StoreError, match="learned from other data"):
        _ = run(RECIPE, tmp_path, resume=True, data=made(1))


def test_other_attachments_are_refused(tmp_path: Path) -> None:
    killed_at(tmp_path, 3)
    with pytest.raises(StoreError, match=r"attachments \['Ledger'\], given are \[\]"):
        _ = run(RECIPE, tmp_path, resume=True, attachments=[])


def test_there_must_be_something_to_resume(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no checkpoint to go on from; leave out resume"):
        _ = run(RECIPE, tmp_path / "new", resume=True)
    assert not (tmp_path / "new").exists()


def test_an_unfinished_run_is_not_overwritten_and_a_complete_one_may_be_repeated(
    tmp_path: Path,
) -> None:
    killed_at(tmp_path, 5)
    with pytest.raises(StoreError, match=r"unfinished run \(step 4 of 16\): resume it, choose an"):
        _ = run(RECIPE, tmp_path, resume=False)
    first = run(RECIPE, tmp_path, resume=True)
    again = run(RECIPE, tmp_path, resume=False)
    assert (first.resumed_at, again.resumed_at) == (4, 0)
    assert len(epochs(tmp_path)) == 4


def assert_kept(folder: Path, text: str, **how: Any) -> None:
    """Starting anew is refused, and not a byte of the checkpoint is lost."""
    before = (folder / CHECKPOINT).read_bytes()
    with pytest.raises(StoreError, match=text) as refused:
        _ = fit(**dict[str, Any]({"recipe": RECIPE, "data": made(), "attachments": [Ledger]} | how))
    assert "\n" not in str(refused.value)
    assert (folder / CHECKPOINT).read_bytes() == before


def test_a_complete_run_is_not_overwritten_by_another_one(tmp_path: Path) -> None:
    _ = run(RECIPE, tmp_path, resume=False)
    finish_run(tmp_path)
    checkpoints = Checkpoints(tmp_path)
    other = replace(RECIPE, seed=1)
    text = "this run has seed 0, the recipe given has 1: choose another folder, or delete"
    assert_kept(tmp_path, text, recipe=other, checkpoints=checkpoints)
    text = "learned from other data than those given: choose another folder, or delete"
    assert_kept(tmp_path, text, data=made(1), checkpoints=checkpoints)
    assert is_finished(tmp_path)


def test_a_guarded_run_is_repeated_only_after_its_result_is_noted(tmp_path: Path) -> None:
    guarded = Checkpoints(tmp_path, guarded=True)
    _ = run(RECIPE, tmp_path, resume=False)
    assert_kept(tmp_path, "a trained run whose model is not saved: res", checkpoints=guarded)
    finish_run(tmp_path)
    _ = fit(RECIPE, data=made(), checkpoints=guarded, attachments=[Ledger])
    assert not is_finished(tmp_path)


def test_two_processes_do_not_share_a_run(tmp_path: Path) -> None:
    killed_at(tmp_path, 5)
    half = tmp_path / f".{CHECKPOINT}.0123.tmp"  # the other one is writing it
    _ = half.write_bytes(b"half")
    with only_process_in(tmp_path):
        for resume in (False, True):
            how = Checkpoints(tmp_path, resume=resume)
            assert_kept(tmp_path, "another process trains in it: wait", checkpoints=how)
    assert half.exists()
    assert run(RECIPE, tmp_path, resume=True).resumed_at == 4
    assert not half.exists()


@pytest.mark.parametrize("part", ["train", "validation", "test"])
@pytest.mark.parametrize("example", [0, 3, -1])
def test_one_number_of_any_part_tells_data_apart(part: str, example: int) -> None:
    one = made()
    held = getattr(one, part)
    copy: Any = {part: Split(held.inputs.clone(), held.labels.clone())}
    two = replace(one, **copy)
    assert fingerprint(one) == fingerprint(two)
    getattr(two, part).inputs[example, 0, 7, 7] += 1e-3
    assert fingerprint(one) != fingerprint(two)


def test_a_signal_during_the_last_look_is_answered_before_the_test_set_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(seen: Progress) -> None:
        if seen.step == seen.steps:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted) as stopped:
        _ = run(RECIPE, tmp_path, resume=False, observer=interrupt)
    assert stopped.value.step == STEPS
    monkeypatch.setattr("abscise.train._fit.accuracy", lambda *_: signal.raise_signal(2))
    with pytest.raises(KeyboardInterrupt):
        _ = run(RECIPE, tmp_path, resume=True)
    monkeypatch.undo()
    assert run(RECIPE, tmp_path, resume=True).resumed_at == STEPS


def test_a_finished_run_is_resumed_without_a_step(
    whole: tuple[Trained, Path], tmp_path: Path
) -> None:
    _ = run(RECIPE, tmp_path, resume=False)
    again = run(RECIPE, tmp_path, resume=True, attachments=[bomb(1)])
    assert again.resumed_at == STEPS
    assert_equal(again, whole[0], tmp_path, whole[1])


def test_nan_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    class Poison(Ledger):
        @override
        def observe(self, logits: Tensor, labels: Tensor) -> None:
            super().observe(logits, labels)
            if self.steps == 5:
                with torch.no_grad():
                    logits.fill_(float("nan"))

    Poison.__name__ = "Ledger"
    with pytest.raises(ModelError, match="not finite at step 6"):
        _ = run(RECIPE, tmp_path, resume=False, attachments=[Poison])
    assert content(tmp_path)[0]["course"]["step"] == 5
    assert run(RECIPE, tmp_path, resume=True).resumed_at == 5


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_run_after_its_batch_with_a_checkpoint(
    name: str, whole: tuple[Trained, Path], tmp_path: Path
) -> None:
    kind = getattr(signal, name)
    before = signal.getsignal(kind)

    class Caller(Ledger):
        @override
        def observe(self, logits: Tensor, labels: Tensor) -> None:
            super().observe(logits, labels)
            # Both halves of a batch come here; the second signal would stop at once.
            if self.steps == 6 and signal.getsignal(kind) is not before:
                signal.raise_signal(kind)

    Caller.__name__ = "Ledger"
    with pytest.raises(Interrupted) as stopped:
        _ = run(RECIPE, tmp_path, resume=False, every=100, attachments=[Caller])
    assert (stopped.value.step, stopped.value.steps) == (7, STEPS)
    assert signal.getsignal(kind) is before
    result = run(RECIPE, tmp_path, resume=True)
    assert result.resumed_at == 7
    assert_equal(result, whole[0], tmp_path, whole[1])


def test_a_step_after_which_the_observer_fails_is_kept(
    whole: tuple[Trained, Path], tmp_path: Path
) -> None:
    def fail(seen: Progress) -> None:
        if seen.step == 6:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        _ = run(RECIPE, tmp_path, resume=False, every=100, observer=fail)
    result = run(RECIPE, tmp_path, resume=True)
    assert result.resumed_at == 6
    assert_equal(result, whole[0], tmp_path, whole[1])


def test_lines_of_epochs_after_the_checkpoint_are_cut(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        _ = run(RECIPE, tmp_path, resume=False, every=6, attachments=[bomb(13)])
    assert [line["epoch"] for line in epochs(tmp_path)] == [1, 2, 3]  # the checkpoint: step 12
    with pytest.raises(Killed):
        _ = run(RECIPE, tmp_path, resume=True, every=100, attachments=[bomb(4)])
    file = tmp_path / "epochs.jsonl"
    _ = file.write_text(file.read_text() + '{"epoch": 99, "st')
    _ = run(RECIPE, tmp_path, resume=True)
    assert [line["epoch"] for line in epochs(tmp_path)] == [1, 2, 3, 4]


def edit(folder: Path, change: Any) -> None:
    """Change the checkpoint in `folder`, as somebody with an editor could."""
    held, tensors = read_inside(folder / CHECKPOINT)
    change(held, tensors)
    write_inside(folder / CHECKPOINT, held, tensors)


def course(**values: object) -> Any:
    return lambda held, _tensors: held["course"].update(values)


def forget(name: str) -> Any:
    def change(held: dict[str, Any], _tensors: object) -> None:
        held["state"]["dict"] = [pair for pair in held["state"]["dict"] if pair[0] != name]

    return change


def moment(key: str, shape: tuple[int, ...]) -> Any:
    """Another tensor for the optimizer's `key` of the first parameter; the JSON stays."""

    def change(_held: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        (name,) = (it for it in tensors if it.endswith(f":state.optimizer.state.0.{key}"))
        tensors[name] = torch.zeros(shape)

    return change


MOMENTS: dict[str, tuple[Any, str]] = {
    "longer": (moment("exp_avg", (2, 1)), r"exp_avg of parameter 0 must be .* \[1\], got \[2, 1\]"),
    "as many": (moment("exp_avg_sq", (1, 1)), r"exp_avg_sq of parameter 0 .*, got \[1, 1\]"),
    "scalar": (moment("exp_avg", ()), r"exp_avg of parameter 0 must be .* \[1\], got \[\]"),
    "steps": (moment("step", (1,)), r"step of parameter 0 must be .* \[\], got \[1\]"),
}


@pytest.mark.parametrize("case", MOMENTS)
def test_a_moment_of_another_shape_than_its_parameter_is_refused(case: str, tmp_path: Path) -> None:
    change, text = MOMENTS[case]
    killed_at(tmp_path, 5)
    edit(tmp_path, change)
    with pytest.raises(StoreError, match=text) as refused:
        _ = run(RECIPE, tmp_path, resume=True)
    assert "\n" not in str(refused.value)


def ordered(change: Any) -> Any:
    def edited(_held: object, tensors: dict[str, Tensor]) -> None:
        (name,) = (it for it in tensors if it.endswith(":state.order"))
        tensors[name] = change(tensors[name]).clone()

    return edited


def numpy_position(position: int) -> Any:
    def change(held: dict[str, Any], _tensors: object) -> None:
        random_part = dict(held["state"]["dict"])["random"]
        dict(random_part["dict"])["numpy"]["tuple"][2] = position

    return change


EDITED: dict[str, tuple[Any, str]] = {
    "step": (course(step="two"), "step must be an integer"),
    "step past the end": (course(step=17), "from 0 to 16, got 17"),
    "history of the future": (
        lambda held, _: held["course"]["history"][-1].update(step=9),
        r"history must have rising steps up to 4, got \[9\]",
    ),
    "history": (course(history=[1]), "must be an object"),
    "epochs": (course(epochs=[{}]), "missing fields"),
    "model": (forget("model"), "the state does not fit"),
    "optimizer": (forget("optimizer"), "the state does not fit"),
    "random": (forget("random"), "the state does not fit"),
    "order": (forget("order"), "the order of the examples"),
    "steps": (course(steps=32), "steps must be an integer from 16 to 16, got 32"),
    "order out of range": (ordered(lambda order: order + 1), "each of 28 once"),
    "order of others": (ordered(lambda _order: torch.arange(29)), "each of 28 once"),
    "order twice": (ordered(lambda order: order // 2), "each of 28 once"),
    "no order": (ordered(lambda order: order[:0]), "order of the examples is missing at step 4"),
    "numpy's position": (numpy_position(700), "624 words and a position in them, got 700"),
    "numpy's words": (numpy_position(-1), "624 words and a position in them, got -1"),
}


@pytest.mark.parametrize("case", EDITED)
def test_an_edited_checkpoint_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    change, text = EDITED[case]
    killed_at(tmp_path, 5)
    edit(tmp_path, change)
    with pytest.raises(StoreError, match=text) as refused:
        _ = run(RECIPE, tmp_path, resume=True)
    assert "\n" not in str(refused.value)


def test_the_number_of_steps_between_checkpoints_is_positive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="every must be at least 1 step, got 0"):
        _ = Checkpoints(tmp_path, every=0)


def test_an_attachment_without_a_state_is_refused() -> None:
    with pytest.raises(TypeError, match="needs state_dict and load_state_dict: int"):
        _ = fit(RECIPE, data=made(), attachments=[lambda *_: 3])  # type: ignore[list-item]


def test_an_attachment_that_is_a_context_manager_is_left_even_when_training_fails() -> None:
    class Held(Ledger):
        entered = 0

        def __enter__(self) -> None:
            type(self).entered += 1

        def __exit__(self, *_: object) -> None:
            type(self).entered -= 1

        @override
        def observe(self, logits: Tensor, _labels: Tensor) -> None:
            assert self.entered == 1
            raise Killed

    with pytest.raises(Killed):
        _ = fit(RECIPE, data=made(), attachments=[Held])
    assert Held.entered == 0
