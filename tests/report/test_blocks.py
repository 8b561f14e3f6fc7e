"""Tables fit terminals of any width: in blocks, with every number whole."""

import io
from typing import Any

import pytest
from rich.console import Console

from abscise.papers._outcome import Outcome, Table
from abscise.papers._report_files import view
from abscise.report import Blocks

WIDE = Table(
    "made",
    "How to read it.",
    (
        "trained with",
        "ranked by",
        "seeds",
        "test error, %",
        *(f"{it} %" for it in range(0, 91, 10)),
    ),
    (
        ("Adam + L2, ReLU, of some kind", "gamma", "3", "1.65 (1.59-1.68)", *["89.44 (79)"] * 10),
        ("SGD", "norm", "1", "1.44", *["7.25 (100)"] * 10),
    ),
    words=2,
)


def shown(table: Table, width: int, **options: Any) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(Blocks(table.header, table.rows, words=table.words, **options))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 52, 80, 81, 119, 200])
def test_no_number_is_cut_and_no_line_too_long(width: int) -> None:
    lines = shown(WIDE, width)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= width
    assert "…" not in text
    for row in WIDE.rows:
        for cell in row[WIDE.words :]:
            assert text.count(cell) >= row.count(cell)
    assert text.split().count("seeds") == 1
    for word in ("Adam", "+", "L2,", "ReLU,", "of", "some", "kind"):
        assert word in text


def test_blocks_repeat_the_words_and_no_number() -> None:
    lines = shown(WIDE, 80)
    blocks = "\n".join(lines).split("\n\n")
    assert len(blocks) > 1
    for block in blocks:
        assert "gamma" in block
        assert "norm" in block
    assert "\n".join(lines).count("1.65 (1.59-1.68)") == 1


def test_a_wide_terminal_has_one_block() -> None:
    lines = shown(WIDE, 250)
    assert len(lines) == 3
    assert lines[1].split()[:2] == ["Adam", "+"]


def test_a_terminal_too_narrow_for_one_number_breaks_it_and_leaves_nothing_out() -> None:
    shown_text = "".join("".join(shown(WIDE, 12)).split())
    for digit in "0123456789":
        wanted = sum(cell.count(digit) for row in WIDE.rows for cell in row[WIDE.words :])
        assert shown_text.count(digit) >= wanted


@pytest.mark.parametrize("width", [24, 40, 60, 81])
def test_long_words_give_way_to_numbers(width: int) -> None:
    rows = (("features.a_long_name.of_a_layer.conv", "ranked_by_something_else", "1.65 (1.5)"),)
    table = Table("t", "", ("one", "two", "n"), rows, words=2)
    text = "\n".join(shown(table, width))
    assert "1.65 (1.5)" in text
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize(
    ("header", "rows", "words"),
    [((), (), 0), (("a",), (), 2), (("a",), (("b", "c"),), 1), (("a",), (), -1)],
)
def test_what_is_no_table_is_refused(
    header: tuple[str, ...], rows: tuple[tuple[str, ...], ...], words: int
) -> None:
    with pytest.raises(ValueError, match="column"):
        _ = Blocks(header, rows, words=words)


def test_a_table_of_words_only_is_shown() -> None:
    table = Table("words", "", ("one", "two"), (("a b c", "d"),), words=2)
    assert [line.split() for line in shown(table, 60)] == [["one", "two"], ["a", "b", "c", "d"]]


def test_a_note_that_was_just_read_is_not_repeated() -> None:
    outcome = Outcome("title", "source", (), (WIDE, WIDE), (), ())
    console = Console(file=io.StringIO(), width=80)
    console.print(view(outcome))
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().count(WIDE.note) == 1
    assert console.file.getvalue().count("made") == 2


@pytest.mark.parametrize("width", [30, 50, 80, 200])
def test_a_total_is_in_every_block_and_a_line_below_every_header(width: int) -> None:
    total = ("total", "", "4", "1.5", *["1,234,567"] * 10)
    lines = shown(WIDE, width, total=total, ruled=True, least=10)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= width
    assert text.count("1,234,567") == 10
    assert text.count("total") == sum(set(line) == {"\u2500"} for line in lines)
