"""The report as one HTML page: no script, no network, one file for screens, phones and paper."""

from dataclasses import replace
from importlib.resources import files

from abscise.report import _sections, _tracking_page, _words
from abscise.report._data import Report
from abscise.report._extra import require_extra
from abscise.report._training import Training

WIDE, NARROW = 880, 348
"""Widths of the two drawings of each figure, in CSS pixels; the stylesheet shows one of them."""


def to_html(report: Report) -> str:
    """The whole page; everything that comes from the report is escaped.

    Raises:
        MissingExtraError: jinja2 or matplotlib is not installed.
    """
    require_extra()
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415  optional packages
    from markupsafe import Markup  # noqa: PLC0415

    room = files("abscise.report") / "page"
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"powers": _words.powers, "percent": _words.percent}
    page = environment.from_string((room / "report.html.jinja").read_text("utf-8"))
    return page.render(
        report=report,
        style=Markup((room / "style.css").read_text("utf-8")),  # noqa: S704  our own file
        verdict=_words.verdict(report),
        figures={
            name: [Markup(drawn) for drawn in both]  # noqa: S704  escaped by the drawing
            for name, both in _figures(report).items()
        },
        say=_sections,
        tracked=_tracking_page,
        selected_line=_words.selected_line,
        conditions_line=_words.conditions_line,
        status=_words.status,
    )


def _figures(report: Report) -> dict[str, list[str]]:
    """Name -> the wide and the narrow drawing; a figure without data is left out."""
    from abscise.report.figures import draw_curves, draw_dying, draw_network  # noqa: PLC0415

    found: dict[str, list[str]] = {}
    widths = (WIDE, NARROW)
    rows = report.layers[: _sections.DRAWN_LAYERS]
    if any(row.units for row in rows):
        found["network"] = [draw_network(rows, width) for width in widths]
    if report.tracking is not None:
        found |= _tracking_page.tracking_figures(report.tracking, widths)
    how = None if report.training is None else _first_layers(report.training)
    if how is not None and how.points:
        # The tracker's maps show the same and more.
        layers = how.points[-1].layers if "evidence" not in found else {}
        if any(units for _, units in layers.values()):
            found["dying"] = [draw_dying(how, width) for width in widths]
        if len(how.points) > 1:
            found["curves"] = [draw_curves(how, width) for width in widths]
    return found


def _first_layers(how: Training) -> Training:
    """`how` with the layers that are drawn."""
    most = _sections.DRAWN_LAYERS
    points = [replace(it, layers=dict(list(it.layers.items())[:most])) for it in how.points]
    return replace(how, points=tuple(points))
