"""The machine-readable form of a report: versioned JSON, written by the caller."""

import dataclasses
import json

from abscise.report._data import Report

FORMAT = 1


def to_json(report: Report) -> str:
    """The report as JSON text; unknown numbers are null, never left out."""
    content = {
        "format": FORMAT,
        "layers": [dataclasses.asdict(row) for row in report.layers],
        "total": dataclasses.asdict(report.total),
        "pinned": dict(report.plan.pinned),
        "near_dead": report.plan.near_dead,
        "comparison": {
            row.quantity: {"dense": row.dense, "compacted": row.compacted, "ratio": row.ratio}
            for row in report.comparisons()
        },
        "dense": dataclasses.asdict(report.dense),
        "compacted": dataclasses.asdict(report.compacted),
        "certificate": report.certificate and report.certificate.to_json(),
        "predictions": report.predictions and dataclasses.asdict(report.predictions),
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"
