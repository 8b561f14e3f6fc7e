"""A sweep as one HTML page, and its picture as a file of its own: no script, no network."""

import re
from collections.abc import Sequence
from importlib.resources import files

from abscise.report._bars import BarRow
from abscise.report._extra import require_extra
from abscise.report._page import NARROW, WIDE
from abscise.report._pareto import ParetoRow

_MARGIN = 16

Tabulated = tuple[str, str, tuple[str, ...], tuple[tuple[str, ...], ...], int]
"""Title, note, header, rows, and how many columns from the left are words."""


def sweep_page(
    title: str,
    lead: Sequence[str],
    pictures: tuple[ParetoRow, ...],
    tables: Sequence[Tabulated],
    details: Sequence[Tabulated] = (),
    bars: tuple[BarRow, ...] = (),
) -> str:
    """The whole page; every text is escaped.

    Args:
        title: Of the page.
        lead: Paragraphs above the pictures.
        pictures: Error against what is left.
        tables: Below them.
        details: Further ones, folded.
        bars: Below the pictures.

    Raises:
        MissingExtraError: jinja2 or matplotlib is not installed.
    """
    require_extra()
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415  optional packages
    from markupsafe import Markup  # noqa: PLC0415

    from abscise.report.figures import draw_bars, draw_paretos  # noqa: PLC0415

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_file("sweep.html.jinja")).render(
        title=title,
        lead=lead,
        pictures=[
            (
                " ".join(_unseen(row)),
                Markup(draw_paretos((row,), WIDE)),  # noqa: S704  escaped by the drawing
                Markup(draw_paretos((row,), NARROW)),  # noqa: S704
            )
            for row in pictures
        ]
        + [
            (
                "",
                Markup(draw_bars((row,), WIDE)),  # noqa: S704  escaped by the drawing
                Markup(draw_bars((row,), NARROW)),  # noqa: S704
            )
            for row in bars
        ],
        tables=tables,
        details=details,
        style=Markup(_file("style.css") + _file("methods.css")),  # noqa: S704  our own files
    )


def sweep_picture(pictures: tuple[ParetoRow, ...], width: int = WIDE) -> str:
    """All pictures as one SVG file that has its own colours, for light and for dark pages.

    Raises:
        MissingExtraError: matplotlib or jinja2 is not installed.
    """
    require_extra()
    from abscise.report.figures import draw_paretos  # noqa: PLC0415

    return _alone(draw_paretos(pictures, width))


def bars_picture(bars: tuple[BarRow, ...], width: int = WIDE) -> str:
    """All bars as one SVG file of the same kind; at least one row.

    Raises:
        MissingExtraError: matplotlib or jinja2 is not installed.
    """
    require_extra()
    from abscise.report.figures import draw_bars  # noqa: PLC0415

    return _alone(draw_bars(bars, width))


def _alone(drawn: str) -> str:
    """A drawing with a margin and a stylesheet of its own."""
    head, _, rest = drawn.partition(">")
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', head)
    assert found is not None
    wide, high = (float(side) + 2 * _MARGIN for side in found.groups())
    outer = f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide:g}" height="{high:g}"'
    box = f'viewBox="-{_MARGIN} -{_MARGIN} {wide:g} {high:g}"'
    head = head.replace("<svg", outer, 1).replace(found[0], box)
    return f"{head}><style>{_file('picture.css')}{_file('methods.css')}</style>{rest}\n"


def _unseen(row: ParetoRow) -> list[str]:
    """What a picture leaves out."""
    hidden = max((panel.hidden for panel in row.panels), default=0)
    if not hidden:
        return []
    highest = row.panels[0].highest
    return [f"{hidden} points with a test error above {highest:.1f} % are not drawn."]


def _file(name: str) -> str:
    return (files("abscise.report") / "page" / name).read_text("utf-8")
