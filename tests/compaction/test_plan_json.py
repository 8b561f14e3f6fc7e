"""Plan JSON: written and read back; every kind of edited or hostile plan is refused by field."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abscise._errors import PlanError, StoreError
from abscise._json import parse_json
from abscise.compaction._plan import (
    Attribute,
    AxisEdit,
    Fold,
    GroupedEdit,
    LayerSummary,
    Plan,
    Removal,
)
from abscise.compaction._plan_json import plan_from_json, plan_to_json


def plan() -> Plan:
    return Plan(
        fingerprint="ab12",
        inputs={"args": [{"shape": [1, 3, 8, 8], "dtype": "float32"}], "kwargs": {}},
        removals=(Removal(3, "conv1", 1, "unread"), Removal(4, "conv1", 2, "constant")),
        edits=(AxisEdit("conv1.weight", 0, 4, (1, 2)), AxisEdit("conv1.bias", 0, 4, (1, 2))),
        grouped=(GroupedEdit("conv2.weight", 2, 2, ((0,), None)),),
        folds=(Fold("conv2", "new_bias", "conv2.bias"),),
        attributes=(Attribute("conv1", "out_channels", 2),),
        layers=(LayerSummary("conv1", 4, 2, 1, ("output",)),),
        pinned={"output": 1},
        units=4,
        pinned_units=1,
        near_dead=7,
    )


def test_reading_what_was_written_gives_the_same() -> None:
    assert plan_from_json(json.loads(json.dumps(plan_to_json(plan())))) == plan()


names = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=20)
indices = st.sets(st.integers(0, 30), max_size=20).map(lambda found: tuple(sorted(found)))


@given(
    st.lists(st.tuples(names, st.integers(0, 7), indices), unique_by=lambda row: row[:2]),
    st.lists(st.tuples(names, st.lists(st.none() | indices, min_size=1, max_size=4))),
    st.dictionaries(names, st.integers(0, 100)),
)
def test_every_plan_survives_the_round_trip(
    edits: list[tuple[str, int, tuple[int, ...]]],
    grouped: list[tuple[str, list[tuple[int, ...] | None]]],
    pinned: dict[str, int],
) -> None:
    made = Plan(
        fingerprint="f",
        inputs={},
        removals=(),
        edits=tuple(
            AxisEdit(name, axis, 31, removed) for name, axis, removed in edits if axis != 1
        ),
        grouped=tuple(
            GroupedEdit(name, 1 + len(removed), 31, (*removed, ()))
            for name, removed in dict(grouped).items()
        ),
        folds=(),
        attributes=(),
        layers=(),
        pinned=pinned,
        units=5,
        pinned_units=5,
    )
    assert plan_from_json(json.loads(json.dumps(plan_to_json(made)))) == made


Path = tuple[str | int, ...]

EDITS: list[tuple[Path, Any, str]] = [
    (("format",), 1, "plan: format must be 2, got 1: it was written by another version"),
    (("format",), "1", "format must be 2, got '1'"),
    (("format",), True, "format must be 2, got True"),
    (("fingerprint",), 3, "fingerprint must be a text"),
    (("fingerprint",), "", "fingerprint must be a name"),
    (("fingerprint",), "a" * 20_000, "fingerprint must be a text of at most"),
    (("inputs",), [], "inputs must be an object"),
    (("removals",), {}, "removals must be a list"),
    (("removals", 0), 3, "removals[0]: must be an object with fields, got 3"),
    (("removals", 0), {"unit": 1}, "removals[0]: missing fields"),
    (("removals", 0, "unit"), -1, "unit must be an integer from 0"),
    (("removals", 0, "unit"), 4, "removals must be one entry per unit"),
    (("removals", 0, "unit"), 1.0, "unit must be an integer"),
    (("removals", 0, "why"), "because", "why must be one of unread, constant, got 'because'"),
    (("removals", 0, "layer"), "a\nb", "layer must be a text without control characters"),
    (("edits", 0, "name"), "", "name must be a name of 1 to 1000 characters"),
    (("edits", 0, "name"), ["x"], "name must be a text"),
    (("edits", 0, "axis"), -1, "axis must be an integer from 0 to 7, got -1"),
    (("edits", 0, "axis"), 8, "axis must be an integer from 0 to 7"),
    (("edits", 0, "size"), 0, "size must be an integer from 1"),
    (("edits", 0, "size"), 10**400, "size must be an integer from 1 to 2147483648, got a huge"),
    (("edits", 0, "removed"), [1, 4], "removed must be an integer from 0 to 3, got 4"),
    (("edits", 0, "removed"), [-1], "removed must be an integer from 0 to 3, got -1"),
    (("edits", 0, "removed"), [1, 1], "removed must be ascending, each index once"),
    (("edits", 0, "removed"), [2, 1], "removed must be ascending, each index once"),
    (("edits", 0, "removed"), [0, 1, 2, 3], "removed must be fewer than all 4 indices"),
    (("edits", 0, "removed"), [True], "removed must be an integer"),
    (("edits", 0, "removed"), [1.5], "removed must be an integer"),
    (("edits", 0, "removed"), "12", "removed must be a list"),
    (("edits", 1, "name"), "conv1.weight", "edits must be at most one per axis"),
    (("grouped", 0, "groups"), 10**9, "removed must be a list of 1000000000 items"),
    (("grouped", 0, "removed"), [None, None], "removed must be fewer than all 2 groups"),
    (("grouped", 0, "removed"), [[0, 1], None], "null, or fewer than all 2 offsets"),
    (("grouped", 0, "removed"), [[2], None], "removed must be an integer from 0 to 1"),
    (("grouped", 0, "removed"), [[0]], "removed must be a list of 2 items"),
    (("folds", 0, "into"), "weight", "into must be one of bias, running_mean"),
    (("attributes", 0, "name"), "__class__", "name must be the public name of a size"),
    (("attributes", 0, "name"), "a.b", "name must be the public name of a size"),
    (("attributes", 0, "value"), -3, "value must be an integer from 0"),
    (("attributes", 0, "value"), "os", "value must be an integer"),
    (("layers", 0, "removed"), 5, "removed must be an integer from 0 to 4"),
    (("layers", 0, "reasons"), [1], "reasons must be a text"),
    (("layers", 0, "reasons"), None, "reasons must be a list"),
    (("pinned",), [1], "pinned must be an object"),
    (("pinned", "output"), -1, "output must be an integer"),
    (("units",), 2, "units must be at least the pinned and the removed ones together"),
    (("near_dead",), None, "near_dead must be an integer"),
    (("command",), "rm", "unknown fields"),
]


def edited(path: Path, value: Any) -> Any:
    found = copy.deepcopy(plan_to_json(plan()))
    place: Any = found
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return found


@pytest.mark.parametrize(("path", "value", "message"), EDITS)
def test_an_edited_plan_is_refused_by_field(path: Path, value: Any, message: str) -> None:
    with pytest.raises(PlanError, match=r"^plan: ") as error:
        _ = plan_from_json(edited(path, value))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("value", [None, 1, "plan", [], {}])
def test_what_is_no_plan_is_refused(value: Any) -> None:
    with pytest.raises(PlanError, match=r"^plan: "):
        _ = plan_from_json(value)


def test_deep_nesting_is_refused() -> None:
    deep: Any = 0
    for _ in range(900):
        deep = [deep]
    with pytest.raises(PlanError, match="inputs must be nested at most 20 deep"):
        _ = plan_from_json(edited(("inputs",), {"args": deep}))


TEXTS: list[tuple[bytes, str]] = [
    (b"", "not valid JSON"),
    (b'{"format": 1', "not valid JSON"),
    (b'{"a": NaN}', "NaN is not JSON"),
    (b'{"a": -Infinity}', "-Infinity is not JSON"),
    (b'{"a": 1, "a": 2}', "a key appears twice"),
    (b"\xff\xfe", "not valid JSON"),
    (b"[" * 100_000, "nested too deeply"),
    (b"1" * 5000, "not valid JSON"),
    (b"{} {}", "not valid JSON"),
]


@pytest.mark.parametrize(("text", "message"), TEXTS)
def test_text_that_is_no_json_of_ours_is_refused(text: bytes, message: str) -> None:
    with pytest.raises(StoreError, match=r"^plan\.json: ") as error:
        _ = parse_json(text, "plan.json", StoreError)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
