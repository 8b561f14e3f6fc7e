"""Bars show their values and ranges, on the page and alone, and no text gets out of its place."""

import re
from xml.etree import ElementTree as ET

import pytest

from abscise.report import Bar, BarRow, bars_picture, sweep_page
from abscise.report.figures import draw_bars


def row(title: str = "digits", value: float = 30.0, low: float = 25.0) -> BarRow:
    bars = (
        Bar("ReLU", 7, value, (low, value), main=True),
        Bar("tanh", 2, 0.0, (0.0, 0.0)),
    )
    return BarRow(title, "units below 0.001", bars)


def classes(drawn: str) -> list[str]:
    return [it.attrib["class"] for it in ET.fromstring(drawn).iter() if "class" in it.attrib]


def lengths(drawn: str) -> list[float]:
    """Of each bar."""
    found = []
    for item in ET.fromstring(drawn).iter():
        if item.attrib.get("class", "").endswith("mark"):
            path = next(it.attrib["d"] for it in item.iter() if "d" in it.attrib)
            across = [float(x) for x, _ in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)]
            found.append(max(across) - min(across))
    return found


@pytest.mark.parametrize("width", [348, 880])
def test_a_bar_is_as_long_as_its_value(width: int) -> None:
    long, none = lengths(draw_bars((row(value=60.0),), width))
    assert lengths(draw_bars((row(value=30.0),), width))[0] == pytest.approx(long / 2, abs=0.1)
    assert 0 < none <= 1  # a value of 0 is a stroke, and not left out
    assert lengths(draw_bars((row(value=100.0),), width))[0] < width


def test_a_range_is_drawn_where_there_is_one() -> None:
    assert classes(draw_bars((row(),), 880)).count("method-7 main curve") == 1
    assert "method-7 main curve" not in classes(draw_bars((row(low=30.0),), 880))
    assert "method-2 main curve" not in classes(draw_bars((row(),), 880))


def test_the_values_are_written_and_the_main_one_stands_out() -> None:
    groups = [it for it in ET.fromstring(draw_bars((row(),), 880)).iter() if it.tag == "g"]
    texts = {text.text: it.attrib.get("class") for it in groups for text in it.iter("text")}
    assert (texts["30.0"], texts["0.0"]) == ("legend main", "legend")
    assert texts["units below 0.001, %"] == "axis"


def test_the_picture_stands_alone_and_the_page_has_it_in_two_widths() -> None:
    alone = bars_picture((row(), row("other")))
    assert ET.fromstring(alone).tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme: dark" in alone
    page = sweep_page("t", (), (), (), (), (row("of bars"),))
    assert page.count(">of bars<") == 2
    assert ">of bars<" not in sweep_page("t", (), (), ())


def test_hostile_texts_are_text() -> None:
    named = row("</svg><script>alert(1)</script>$x^2$")
    assert "<script>" not in bars_picture((named,)) + sweep_page("t", (), (), (), (), (named,))
    assert "&lt;/svg&gt;&lt;script&gt;" in bars_picture((named,))


@pytest.mark.parametrize(
    "wrong", [(1.0, (2.0, 3.0)), (101.0, (0.0, 101.0)), (float("nan"), (0, 1))]
)
def test_a_value_outside_its_range_or_of_percents_is_refused(
    wrong: tuple[float, tuple[float, float]],
) -> None:
    with pytest.raises(ValueError, match=r"must be in its range, in 0\.\.100"):
        _ = Bar("b", 0, *wrong)
    assert Bar("b", 0, 1.0, (0.0, 2.0)).value == 1.0


def test_colours_and_bars_have_to_be_there() -> None:
    with pytest.raises(ValueError, match=r"colour must be in 0\.\.9, got 10"):
        _ = Bar("b", 10, 1.0, (1.0, 1.0))
    with pytest.raises(ValueError, match="must have one at least"):
        _ = BarRow("t", "a", ())


@pytest.mark.parametrize("width", [348, 880])
@pytest.mark.parametrize("letters", [4, 20, 33, 60])
def test_a_name_does_not_lie_on_a_bar(width: int, letters: int) -> None:
    name = "m" * letters
    bars = (Bar(name, 2, 100.0, (100.0, 100.0)), Bar("b", 3, 100.0, (100.0, 100.0)))
    root = ET.fromstring(draw_bars((BarRow("t", "a", bars),), width))
    marks = [it for it in root.iter() if it.attrib.get("class", "").endswith("mark")]
    corners = re.findall(r"(-?[\d.]+) (-?[\d.]+)", ET.tostring(marks[0], encoding="unicode"))
    left, top = min(float(x) for x, _ in corners), min(float(y) for _, y in corners)
    (text,) = (it for it in root.iter("text") if set(it.text or "") <= {"m", "…"} and it.text)
    assert 6.0 * len(text.text or "") <= width
    where = re.search(r"translate\((-?[\d.]+) (-?[\d.]+)\)", text.attrib.get("transform", ""))
    base = float(where[2]) if where else float(text.attrib["y"])
    beside = left >= 6.0 * letters  # an m of 12 pixels is at most as wide as that in mono
    assert beside or base < top
    assert (letters < 20) <= beside
