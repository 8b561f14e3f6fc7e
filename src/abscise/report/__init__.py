"""What one removal did, as data: read it as text, as JSON that is read back, or as an HTML page."""

from abscise.report._bars import Bar, BarRow
from abscise.report._blocks import Blocks
from abscise.report._data import Comparison, Predictions, RemovalSummary, Report, summary_of
from abscise.report._diagnosis import diagnosis_view
from abscise.report._inspection import inspection_view
from abscise.report._json import report_from_json, to_json
from abscise.report._page import to_html
from abscise.report._pareto import ParetoCurve, ParetoPanel, ParetoRow, ParetoSpot
from abscise.report._sweep_page import bars_picture, sweep_page, sweep_picture
from abscise.report._text import (
    certificate_line,
    comparison_table,
    layer_table,
    measurement_table,
    plain,
    plan_view,
    report_view,
    text,
)
from abscise.report._training import Training, TrainingPoint

__all__ = [
    "Bar",
    "BarRow",
    "Blocks",
    "Comparison",
    "ParetoCurve",
    "ParetoPanel",
    "ParetoRow",
    "ParetoSpot",
    "Predictions",
    "RemovalSummary",
    "Report",
    "Training",
    "TrainingPoint",
    "bars_picture",
    "certificate_line",
    "comparison_table",
    "diagnosis_view",
    "inspection_view",
    "layer_table",
    "measurement_table",
    "plain",
    "plan_view",
    "report_from_json",
    "report_view",
    "summary_of",
    "sweep_page",
    "sweep_picture",
    "text",
    "to_html",
    "to_json",
]
