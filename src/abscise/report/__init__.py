"""What one removal did, as data, as text and as JSON."""

from abscise.report._data import Comparison, Predictions, Report
from abscise.report._inspection import inspection_view
from abscise.report._json import to_json
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

__all__ = [
    "Comparison",
    "Predictions",
    "Report",
    "certificate_line",
    "comparison_table",
    "inspection_view",
    "layer_table",
    "measurement_table",
    "plain",
    "plan_view",
    "report_view",
    "text",
    "to_json",
]
