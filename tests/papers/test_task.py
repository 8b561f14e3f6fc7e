"""A task has a key that tells it from all others, and comes back from JSON as it was."""

from dataclasses import replace
from typing import Any

import pytest

from abscise._errors import RecipeError, StoreError
from abscise.papers import Choice, Task, chosen_names, task_from_json
from support.papering import task_of

CHANGES: list[dict[str, object]] = [
    {"experiment": "other"},
    {"method": "sgl"},
    {"dataset": "mnist"},
    {"network": "lenet300"},
    {"strength": None},
    {"strength": 2.0},
    {"seed": 1},
    {"epochs": 5},
    {"limit": 10},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_change_of_any_field_changes_the_key(change: dict[str, object]) -> None:
    changed = replace(task_of(), **change)  # type: ignore[arg-type]
    assert changed.key != task_of().key
    assert changed.digest != task_of().digest


def test_the_key_is_the_same_for_ever() -> None:
    assert task_of(0.001).key == "made/l1/pendigits/mlp/strength=0.001/seed=0/epochs=4"
    assert task_of(0.001).digest == "741422e80a36d3a1"


def test_a_strength_of_zero_has_one_key_whatever_its_sign() -> None:
    assert (
        task_of(-0.0).key
        == task_of(0.0).key
        == "made/l1/pendigits/mlp/strength=0.0/seed=0/epochs=4"
    )
    assert task_of(5e-324).key != task_of(0.0).key


@pytest.mark.parametrize(
    ("twice", "once"),
    [
        ({"seeds": (0, 1, 0)}, {"seeds": (0, 1)}),
        ({"strengths": (0.0, -0.0)}, {"strengths": (0.0,)}),
    ],
)
def test_a_run_that_is_asked_for_twice_is_refused(twice: Any, once: Any) -> None:
    with pytest.raises(RecipeError, match=f"{next(iter(twice))} must be different, got"):
        _ = Choice(**twice)
    assert Choice(**once) != Choice()


@pytest.mark.parametrize("task", [task_of(), task_of(None), task_of(limit=7)], ids=str)
def test_a_task_comes_back_from_json(task: Task) -> None:
    assert task_from_json(task.to_json(), "here") == task


@pytest.mark.parametrize(
    "change",
    [
        {"seed": -1},
        {"seed": True},
        {"epochs": 0},
        {"strength": "much"},
        {"strength": -1.0},
        {"method": ""},
        {"more": 1},
    ],
    ids=str,
)
def test_an_edited_task_is_refused_by_the_name_of_its_field(change: dict[str, object]) -> None:
    with pytest.raises(StoreError, match=f"here.*{next(iter(change))}"):
        _ = task_from_json(task_of().to_json() | change, "here")


@pytest.mark.parametrize("change", [{"seed": -1}, {"epochs": 0}, {"strength": -1.0}], ids=str)
def test_an_impossible_task_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        _ = task_of(**change)  # type: ignore[arg-type]


def test_names_are_chosen_in_the_experiments_order() -> None:
    assert chosen_names(("b", "a"), ("a", "b", "c"), "letter") == ("a", "b")
    assert chosen_names((), ("a", "b"), "letter") == ("a", "b")


def test_an_unknown_name_is_told_with_the_nearest_one() -> None:
    with pytest.raises(RecipeError, match=r"no letter 'alhpa'.*did you mean alpha.*alpha, beta"):
        _ = chosen_names(("alhpa",), ("alpha", "beta"), "letter")


@pytest.mark.parametrize(
    "wrong", [{"seeds": (-1,)}, {"strengths": (float("nan"),)}, {"epochs": -1}, {"limit": -1}]
)
def test_an_impossible_choice_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match=next(iter(wrong))):
        _ = Choice(**wrong)  # type: ignore[arg-type]
