"""Recipes: the packaged ones, files, overrides, and a table of bad ones."""

from pathlib import Path

import pytest
import torch
import yaml

from abscise._errors import RecipeError
from abscise.train import (
    Data,
    DataName,
    ModelName,
    OptimizerName,
    Recipe,
    Schedule,
    Split,
    build_model,
    control_names,
    facts_of,
    fit,
    load_recipe,
    read_yaml,
    recipe_from,
    recipe_names,
)


@pytest.mark.parametrize("name", recipe_names())
def test_every_packaged_recipe_can_be_built_and_bears_the_name_of_its_file(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert next(build_model(recipe).parameters()).requires_grad


def small(recipe: Recipe) -> Data:
    """As many random examples of the recipe's data set as fill two batches of two, and more."""
    about = facts_of(recipe)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(20, *about.shape, generator=generator)
    labels = torch.arange(20) % about.classes
    parts = zip(inputs.split([16, 2, 2]), labels.split([16, 2, 2]), strict=True)
    return Data(recipe.data, about.classes, *(Split(x, y) for x, y in parts))


@pytest.mark.parametrize("name", recipe_names())
def test_every_packaged_recipe_trains_on_as_few_examples_as_its_limit_says(name: str) -> None:
    changes = {"limit": 5, "batch_size": 2, "epochs": 1, "report_every": 1}
    recipe = load_recipe(name, changes)
    result = fit(recipe, data=small(recipe))
    assert [progress.step for progress in result.history] == [1, 2]  # 5 examples: two batches
    assert len(result.data.train) == 5
    assert result.history[-1].layers


def test_the_recipes_that_the_command_promises_are_there() -> None:
    assert set(recipe_names()) == {
        "cifar10-basicnet-adam-l2",
        "cifar10-resnet20-adam-l2",
        "cifar10-vgg16-adam-l2",
        "digits-adam-l2",
        "fashion-lenet5-adam-l2",
        "mnist-lenet300-adam-l2",
        "mnist-lenet5-adam-l2",
        "pendigits-mlp-adam-l2",
    }
    assert "adamw" in control_names()


def test_the_control_changes_the_optimizer_and_nothing_else() -> None:
    recipe, control = load_recipe("digits-adam-l2"), load_recipe("digits-adam-l2", control="adamw")
    assert control.optimizer is OptimizerName.ADAMW
    assert control.name == "digits-adam-l2-adamw"
    same = recipe.as_dict() | {"optimizer": "adamw", "name": control.name}
    assert control.as_dict() == same


def test_a_recipe_survives_its_own_yaml(tmp_path: Path) -> None:
    recipe = load_recipe("digits-adam-l2", {"seed": 7})
    file = tmp_path / "mine.yaml"
    _ = file.write_text(yaml.safe_dump(recipe.as_dict()))
    assert load_recipe(file) == load_recipe(str(file)) == recipe


def test_overrides_win_over_the_control_and_the_file() -> None:
    recipe = load_recipe("digits-adam-l2", {"optimizer": "sgd", "seed": 3}, control="adamw")
    assert (recipe.optimizer, recipe.seed) == (OptimizerName.SGD, 3)


def test_a_number_that_yaml_takes_for_text_is_a_number() -> None:
    assert load_recipe("digits-adam-l2", {"weight_decay": "1e-3"}).weight_decay == 1e-3


BAD: dict[str, tuple[dict[str, object], str]] = {
    "unknown key": ({"learnin_rate": 1}, r"unknown key 'learnin_rate'; did you mean 'learning_r"),
    "unknown key far off": ({"zzz": 1}, r"unknown key 'zzz'; known: name, data"),
    "unknown data": ({"data": "imagenet"}, r"data must be one of digits, .*, got 'imagenet'"),
    "unknown model": (
        {"model": "vgg"},
        "model must be one of basicnet, conv, deepmnist, lenet300, lenet5, mlp",
    ),
    "unknown optimizer": (
        {"optimizer": "lion"},
        "optimizer must be one of adadelta, adagrad, adam, adamw",
    ),
    "list as name of data": ({"data": ["digits"]}, "data must be a text"),
    "text as epochs": ({"epochs": "many"}, "epochs must be an integer, got 'many'"),
    "fraction as epochs": ({"epochs": 1.5}, "epochs must be an integer, got 1.5"),
    "true as epochs": ({"epochs": True}, "epochs must be an integer, got True"),
    "text as rate": ({"learning_rate": "fast"}, "learning_rate must be a number, got 'fast'"),
    "number as name": ({"name": 3}, "name must be a text, got 3"),
    "number as widths": ({"widths": 3}, "widths must be a list of numbers, got 3"),
    "one beta": ({"betas": [0.9]}, "betas must be a list of 2 numbers"),
    "no epochs": ({"epochs": 0}, "epochs must be at least 1, got 0"),
    "no batch": ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    "never a report": ({"report_every": 0}, "report_every must be at least 1"),
    "zero rate": ({"learning_rate": 0.0}, "learning_rate must be > 0 and finite, got 0.0"),
    "NaN rate": ({"learning_rate": float("nan")}, "learning_rate must be > 0 and finite, got nan"),
    "endless decay": ({"weight_decay": float("inf")}, "weight_decay must be >= 0 and finite"),
    "negative decay": ({"weight_decay": -0.1}, "weight_decay must be >= 0 and finite, got -0.1"),
    "negative momentum": ({"momentum": -1}, "momentum must be >= 0"),
    "beta of one": ({"betas": [0.9, 1.0]}, r"betas must be in \[0, 1\), got \[0.9, 1.0\]"),
    "falling drops": ({"drops": [0.8, 0.5]}, "drops must be rising shares"),
    "drop at the end": ({"drops": [1.0]}, "drops must be rising shares"),
    "drop upwards": ({"drop_factor": 2.0}, r"drop_factor must be in \(0, 1\], got 2.0"),
    "negative seed": ({"seed": -1}, r"seed must be in 0\.\."),
    "empty layer": ({"widths": [4, 0]}, "widths must be sizes >= 1"),
    "one convolution": ({"widths": [4]}, "widths must be two or more for conv"),
    "two hidden layers": ({"hidden": [4, 4]}, "hidden must be one size for conv"),
    "mlp with filters": ({"model": "mlp"}, "widths must be empty for mlp"),
    "mlp without layers": (
        {"model": "mlp", "widths": [], "hidden": []},
        "hidden must be one or more sizes for mlp",
    ),
    "lenet300 with filters": ({"model": "lenet300"}, "widths must be empty for lenet300"),
    "lenet300 with hidden": (
        {"model": "lenet300", "widths": []},
        "hidden must be empty for lenet300",
    ),
    "no such device": ({"device": "abacus"}, "device must be a device that torch knows"),
    "device without data": ({"device": "meta"}, r"device must be available here \(cpu"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_recipe_is_refused_with_key_rule_and_value(case: str) -> None:
    overrides, text = BAD[case]
    with pytest.raises(RecipeError, match=text):
        _ = load_recipe("digits-adam-l2", overrides)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(RecipeError, match="recipe x: the key 'data' is missing"):
        _ = recipe_from({"name": "x"})


def test_a_recipe_made_in_python_is_checked_too() -> None:
    with pytest.raises(RecipeError, match="epochs must be at least 1"):
        _ = Recipe(name="x", data=DataName.MNIST, model=ModelName.LENET300, epochs=0, batch_size=1)


def test_an_unknown_recipe_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(RecipeError, match=r"'digits-adam' \(did you mean digits-adam-l2\?\)"):
        _ = load_recipe("digits-adam")


def test_an_unknown_control_is_answered_with_the_known_ones() -> None:
    with pytest.raises(RecipeError, match="no control 'sgd': one of adamw"):
        _ = load_recipe("digits-adam-l2", control="sgd")


FILES = {
    "not YAML": (b"a: [1, 2", "not YAML"),
    "not text": (b"name: \x80", "not YAML"),
    "a list": (b"- 1\n- 2\n", "must be a mapping of keys to values, got list"),
    "empty": (b"", "must be a mapping of keys to values, got NoneType"),
    "numbers as keys": (b"1: 2\n", "must be a mapping"),
    "python objects": (b"name: !!python/object/apply:os.getcwd []\n", "not YAML"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_no_recipe_is_refused(case: str, tmp_path: Path) -> None:
    content, text = FILES[case]
    file = tmp_path / "bad.yaml"
    _ = file.write_bytes(content)
    with pytest.raises(RecipeError, match=text):
        _ = load_recipe(file)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(RecipeError, match=r"cannot read the recipe nowhere/x.yaml: No such file"):
        _ = load_recipe("nowhere/x.yaml")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "../esc", "a\\b", "a\nb", "\x1b[31m", "\ud800", "x" * 201]
)
def test_a_name_that_no_folder_or_report_could_have_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match="name must be 1 to 200 characters") as refused:
        _ = load_recipe("digits-adam-l2", {"name": name})
    assert str(refused.value).isprintable()


SLIPS = {
    "a date": "name: 2024-99-99",
    "no integer": "epochs: !!int abc",
    "no number": "learning_rate: !!float abc",
    "no time": "name: !!timestamp abc",
    "digits": "epochs: " + "9" * 5000,
    "a long hexadecimal": "epochs: 0x" + "f" * 5000,
    "a long integer as a number": "learning_rate: 1" + "0" * 400,
    "a key twice": "epochs: 1\nseed: 2\nepochs: 3",
    "an inner key twice": "model_args: {width: 1, width: 2}",
}


@pytest.mark.parametrize("case", SLIPS)
def test_a_slip_in_a_file_is_one_line(case: str, tmp_path: Path) -> None:
    path = tmp_path / "slip.yaml"
    _ = path.write_text(SLIPS[case])
    with pytest.raises(RecipeError, match=r"slip\.yaml: not YAML") as refused:
        _ = load_recipe(path)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 600


def test_a_merge_key_is_no_key_that_appears_twice() -> None:
    assert read_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}", "here")["b"] == {"x": 3, "y": 2}


def test_a_number_that_no_float_holds_is_refused() -> None:
    with pytest.raises(RecipeError, match="learning_rate must be a number, got a huge integer"):
        _ = load_recipe("digits-adam-l2", {"learning_rate": 10**400})


def test_a_recipe_made_in_python_takes_the_texts_of_choices() -> None:
    made = {
        "name": "r",
        "data": "digits",
        "model": "mlp",
        "hidden": (8,),
        "epochs": 1,
        "batch_size": 8,
    }
    texts = Recipe(**made, schedule="cosine", optimizer="sgd", augment="none")  # type: ignore[arg-type]
    choices = Recipe(**made, schedule=Schedule.COSINE, optimizer=OptimizerName.SGD)  # type: ignore[arg-type]
    assert texts == choices
    assert texts.schedule is Schedule.COSINE
    with pytest.raises(RecipeError, match=r"schedule must be one of cosine, drops, got 'cosinus'"):
        _ = Recipe(**made, schedule="cosinus")  # type: ignore[arg-type]
