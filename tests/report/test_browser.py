"""In a real browser: nothing is requested, nothing overflows, everything can be read.

Needs Debian's chromium (`apt-get install chromium`), driven by playwright, which brings no browser.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from abscise.report import Report, to_html
from support.reporting import names, tracked_report, whole_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
LONG = "backbone." * 12 + "conv"
REPORTS = {
    "small": whole_report(),
    "150 layers": whole_report(names(150)),
    "hostile names": whole_report(
        ['<script>document.title = "run"</script>', LONG, "слой.第一层", "{{ 7 * 7 }}", "out"]
    ),
    "tracked": tracked_report(),
    "30 tracked": tracked_report(names(30)),
    "bare": Report(removal=whole_report().removal),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    found = {}
    for index, (name, report) in enumerate(REPORTS.items()):
        found[name] = folder / f"{index}.html"
        _ = found[name].write_text(to_html(report), encoding="utf-8")
    return found


def visit(browser: Browser, path: Path, width: int = 1100, scheme: str = "light") -> Page:
    """The page, which must load without a message on the console and without a request."""
    problems: list[str] = []

    def note(message: ConsoleMessage) -> None:
        problems.append(message.text)

    page = browser.new_page(viewport={"width": width, "height": 800})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.on("console", note)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: problems.append(request.url))
    _ = page.goto(path.as_uri())
    page.wait_for_load_state("networkidle")
    assert problems == [path.as_uri()]
    return page


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize(
    "width",
    [
        320,
        pytest.param(380, marks=pytest.mark.thorough),
        pytest.param(700, marks=pytest.mark.thorough),
        1100,
    ],
)
def test_nothing_is_wider_than_the_screen(
    browser: Browser, pages: dict[str, Path], name: str, width: int
) -> None:
    page = visit(browser, pages[name], width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # What is wider scrolls inside a box of its own; nothing else sticks out.
    outside = page.evaluate(
        """width => [...document.body.querySelectorAll("*")].filter(it =>
             !it.closest(".scroll, pre, .unseen")
             && it.getBoundingClientRect().right > width + 0.5).map(it => it.outerHTML)""",
        width,
    )
    assert outside == []
    page.close()


@pytest.mark.parametrize("width", [380, 1100])
def test_the_text_of_every_figure_can_be_seen(
    browser: Browser, pages: dict[str, Path], width: int
) -> None:
    page = visit(browser, pages["small"], width)
    texts = page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll("figure")].map(it => [it.id,
             [...it.querySelectorAll("text")].filter(it => it.getBoundingClientRect().width > 0)
               .map(it => it.textContent)]))"""
    )
    layer = names(5)[2]
    assert set(texts) == {"network", "dying", "curves"}
    assert {layer, "87 of 144 kept", "all 400 kept"} <= set(texts["network"])
    assert {layer, "step 0", "none", "all dying"} <= set(texts["dying"])
    assert any(text.startswith("84 of 144") for text in texts["dying"])
    assert {"loss of the last batch", "accuracy on the validation part, %", "rate 0.0006"} <= set(
        texts["curves"]
    )
    page.close()


@pytest.mark.parametrize("width", [380, 1100])
def test_the_text_of_the_trackers_figures_can_be_seen(
    browser: Browser, pages: dict[str, Path], width: int
) -> None:
    page = visit(browser, pages["tracked"], width)
    texts = page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll("figure")].map(it => [it.id,
             [...it.querySelectorAll("text")].filter(it => it.getBoundingClientRect().width > 0)
               .map(it => it.textContent)]))"""
    )
    assert set(texts) == {"network", "evidence", "sizes", "selectivity", "ratios", "curves"}
    assert {names(5)[2], "step 0", "none", "all dead", "79", "132"} <= set(texts["evidence"])
    assert {"by gamma, 23 of 64 dead", "10"} <= set(texts["sizes"])
    assert {"mean 0.25, 58 of 64 silent", "least", "most"} <= set(texts["selectivity"])
    assert "0.33 at the end" in texts["ratios"]
    page.close()


def test_texts_in_figures_do_not_cover_each_other(browser: Browser, pages: dict[str, Path]) -> None:
    for name in ("small", "150 layers", "tracked", "30 tracked"):
        for width in (380, 1100):
            page = visit(browser, pages[name], width)
            covered = page.evaluate(
                """() => [...document.querySelectorAll("figure svg")].flatMap(svg => {
                     const seen = [...svg.querySelectorAll("text")]
                       .map(it => [it.textContent, it.getBoundingClientRect()])
                       .filter(([_, box]) => box.width > 0);
                     return seen.flatMap(([a, p], i) => seen.slice(i + 1).filter(([_, q]) =>
                       p.left < q.right - 1 && q.left < p.right - 1
                       && p.top < q.bottom - 4 && q.top < p.bottom - 4)
                       .map(([b]) => a + " / " + b)); })"""
            )
            assert covered == []
            page.close()


def test_dark_and_light_differ_and_both_can_be_read(
    browser: Browser, pages: dict[str, Path]
) -> None:
    shots = {}
    for scheme in ("light", "dark"):
        page = visit(browser, pages["tracked"], scheme=scheme)
        contrast = page.evaluate(
            """() => {
                 const light = color => { const [r, g, b] = color.match(/[\\d.]+/g).map(v => {
                   v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
                   return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
                 const paper = light(getComputedStyle(document.body).backgroundColor);
                 const ratio = v => (Math.max(v, paper) + 0.05) / (Math.min(v, paper) + 0.05);
                 return [
                   ...[...document.querySelectorAll("h1, p, strong, td, th, dt, dd, summary")]
                     .map(it => ratio(light(getComputedStyle(it).color))),
                   ...[...document.querySelectorAll("svg g")]
                     .filter(it => it.querySelector("text"))
                     .map(it => ratio(light(getComputedStyle(it).fill)))]; }"""
        )
        assert min(contrast) >= 4.5  # WCAG AA
        shots[scheme] = page.screenshot()
        page.close()
    assert shots["light"] != shots["dark"]


def test_paper_is_white_in_both_schemes_and_shows_the_wide_figures(
    browser: Browser, pages: dict[str, Path]
) -> None:
    for scheme in ("light", "dark"):
        page = visit(browser, pages["small"], width=380, scheme=scheme)
        page.emulate_media(media="print")
        look = page.evaluate(
            """() => [getComputedStyle(document.body).backgroundColor,
                      ...[".wide", ".narrow"].map(it =>
                        getComputedStyle(document.querySelector(it)).display)]"""
        )
        assert look == ["rgb(255, 255, 255)", "block", "none"]
        assert page.pdf(format="A4").startswith(b"%PDF")
        page.close()


def test_no_name_is_run_as_code(browser: Browser, pages: dict[str, Path]) -> None:
    page = visit(browser, pages["hostile names"])
    assert page.title() == "tiny, seed 3 · abscise report"
    assert "{{ 7 * 7 }}" in page.inner_text("body")
    page.close()


def test_headings_and_tables_have_an_order_that_can_be_heard(
    browser: Browser, pages: dict[str, Path]
) -> None:
    page = visit(browser, pages["small"])
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(it => it.tagName)")
    assert levels[0] == "H1"
    assert set(levels[1:]) == {"H2"}
    assert page.evaluate("document.documentElement.lang") == "en"
    unlabelled = page.evaluate(
        """() => [...document.querySelectorAll("th:not([scope]), svg:not([aria-label])")].length"""
    )
    assert unlabelled == 0
    page.close()
