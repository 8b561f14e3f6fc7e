"""The reference loop: seeds, random state, the test set, the observer, NaN."""

import os
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from lightning_fabric.utilities.rank_zero import rank_zero_only
from torch import Tensor, nn
from typing_extensions import override

from abscise._errors import DataError, ModelError
from abscise.train import (
    Data,
    DataName,
    ModelName,
    OptimizerName,
    Precision,
    Progress,
    Recipe,
    Split,
    Trained,
    accuracy,
    build_model,
    build_optimizer,
    facts_of,
    fit,
    load_data,
    load_recipe,
    make_loggers,
    predict,
)

TINY = Recipe(
    name="tiny",
    data=DataName.DIGITS,
    model=ModelName.CONV,
    widths=(8, 8),
    hidden=(16,),
    learning_rate=1e-2,
    weight_decay=1e-3,
    epochs=2,
    batch_size=100,
    drops=(0.5,),
    report_every=5,
)


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data("digits")


@pytest.fixture(scope="module")
def trained(data: Data) -> Trained:
    return fit(TINY, data=data)


def weights(trained: Trained) -> dict[str, torch.Tensor]:
    return trained.model.state_dict()


def same(one: Trained, two: Trained) -> bool:
    return all(torch.equal(w, weights(two)[name]) for name, w in weights(one).items())


def test_equal_seeds_give_equal_weights_bit_for_bit(data: Data, trained: Trained) -> None:
    _ = torch.manual_seed(99)  # whatever the caller did before
    again = fit(TINY, data=data)
    assert same(trained, again)
    assert again.history == trained.history


def test_another_seed_gives_other_weights(data: Data, trained: Trained) -> None:
    assert not same(trained, fit(replace(TINY, seed=1), data=data))


def state() -> tuple[Any, ...]:
    """Every random state and global setting that training could leave changed."""
    return (
        torch.get_rng_state().tolist(),
        random.getstate(),
        str(np.random.get_state()),  # noqa: NPY002
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.deterministic,
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
    )


def test_the_callers_random_state_comes_back(data: Data) -> None:
    before = state()
    _ = fit(TINY, data=data)
    assert state() == before


def test_the_callers_random_state_comes_back_when_training_fails(data: Data) -> None:
    def stop(_progress: Progress) -> None:
        raise KeyboardInterrupt

    before = state()
    with pytest.raises(KeyboardInterrupt):
        _ = fit(TINY, data=data, observer=stop)
    assert state() == before


def test_the_test_set_is_read_once_after_the_last_step(data: Data) -> None:
    events: list[str] = []

    class Watched(SimpleNamespace):
        @property
        def test(self) -> Split:
            events.append("test")
            return data.test

    watched = Watched(
        name=data.name, classes=data.classes, train=data.train, validation=data.validation
    )
    result = fit(
        TINY, data=cast("Data", watched), observer=lambda seen: events.append(str(seen.step))
    )
    assert events == ["5", "10", "15", "20", "24", "test"]
    assert result.test_accuracy == accuracy(result.model, data.test)


def test_training_does_not_depend_on_the_test_set(data: Data, trained: Trained) -> None:
    broken = Split(torch.zeros_like(data.test.inputs), data.test.labels)
    assert same(trained, fit(TINY, data=replace(data, test=broken)))


def test_the_observer_sees_what_the_history_holds(data: Data, trained: Trained) -> None:
    seen: list[Progress] = []
    result = fit(TINY, data=data, observer=seen.append)
    assert tuple(seen) == result.history == trained.history
    assert [progress.steps for progress in seen] == [24] * 5
    assert seen[-1].accuracy == accuracy(result.model, data.validation)
    assert list(seen[-1].layers) == [
        "features.block1.norm",
        "features.block2.norm",
        "hidden",
    ]


def test_the_learning_rate_drops_where_the_recipe_says(trained: Trained) -> None:
    rates = [progress.learning_rate for progress in trained.history]
    assert rates == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-3])


def test_training_learns(trained: Trained) -> None:
    assert trained.test_accuracy > 0.4  # chance is 0.1
    assert trained.history[-1].loss < trained.history[0].loss
    assert trained.wall_s > 0
    assert not trained.model.training


@pytest.mark.parametrize("optimizer", OptimizerName)
def test_every_optimizer_takes_a_step_with_its_own_meaning_of_weight_decay(
    optimizer: OptimizerName,
) -> None:
    recipe = replace(TINY, optimizer=optimizer, learning_rate=0.1, weight_decay=0.5)
    model = nn.Linear(2, 1, bias=False)
    _ = nn.init.constant_(model.weight, 1.0)
    model.weight.grad = torch.zeros_like(model.weight)
    _ = build_optimizer(recipe, model).step()
    # The decay is all of the gradient, 0.5. AdamW and SGD: 1 - 0.1 * 0.5. In Adam, Adagrad and
    # RMSprop (which starts from a hundredth of its square) its size cancels; Adadelta begins with
    # steps of the root of its eps.
    expected = {
        "adam": 0.9,
        "adamw": 0.95,
        "sgd": 0.95,
        "adagrad": 0.9,
        "rmsprop": 0.0,
        "adadelta": 1 - 0.1 * (1e-6 / (0.1 * 0.25 + 1e-6)) ** 0.5 * 0.5,
    }[optimizer]
    assert model.weight.tolist()[0] == pytest.approx([expected, expected], abs=1e-5)


@pytest.mark.parametrize(
    ("recipe", "parameters"),
    [
        (load_recipe("mnist-lenet300-adam-l2"), 266_610),
        (
            Recipe(
                name="m",
                data=DataName.PENDIGITS,
                model=ModelName.MLP,
                hidden=(5, 3),
                epochs=1,
                batch_size=1,
            ),
            16 * 5 + 5 + 5 * 3 + 3 + 3 * 10 + 10,
        ),
        (TINY, 9 * 8 + 16 + 9 * 64 + 16 + 32 * 16 + 16 + 160 + 10),
    ],
)
def test_a_built_network_has_the_parameters_of_its_description(
    recipe: Recipe, parameters: int
) -> None:
    model = build_model(recipe)
    assert sum(weight.numel() for weight in model.parameters()) == parameters
    assert model(torch.zeros(2, *facts_of(recipe).shape)).shape == (2, 10)


def test_a_network_of_linear_layers_trains_too(data: Data) -> None:
    recipe = replace(TINY, model=ModelName.MLP, widths=(), hidden=(16,), epochs=1)
    result = fit(recipe, data=data)
    assert list(result.history[-1].layers) == ["layers.hidden1"]
    assert result.test_accuracy > 0.3  # chance is 0.1


def poisoned(data: Data, value: float) -> Data:
    inputs = data.train.inputs.clone()
    inputs[:] = value
    return replace(data, train=Split(inputs, data.train.labels))


@pytest.mark.parametrize("part", ["train", "validation"])
def test_inputs_that_are_not_finite_are_refused_with_their_part_and_example(
    part: str, data: Data
) -> None:
    inputs = getattr(data, part).inputs.clone()
    inputs[7, 0, 3, 3] = float("nan")
    changed: Any = {part: Split(inputs, getattr(data, part).labels)}
    with pytest.raises(DataError, match=rf"part {part}: inputs must be finite, .* example 7 are"):
        _ = fit(TINY, data=replace(data, **changed))


def test_inputs_of_another_type_are_refused(data: Data) -> None:
    wide = replace(data, train=Split(data.train.inputs.double(), data.train.labels))
    with pytest.raises(DataError, match=r"must be torch\.float32, got torch\.float64: use \.float"):
        _ = fit(TINY, data=wide)


class Hasty(nn.Module):
    """A network that changes its inputs in place."""

    def __init__(self) -> None:
        super().__init__()
        self.classes = nn.Linear(64, 10)

    @override
    def forward(self, images: Tensor) -> Tensor:
        return self.classes(images.mul_(1.5).add_(0.1).flatten(1))


def test_a_network_that_works_in_place_leaves_the_callers_data_as_they_are(data: Data) -> None:
    parts = ("train", "validation", "test")
    before = {part: getattr(data, part).inputs.clone() for part in parts}
    recipe = replace(TINY, model=f"{__name__}:Hasty", widths=(), hidden=())
    _ = fit(recipe, data=data)
    for part in parts:
        assert torch.equal(getattr(data, part).inputs, before[part])


def test_an_overflowing_layer_stops_the_training_and_is_named(data: Data) -> None:
    with pytest.raises(ModelError, match=r"step 1: layer features\.block1\.conv gives NaN or inf"):
        _ = fit(TINY, data=poisoned(data, 3e38))


def test_a_rate_far_too_high_stops_the_training(data: Data) -> None:
    recipe = replace(TINY, model=ModelName.MLP, widths=(), hidden=(8,), learning_rate=1e30)
    with pytest.raises(ModelError, match=r"at step \d+: layer layers\.\w+ .*lower the learning"):
        _ = fit(recipe, data=data)


def test_weights_that_are_nan_are_named_with_their_parameter(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(recipe: Recipe) -> nn.Module:
        model = build_model(recipe)
        model.get_submodule("hidden").get_parameter("bias").data.fill_(float("nan"))
        return model

    monkeypatch.setattr("abscise.train._fit.build_model", broken)
    with pytest.raises(ModelError, match="layer hidden has NaN or infinite values in its bias"):
        _ = fit(TINY, data=data)


def test_the_other_data_set_is_refused(data: Data) -> None:
    with pytest.raises(
        DataError, match=r"recipe mnist-lenet300-adam-l2: wants .* mnist, got digits"
    ):
        _ = fit(load_recipe("mnist-lenet300-adam-l2"), data=data)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"model": ModelName.LENET300, "widths": (), "hidden": ()}, "lenet300 reads 28x28"),
        ({"batch_size": 2000}, "batch_size 2000 exceeds the 1257 examples"),
    ],
)
def test_data_that_does_not_fit_the_recipe_is_refused(
    changes: dict[str, Any], text: str, data: Data
) -> None:
    with pytest.raises(DataError, match=text):
        _ = fit(replace(TINY, **changes), data=data)


def test_a_table_does_not_fit_convolutions(data: Data) -> None:
    recipe = replace(TINY, data=DataName.PENDIGITS)
    with pytest.raises(DataError, match=r"conv reads images of side 4n, pendigits has \[16\]"):
        _ = fit(recipe, data=replace(data, name=DataName.PENDIGITS))


def test_predicting_leaves_the_modes_of_all_modules_as_they_were(trained: Trained) -> None:
    model = trained.model
    _ = model.train()
    _ = model.get_submodule("features.block1.norm").eval()
    modes = [module.training for module in model.modules()]
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    classes = predict(model, trained.data.test.inputs)
    assert classes.dtype == torch.int64
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, buffers[name]) for name, value in model.named_buffers())
    _ = model.eval()


def test_compiling_is_asked_for_once_and_trains_the_same_weights(
    data: Data, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def compiled(model: nn.Module, *, mode: str) -> nn.Module:
        asked.append(mode)
        return nn.Sequential(model)  # a module that shares the weights, as torch's is

    monkeypatch.setattr(torch, "compile", compiled)
    result = fit(replace(TINY, compile=True), data=data)
    assert asked == ["default"]
    assert same(result, trained)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_training_on_a_gpu_learns_the_same(data: Data) -> None:
    result = fit(replace(TINY, device="cuda"), data=data)
    assert next(result.model.parameters()).is_cuda
    assert result.test_accuracy > 0.4


ENVIRONMENTS: dict[str, dict[str, str]] = {
    "precision": {"LT_PRECISION": "bf16-mixed"},
    "devices": {"LT_DEVICES": "2"},
    "strategy": {"LT_STRATEGY": "ddp", "LT_ACCELERATOR": "tpu", "LT_NUM_NODES": "3"},
    "cluster": {
        "SLURM_NTASKS": "4",
        "SLURM_JOB_NAME": "job",
        "SLURM_JOB_ID": "5",
        "SLURM_PROCID": "1",
        "SLURM_LOCALID": "1",
        "SLURM_NODELIST": "n1",
        "SLURM_NODEID": "0",
    },
    "rank": {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"},
}


@pytest.mark.parametrize("case", ENVIRONMENTS)
def test_the_recipe_decides_and_not_the_environment(
    case: str, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = fit(TINY, data=data)
    for name, value in ENVIRONMENTS[case].items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    odd = fit(TINY, data=data)
    assert odd.history == usual.history
    for name, value in usual.model.state_dict().items():
        assert torch.equal(value, odd.model.state_dict()[name])
    assert dict(os.environ) == before


def test_a_process_that_a_cluster_calls_the_second_logs_too(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    _ = fit(replace(TINY, epochs=1), data=data, loggers=make_loggers(tmp_path, "run"))
    (table,) = tmp_path.glob("run/*/metrics.csv")
    assert len(table.read_text().splitlines()) == 4
    assert vars(rank_zero_only)["rank"] == 1


def test_mixed_precision_is_used_without_a_word(
    data: Data, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = replace(TINY, epochs=1, precision=Precision.BF16_MIXED)
    half, full = fit(recipe, data=data), fit(replace(TINY, epochs=1), data=data)
    assert half.history != full.history
    assert capfd.readouterr() == ("", "")
