"""The printed inspection adds up, fits 60 columns and explains its marks."""

import re
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from abscise._inspect import ACTIVATIONS, SCALES, Inspection, LayerInspection
from abscise.compaction import Plan
from abscise.report import inspection_view, plain

COUNTS = st.integers(0, 10**5)
EMPTY = Plan(
    fingerprint="f",
    inputs={},
    removals=(),
    edits=(),
    grouped=(),
    folds=(),
    attributes=(),
    layers=(),
    pinned={},
    units=0,
    pinned_units=0,
)


@st.composite
def layers(draw: st.DrawFn, *, data: bool = True) -> LayerInspection:
    return LayerInspection(
        layer=draw(st.text("abcdefgh.0123456789_", min_size=1, max_size=50)),
        units=draw(COUNTS),
        removable=draw(COUNTS),
        zero_rows=draw(COUNTS),
        small={threshold: draw(COUNTS) for threshold in SCALES},
        scaled=draw(st.booleans()),
        silent={threshold: draw(COUNTS) for threshold in ACTIVATIONS} if data else None,
        subnormal=draw(COUNTS),
        saves=draw(COUNTS),
        stray_zeros=draw(COUNTS),
    )


def inspection(rows: list[LayerInspection], samples: int | None = 64) -> Inspection:
    return Inspection(tuple(rows), EMPTY, 10**6, samples)


def tables(printed: str) -> list[list[list[int]]]:
    """The numbers of each printed table: its rows, the total last."""
    found: list[list[list[int]]] = []
    for line in printed.splitlines():
        if line.startswith("layer"):
            found.append([])
        elif re.match(r"row\d|total", line):
            cells = re.findall(r"(?<=\s)[\d,]+(?=\s|$)", line)
            found[-1].append([int(cell.replace(",", "")) for cell in cells])
    return found


@settings(max_examples=30, deadline=None)
@given(st.lists(layers(), min_size=1, max_size=5))
def test_both_tables_add_up_to_their_totals(rows: list[LayerInspection]) -> None:
    named = [replace(row, layer=f"row{i}") for i, row in enumerate(rows)]
    printed = tables(plain(inspection_view(inspection(named)), width=120))
    assert [len(table[0]) for table in printed] == [5, 4 + len(ACTIVATIONS)]
    for *body, total in printed:
        assert len(body) == len(rows)
        assert [sum(column) for column in zip(*body, strict=True)] == total


@settings(max_examples=30, deadline=None)
@given(st.lists(layers(), min_size=1, max_size=5))
def test_no_line_of_an_inspection_is_wider_than_60_columns(rows: list[LayerInspection]) -> None:
    lines = plain(inspection_view(inspection(rows)), width=60).splitlines()
    assert max(map(len, lines)) <= 60
    assert all("…" not in line for line in lines)


@settings(max_examples=30, deadline=None)
@given(layers(data=False))
def test_without_data_nothing_is_said_about_activations(row: LayerInspection) -> None:
    assert "silent" not in plain(inspection_view(inspection([row], samples=None)))


@settings(max_examples=30, deadline=None)
@given(layers())
def test_a_layer_without_a_norm_is_marked_and_the_mark_explained(row: LayerInspection) -> None:
    printed = plain(inspection_view(inspection([row])))
    assert ("* by its incoming rows" in printed) is not row.scaled
    assert (" *" in printed.split("* by its")[0]) is not row.scaled


def test_subnormal_weights_are_warned_of() -> None:
    calm = LayerInspection(
        layer="a",
        units=1,
        removable=0,
        zero_rows=0,
        small=dict.fromkeys(SCALES, 0),
        scaled=True,
        silent=None,
        subnormal=0,
        saves=0,
    )
    assert "slower" not in plain(inspection_view(inspection([calm], None)))
    assert "slower" in plain(inspection_view(inspection([replace(calm, subnormal=1)], None)))
