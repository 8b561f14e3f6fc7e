"""The Pareto pictures show every spot that they should, and no text gets out of its place."""

import itertools
import re
from xml.etree import ElementTree as ET

import pytest
from matplotlib.font_manager import FontProperties, findfont, get_font

from abscise._errors import MissingExtraError
from abscise.report import (
    ParetoCurve,
    ParetoPanel,
    ParetoRow,
    ParetoSpot,
    _extra,
    sweep_page,
    sweep_picture,
)
from abscise.report.figures import draw_paretos


def spot(x: float, y: float) -> ParetoSpot:
    return ParetoSpot(x, y, (0.9 * x, x), (y, y + 0.1))


def row(title: str = "digits", highest: float = 6.0) -> ParetoRow:
    curves = tuple(
        ParetoCurve(f"method {index}", index, (spot(0.5, 2.0 + index / 10), spot(0.05, 5.0)))
        for index in range(9)
    )
    main = ParetoCurve("ours", 9, (spot(0.1, 2.0), spot(0.01, 9.0)), main=True)
    panel = ParetoPanel("weights", (*curves, main), (2.0, (1.9, 2.1)), highest)
    return ParetoRow(title, (panel, panel))


def classes(drawn: str) -> list[str]:
    return [it.attrib["class"] for it in ET.fromstring(drawn).iter() if "class" in it.attrib]


@pytest.mark.parametrize("width", [348, 880])
def test_every_spot_within_the_limit_has_a_mark(width: int) -> None:
    found = classes(draw_paretos((row(),), width))
    marks = [it for it in found if it.endswith("mark")]
    legend = 10
    assert len(marks) == legend + 2 * (9 * 2 + 1)
    assert sum("curve" in it for it in found) == 2 * 10
    assert sum("dense-line" in it for it in found) == 2


def test_a_higher_limit_shows_the_spot_that_was_too_high() -> None:
    drawn, hidden = row(highest=10.0), row()
    assert [panel.hidden for panel in (*drawn.panels, *hidden.panels)] == [0, 0, 1, 1]
    shown = classes(draw_paretos((drawn,), 880))
    assert len([it for it in shown if it.endswith("mark")]) == 10 + 2 * (9 * 2 + 2)


def test_the_main_curve_is_drawn_last_and_marked() -> None:
    curves = [it for it in classes(draw_paretos((row(),), 880)) if "curve" in it]
    assert [it for it in curves if "main" in it] == 2 * ["method-9 main curve"]
    assert "main" in curves[9]


def test_the_picture_stands_alone_for_light_and_for_dark() -> None:
    drawn = sweep_picture((row(), row("other")))
    root = ET.fromstring(drawn)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme: dark" in drawn
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", drawn)
    for colour in range(10):
        assert f".method-{colour} path" in drawn
        assert len(re.findall(rf"--m{colour}: #", drawn)) == 2


def test_hostile_texts_are_text() -> None:
    named = row("</svg><script>alert(1)</script>$x^2$")
    table = ("<b>t", "<i>n", ("<u>a",), (("<s>1",),), 1)
    page = sweep_page("<title>", ("<p>lead",), (named,), (table,), (table,))
    assert "<script>" not in sweep_picture((named,)) + page
    assert "&lt;/svg&gt;&lt;script&gt;" in page
    for tag in ("<b>t", "<i>n", "<u>a", "<s>1", "<p>lead"):
        assert tag not in page
        assert tag.replace("<", "&lt;").replace(">", "&gt;") in page


def test_the_page_says_how_many_points_are_not_drawn() -> None:
    assert "1 points with a test error above 6.0 %" in sweep_page("t", (), (row(),), ())
    assert "not drawn" not in sweep_page("t", (), (row(highest=10.0),), ())


def test_a_page_without_spots_is_drawn() -> None:
    empty = ParetoRow("nothing", (ParetoPanel("weights", (), None, 1.0),))
    assert "nothing" in sweep_page("t", (), (empty,), ())


@pytest.mark.parametrize(
    "wrong",
    [
        (0.5, 2.0, (0.6, 0.7), (2.0, 2.0)),
        (0.5, 2.0, (0.5, 0.5), (1.0, 1.5)),
        (float("nan"), 2.0, (0.5, 0.5), (2.0, 2.0)),
        (-1.0, 2.0, (-1.0, 0.5), (2.0, 2.0)),
    ],
)
def test_a_spot_outside_its_range_is_refused(
    wrong: tuple[float, float, tuple[float, float], tuple[float, float]],
) -> None:
    with pytest.raises(ValueError, match="a spot's"):
        _ = ParetoSpot(*wrong)


def test_a_colour_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match=r"colour must be in 0\.\.9, got 10"):
        _ = ParetoCurve("x", 10, ())


def test_without_the_extra_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_extra, "PACKAGES", ("no_such_package",))
    with pytest.raises(MissingExtraError, match=r"pip install 'abscise\[report\]'"):
        _ = sweep_page("t", (), (), ())
    with pytest.raises(MissingExtraError, match=r"pip install 'abscise\[report\]'"):
        _ = sweep_picture((row(),))


@pytest.mark.parametrize("width", [348, 880])
def test_names_in_the_legend_end_before_the_next_begins(width: int) -> None:
    names = ["Adam L2 1e-4, by gamma", "WWWWWWWWWWWW", "illilli", "Adam without L2, by norm"]
    curves = tuple(
        ParetoCurve(name, index, (spot(0.1, 2.0),), main=index < 2)
        for index, name in enumerate(names)
    )
    panel = ParetoPanel("weights", curves, (2.0, (1.9, 2.1)), 6.0)
    drawn = ET.fromstring(draw_paretos((ParetoRow("digits", (panel,)),), width))
    entries = []
    for group in drawn.iter():
        if group.attrib.get("class", "").startswith("legend"):
            (text,) = group
            weight = "bold" if "main" in group.attrib["class"] else "normal"
            font = get_font(findfont(FontProperties(family="DejaVu Sans", weight=weight)))
            font.set_size(12, 72)
            font.set_text(str(text.text))
            left, top = float(text.attrib["x"]), float(text.attrib["y"])
            entries.append((top, left, left + font.get_width_height()[0] / 64))
    assert len(entries) == len(names)
    mark = 16  # before the name
    for (top, _, end), (below, left, _) in itertools.pairwise(sorted(entries)):
        assert below > top or left - mark > end
