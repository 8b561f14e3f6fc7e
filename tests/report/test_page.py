"""The page is one file that needs nothing else, whatever the report holds."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from typing_extensions import override

from abscise._errors import MissingExtraError
from abscise.compaction import LayerSummary
from abscise.report import RemovalSummary, Report, _extra, to_html
from abscise.report._words import verdict
from support.reporting import certificate, names, whole_report

VOID = {"meta", "link", "br"}


class Page(HTMLParser):
    """Tags, attributes and text; a tag that is not closed, or twice the same id, is an error."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []
        ids = [value for name, value in self.attributes if name == "id"]
        assert len(ids) == len(set(ids))

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    @override
    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    @override
    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    @override
    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


HOSTILE = [
    '<script>alert("x")</script>',
    "{{ 7 * 7 }}{% for %}",
    "$\\frac{1}{2}$ & \"quotes' </svg></style>-->",
    "слой.第一层.レイヤー.😀",
    "\u202egnp.exe",
    "text3",
    "a" * 3000,
]


@pytest.mark.parametrize(
    "layers", [1, 150, *(pytest.param(count, marks=pytest.mark.slow) for count in (700, 3000))]
)
def test_the_page_is_one_small_file_without_script_or_network(layers: int) -> None:
    source = to_html(whole_report(names(layers)))
    assert len(source.encode()) < 2_000_000
    page = Page(source)
    assert {"script", "iframe", "object", "embed", "base", "form", "img", "image"}.isdisjoint(
        page.tags
    )
    links = [value for name, value in page.attributes if name in {"href", "src", "xlink:href"}]
    assert links == ["data:,"]
    assert not re.search(r"https?:|//\w|@import|url\(", source)
    assert not any(name.startswith("on") for name, _ in page.attributes)


def test_every_section_is_there_and_says_what_it_holds() -> None:
    page = Page(to_html(whole_report()))
    for words in (
        "predictions changed",
        "Before and after",
        "The network",
        "from input to output",
        "How units died",
        "Loss and accuracy",
        "Certificate PASSED:",
        "7.5×10⁻⁷ of the outputs’ spread",
        "classes.weight[6]",
        "at least 23,077× the tolerance",
        "Pinned, and why",
        "output of the model",
        "Dead or nearly dead, and kept",
        "carries the constants of removed units",
        "12 more units are nearly dead",
        "Latency",
        "One forward of 64 samples on 1 thread.",
        "Load the model",
        "model = abscise.load('small', Net())",
        "Environment",
        "0" * 40,
        "635,082 → 49,423",
        "the learning rate drops from 0.003 to 0.0006 by step 1,350",
    ):
        assert words in page.text


def test_layers_that_are_too_many_to_draw_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abscise.report._sections.DRAWN_LAYERS", 4)
    monkeypatch.setattr("abscise.report._sections.LISTED_ROWS", 5)
    page = Page(to_html(whole_report(names(7))))
    assert page.text.count("The last 3 of 7 layers are not drawn; report.json has them.") == 2
    assert "The last 2 of 7 layers are not listed; report.json has them." in page.text
    assert [name for name in names(7) if name in page.text] == names(7)[:5]
    assert "not drawn" not in Page(to_html(whole_report(names(4)))).text


def test_a_smooth_schedule_has_no_drops_however_far_apart_the_looks_are() -> None:
    whole = whole_report()
    assert whole.training is not None
    smooth = replace(whole, training=replace(whole.training, smooth=True))
    assert "Dashed lines" in Page(to_html(whole)).text
    assert "Dashed lines" not in Page(to_html(smooth)).text
    assert to_html(whole).count('class="drop') > to_html(smooth).count('class="drop') == 0


BARE = Report(removal=RemovalSummary((), {}, 0, 0, 0))


def test_sections_without_data_are_left_out() -> None:
    page = Page(to_html(BARE))
    headings = page.tags.count("h2")
    assert headings == 1  # units, before and after
    assert "svg" not in page.tags


SECTIONS = [
    ({"training": None}, "How units died"),
    ({"certificate": None}, "Certificate"),
    ({"environment": None}, "Environment"),
    ({"loading": ()}, "Load the model"),
    ({"dense": None, "compacted": None}, "Latency"),
]


@pytest.mark.parametrize(("absent", "words"), SECTIONS, ids=[row[1] for row in SECTIONS])
def test_a_section_goes_with_its_data(absent: dict[str, object], words: str) -> None:
    whole = whole_report()
    assert words in Page(to_html(whole)).text
    assert words not in Page(to_html(replace(whole, **absent))).text  # type: ignore[arg-type]


def test_training_without_points_or_layers_still_makes_a_page() -> None:
    whole = whole_report()
    assert whole.training is not None
    silent = Page(to_html(replace(whole, training=replace(whole.training, points=()))))
    assert "ConvNet on digits" in silent.text
    one = replace(whole.training, points=whole.training.points[:1])
    assert "How units died" in Page(to_html(replace(whole, training=one))).text
    flat = tuple(
        replace(point, layers={}, loss=0.0, accuracy=1.0) for point in whole.training.points
    )
    page = Page(to_html(replace(whole, training=replace(whole.training, points=flat))))
    assert "How units died" not in page.text
    assert "Loss and accuracy" in page.text


def test_nothing_from_a_report_is_taken_for_markup_or_mathematics() -> None:
    report = replace(whole_report(HOSTILE), title="<b>bold</b> {{ title }}", loading=tuple(HOSTILE))
    page = Page(to_html(report))
    assert {"script", "b"}.isdisjoint(page.tags)
    assert page.tags.count("style") == 1
    for name in HOSTILE:
        assert " ".join(name.split()) in page.text
    assert "49" not in re.findall(r"\{\{ (\S+) \}\}", page.text)


def test_names_in_figures_are_whole_or_end_like_the_layer() -> None:
    source = to_html(whole_report(["short", "a" * 300 + ".tail", "out"]))
    drawn = re.findall(r'<g class="name"><text[^>]*>([^<]*)</text>', source)
    assert set(drawn) >= {"short", "out"}
    shortened = [name for name in drawn if name.endswith(".tail")]
    assert len(shortened) == 4  # two figures, wide and narrow
    assert all(name.startswith("…") and len(name) < 60 for name in shortened)


def test_the_network_is_drawn_to_scale() -> None:
    rows = (LayerSummary("a", 100, 75, 0, ()), LayerSummary("b", 50, 0, 50, ("output",)))
    removal = RemovalSummary(rows, {"output": 50}, 150, 50, 75)
    source = to_html(Report(removal=removal))
    wide = source.split('<div class="wide">')[1].split("</svg>")[0]
    widths = {
        role: [
            float(right) - float(left)
            for left, right in re.findall(r"M ([\d.]+) \S+ L ([\d.]+)", path)
        ]
        for role, path in re.findall(r'<g class="(dense|kept|pinned)"><path d="([^"]+)"', wide)
    }
    assert widths["dense"][0] == pytest.approx(2 * widths["dense"][1], rel=0.01)
    assert widths["kept"][0] == pytest.approx(widths["dense"][0] / 4, rel=0.01)
    assert widths["pinned"] == pytest.approx(widths["dense"][1:])


def test_two_pages_of_one_report_are_equal() -> None:
    assert to_html(whole_report()) == to_html(whole_report())


def test_a_users_matplotlib_style_changes_nothing_and_stays() -> None:
    mpl = pytest.importorskip("matplotlib")
    plain = to_html(whole_report())
    with mpl.rc_context({"font.size": 40, "lines.linewidth": 9, "axes.grid": True}):
        assert to_html(whole_report()) == plain
        assert mpl.rcParams["font.size"] == 40


def test_a_model_without_subnormals_has_no_second_time_and_says_why() -> None:
    whole = whole_report()
    assert whole.compacted is not None
    clean = replace(whole.compacted, subnormal=0, latency_flushed_s=None)
    assert "7.62 ms no subnormals" in Page(to_html(replace(whole, compacted=clean))).text
    both = replace(whole, dense=clean, compacted=clean)
    assert "subnormals" not in Page(to_html(both)).text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "units are gone, and all 360 predictions are the same."),
        ({"predictions": None}, "and the outputs are the same."),
        ({"certificate": None}, "and nobody has compared the outputs."),
        (
            {"certificate": replace(certificate(), passed=False)},
            "but the outputs are not the same.",
        ),
        (
            {"certificate": replace(certificate(), passed=False, inconclusive=True)},
            "it could not be shown that the outputs are the same.",
        ),
        ({"removal": RemovalSummary((), {}, 9, 2, 0)}, "Nothing was removed: none of the 7 units"),
    ],
)
def test_the_verdict_claims_no_more_than_was_shown(change: dict[str, object], words: str) -> None:
    assert words in verdict(replace(whole_report(), **change))  # type: ignore[arg-type]


def test_changed_predictions_are_named() -> None:
    whole = whole_report()
    assert whole.predictions is not None
    changed = replace(whole, predictions=replace(whole.predictions, changed=3))
    assert "3 of 360 predictions changed." in verdict(changed)


def test_a_missing_extra_is_one_line_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_extra, "PACKAGES", ("no_such_package",))
    with pytest.raises(MissingExtraError, match=r"pip install 'abscise\[report\]'") as found:
        _ = to_html(whole_report())
    assert "\n" not in str(found.value)
