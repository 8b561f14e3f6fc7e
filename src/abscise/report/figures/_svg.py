"""From a matplotlib figure to inline SVG whose colours, fonts and texts are the page's own."""

import io
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from unicodedata import east_asian_width
from xml.etree import ElementTree as ET

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator

_ROLE = "role:"
_TOKEN = re.compile(r"^text(\d+)$")
_KEPT_STYLE = re.compile(r"(text-anchor: \w+|font-size: [\d.]+px)")
_FONT = re.compile(r"font: (?:[\w ]*? )?([\d.]+px) [^;]+")
NAME_WIDTH = 0.61
"""Of a character of the monospaced font that names are set in, in font sizes."""


Corners = tuple[float, float, float, float]
"""Left, top, right, bottom, in the units of the axes."""


@dataclass(slots=True)
class Drawing:
    """One figure under construction; lengths are CSS pixels.

    Texts that come from users never reach matplotlib, which would look for mathematics and glyphs
    in them: it draws a token, which is replaced at the end.
    """

    width: float
    height: float
    figure: Figure = field(init=False)
    texts: list[str] = field(init=False, default_factory=list)
    boxes: dict[tuple[Axes, str], list[Corners]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """72 dots per inch: a point is a pixel."""
        self.figure = Figure(figsize=(self.width / 72, self.height / 72), dpi=72, frameon=False)

    def canvas(self) -> Axes:
        """Axes over the whole figure, in pixels from the upper left corner, without a frame."""
        axes = self.figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set(xlim=(0, self.width), ylim=(self.height, 0))
        return axes

    def panel(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes with that frame, in pixels from the upper left corner."""
        w, h = self.width, self.height
        axes = self.figure.add_axes((left / w, 1 - (top + height) / h, width / w, height / h))
        axes.patch.set_visible(False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.tick_params(left=False, bottom=False)
        return axes

    def text(
        self, axes: Axes, at: tuple[float, float], words: str, role: str, **style: object
    ) -> None:
        """`words` with their baseline at `at`; `style` as for `Axes.text`."""
        drawn = axes.text(*at, f"text{len(self.texts)}", **style)  # type: ignore[arg-type]
        drawn.set_gid(_ROLE + role)
        self.texts.append(words)

    def box(self, axes: Axes, corners: Corners, role: str) -> None:
        """A rectangle. All of a role are one path, roles in the order of their first box."""
        self.boxes.setdefault((axes, role), []).append(corners)

    def polygon(self, axes: Axes, corners: list[tuple[float, float]], role: str) -> None:
        """A filled shape with these corners."""
        codes = [Path.MOVETO, *[Path.LINETO] * (len(corners) - 1), Path.CLOSEPOLY]
        patch = axes.add_patch(PathPatch(Path([*corners, corners[0]], codes), clip_on=False))
        patch.set_gid(_ROLE + role)

    def svg(self, label: str) -> str:
        """The drawing as one SVG element that screen readers announce as `label`."""
        for (axes, role), boxes in self.boxes.items():
            _ = axes.add_patch(_filled(boxes, role))
        for axes in self.figure.axes:
            _name_ticks(axes)
        written = io.StringIO()
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "abscise"}):
            self.figure.savefig(written, format="svg", metadata={"Date": None})
        drawn = ET.fromstring(written.getvalue())  # noqa: S314  our own drawing
        root = ET.Element("svg", viewBox=f"0 0 {self.width:g} {self.height:g}", role="img")
        root.set("aria-label", label)
        for child in drawn:
            root.extend(_cleaned(child, self._word))
        return ET.tostring(root, encoding="unicode")

    def _word(self, token: str) -> str:
        found = _TOKEN.match(token)
        return token if found is None else self.texts[int(found[1])]


@contextmanager
def plain_style() -> Iterator[None]:
    """Matplotlib's own defaults, whatever the user's style files say; put back afterwards."""
    with mpl.rc_context():
        mpl.rcdefaults()
        yield


def _filled(boxes: list[Corners], role: str) -> PathPatch:
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    corners = [
        corner
        for left, top, right, bottom in boxes
        for corner in ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))
    ]
    patch = PathPatch(Path(corners, codes * len(boxes)), clip_on=False)
    patch.set_gid(_ROLE + role)
    return patch


def line(axes: Axes, x: list[float], y: list[float], role: str) -> None:
    """A line through all points."""
    (drawn,) = axes.plot(x, y, clip_on=False)
    drawn.set_gid(_ROLE + role)


def time_axis(axes: Axes, steps: float, *, narrow: bool) -> None:
    """From step 0 to the last one; the labels at the ends stay inside."""
    found = MaxNLocator(nbins=3 if narrow else 6, integer=True).tick_values(0, steps)
    ticks = [tick for tick in found if 0 <= tick <= steps]
    axes.set_xticks(ticks, ["step 0", *(f"{tick:,.0f}" for tick in ticks[1:])])
    axes.tick_params(labelsize=11, pad=5)
    labels = axes.get_xticklabels()
    labels[0].set_horizontalalignment("left")
    if ticks[-1] > 0.95 * steps:
        labels[-1].set_horizontalalignment("right")


def shortened(name: str, width: float, font_size: float) -> str:
    """`name` in at most `width` pixels of the monospaced font: its end tells layers apart."""
    room = max(int(width / (NAME_WIDTH * font_size)), 2)
    if sum(map(_columns, name)) <= room:
        return name
    kept, used = "", 1
    for character in reversed(name):
        used += _columns(character)
        if used > room:
            break
        kept = character + kept
    return "…" + kept


def column(texts: Iterable[str], font_size: float, most: float) -> float:
    """Width of a column that holds all `texts` and a gap, in pixels; at most `most`."""
    longest = max((sum(map(_columns, words)) for words in texts), default=0)
    return min(NAME_WIDTH * font_size * longest + 20, most)


def _columns(character: str) -> int:
    return 2 if east_asian_width(character) in "WF" else 1


def _name_ticks(axes: Axes) -> None:
    for axis in (axes.xaxis, axes.yaxis):
        for tick in axis.get_major_ticks():
            tick.label1.set_gid(_ROLE + "tick")
            tick.gridline.set_gid(_ROLE + "grid")


def _cleaned(element: ET.Element, word: Callable[[str], str]) -> Iterator[ET.Element]:
    """`element` without what the page has itself: metadata, ids, clip paths, colours, fonts."""
    tag = element.tag.rpartition("}")[2]
    if tag in {"metadata", "defs"}:
        return
    clean = ET.Element(tag, _attributes(element, tag))
    text = (element.text or "").strip()
    clean.text = word(text) if text else None
    for child in element:
        clean.extend(_cleaned(child, word))
    if tag == "g" and not clean.attrib:
        yield from clean  # a group that says nothing
    else:
        yield clean


def _attributes(element: ET.Element, tag: str) -> dict[str, str]:
    """Geometry, and the role as a class."""
    found = {}
    for name, value in element.attrib.items():
        if name == "id" and value.startswith(_ROLE):
            found["class"] = value.removeprefix(_ROLE)
        elif name == "d":
            found[name] = _rounded(value)
        elif name == "style" and tag == "text":
            found[name] = "; ".join(_KEPT_STYLE.findall(_FONT.sub(r"font-size: \1", value)))
        elif name in {"x", "y"}:
            found[name] = value
    return found


def _rounded(path: str) -> str:
    """Hundredths of a pixel are enough, in one line."""
    shorter = re.sub(
        r"-?\d+\.\d+", lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), path
    )
    return " ".join(shorter.split())
