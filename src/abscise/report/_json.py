"""The machine-readable form of a report: versioned JSON, which `report_from_json` reads back."""

import dataclasses
import json
import re
from collections.abc import Mapping

from abscise._certificate import Certificate
from abscise._environment import Environment
from abscise._errors import StoreError
from abscise._json import Fields, check_format, printable, read_fields
from abscise._measure import Measurement
from abscise.compaction import LayerSummary, layer_from_fields
from abscise.implicit import Firing, Record, Track, line_from_json
from abscise.report._data import Predictions, RemovalSummary, Report
from abscise.report._training import Training, TrainingPoint

FORMAT = 4

# A list of numbers over several lines, which no text holds: line breaks in texts are escaped.
_NUMBERS = re.compile(r"\[\n *[-+.\deE]+(?:,\n *[-+.\deE]+)*\n *\]")
_DERIVED = ("total", "comparison")


def to_json(report: Report) -> str:
    """The report as JSON text; unknown numbers are null, never left out.

    Control characters, as the names of layers may have, are written as escapes.
    """
    text = json.dumps(_escaped(_as_dict(report)), indent=1, allow_nan=False) + "\n"
    return _NUMBERS.sub(lambda found: " ".join(found[0].split()), text)


def report_from_json(value: object) -> Report:
    """The report that `value` describes, as `json.loads` or `parse_json` gives it.

    Raises:
        StoreError: A field is missing, unknown, of the wrong type, out of range, or contradicts
            another; the text names the field.
    """
    value = _of_today(value)
    check_format(value, FORMAT, "report", "make the report again", StoreError)
    names = ("format", *_names(Report), *_DERIVED)
    fields = read_fields(value, names, "report", StoreError)
    _ = fields.integer("format", FORMAT, FORMAT)
    try:
        report = _report(fields)
    except ValueError as problem:  # each field is possible, but not beside the others
        message = f"report: {problem}"
        raise StoreError(message) from problem
    whole = _as_dict(report)
    for name in _DERIVED:
        if fields.values[name] != whole[name]:
            fields.refuse(name, "what follows from the other fields")
    return report


def _of_today(value: object) -> object:
    """A report of format 2 or 3 as one of today: they did not know all that is told now."""
    if not isinstance(value, dict) or value.get("format") not in {2, 3}:
        return value
    added: dict[str, object] = {} if "tracking" in value else {"tracking": None}
    added |= {
        name: {**measured, "bytes_on_disk": None}
        for name in ("dense", "compacted")
        if value["format"] == 2
        and isinstance(measured := value.get(name), dict)
        and "bytes_on_disk" not in measured
    }
    return {**value, **added, "format": FORMAT}


def _as_dict(report: Report) -> dict[str, object]:
    certificate, training = report.certificate, report.training
    return {
        "format": FORMAT,
        "title": report.title,
        "removal": _plain(dataclasses.asdict(report.removal)),
        "total": _plain(dataclasses.asdict(report.total)),
        "comparison": {
            row.quantity: {"dense": row.dense, "compacted": row.compacted, "ratio": row.ratio}
            for row in report.comparisons()
        },
        "dense": report.dense and _plain(dataclasses.asdict(report.dense)),
        "compacted": report.compacted and _plain(dataclasses.asdict(report.compacted)),
        "certificate": certificate and certificate.to_json(),
        "predictions": report.predictions and dataclasses.asdict(report.predictions),
        "training": training and _plain(dataclasses.asdict(training)),
        "tracking": report.tracking and _track_as_dict(report.tracking),
        "environment": report.environment and _plain(dataclasses.asdict(report.environment)),
        "loading": list(report.loading),
    }


def _track_as_dict(track: Track) -> dict[str, object]:
    return {
        "weights": [it.to_json() for it in track.weights],
        "activity": [it.to_json() for it in track.activity],
    }


def _plain(value: object) -> object:
    """As JSON will give it back: lists for tuples, dicts for mappings."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _escaped(value: object) -> object:
    """`value` with printable texts and keys."""
    if isinstance(value, dict):
        return {printable(key): _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return printable(value) if isinstance(value, str) else value


def _report(fields: Fields) -> Report:
    return Report(
        title=fields.text("title"),
        removal=_removal(_inner(fields, "removal", RemovalSummary)),
        dense=fields.optional("dense", lambda name: _measurement(fields, name)),
        compacted=fields.optional("compacted", lambda name: _measurement(fields, name)),
        certificate=fields.optional(
            "certificate", lambda name: Certificate.from_json(fields.values[name])
        ),
        predictions=fields.optional("predictions", lambda name: _predictions(fields, name)),
        training=fields.optional("training", lambda name: _training(fields, name)),
        tracking=fields.optional("tracking", lambda name: _track(fields, name)),
        environment=fields.optional("environment", lambda name: _environment(fields, name)),
        loading=fields.texts("loading"),
    )


def _names(kind: type) -> tuple[str, ...]:
    return tuple(entry.name for entry in dataclasses.fields(kind))


def _inner(fields: Fields, name: str, kind: type) -> Fields:
    where = f"{fields.where}: {name}"
    return read_fields(fields.values[name], _names(kind), where, fields.error)


def _removal(fields: Fields) -> RemovalSummary:
    return RemovalSummary(
        layers=tuple(map(layer_from_fields, fields.objects("layers", _names(LayerSummary)))),
        pinned=_counts(fields, "pinned"),
        units=fields.integer("units"),
        pinned_units=fields.integer("pinned_units"),
        removed_units=fields.integer("removed_units"),
        near_dead=fields.integer("near_dead"),
        selecting_layers=fields.integer("selecting_layers"),
        dropped_inputs=fields.integer("dropped_inputs"),
        conditions=fields.texts("conditions"),
    )


def _measurement(outer: Fields, name: str) -> Measurement:
    fields = _inner(outer, name, Measurement)
    parameters = fields.integer("parameters")
    return Measurement(
        parameters=parameters,
        nonzero=fields.integer("nonzero", 0, parameters),
        subnormal=fields.integer("subnormal", 0, parameters),
        buffers=fields.integer("buffers"),
        size_bytes=fields.integer("size_bytes"),
        macs=fields.optional("macs", fields.integer),
        macs_uncounted=fields.texts("macs_uncounted"),
        batch=fields.integer("batch"),
        threads=fields.integer("threads", 1),
        latency_s=fields.optional("latency_s", fields.number),
        latency_spread=fields.optional("latency_spread", fields.number),
        latency_flushed_s=fields.optional("latency_flushed_s", fields.number),
        bytes_on_disk=fields.optional("bytes_on_disk", fields.integer),
    )


def _predictions(outer: Fields, name: str) -> Predictions:
    fields = _inner(outer, name, Predictions)
    return Predictions(
        dense=fields.number("dense", 0, 1),
        compacted=fields.number("compacted", 0, 1),
        changed=fields.integer("changed"),
        examples=fields.integer("examples", 1),
    )


def _training(outer: Fields, name: str) -> Training:
    fields = _inner(outer, name, Training)
    return Training(
        recipe=fields.text("recipe"),
        method=fields.text("method"),
        dataset=fields.text("dataset"),
        network=fields.text("network"),
        seed=fields.integer("seed", 0, 2**63 - 1),
        wall_s=fields.number("wall_s"),
        dying_below=fields.number("dying_below"),
        smooth=fields.boolean("smooth"),
        points=tuple(map(_point, fields.objects("points", _names(TrainingPoint)))),
    )


def _point(fields: Fields) -> TrainingPoint:
    layers = fields.mapping("layers")
    inner = Fields(layers, f"{fields.where}: layers", fields.error)
    return TrainingPoint(
        step=fields.integer("step", 1),
        epoch=fields.number("epoch"),
        loss=fields.number("loss", low=-1e300),
        accuracy=fields.number("accuracy", 0, 1),
        learning_rate=fields.number("learning_rate"),
        layers={layer: _dying(inner, layer) for layer in layers},
    )


def _track(outer: Fields, name: str) -> Track:
    fields = _inner(outer, name, Track)
    found = {
        kind: [
            line_from_json(item, f"{fields.where}: {kind}[{index}]", kind)
            for index, item in enumerate(fields.items(kind))
        ]
        for kind in _names(Track)
    }
    return Track(
        tuple(it for it in found["weights"] if isinstance(it, Record)),
        tuple(it for it in found["activity"] if isinstance(it, Firing)),
    )


def _dying(fields: Fields, layer: str) -> tuple[int, int]:
    _ = Fields({"layer": layer}, fields.where, fields.error).text("layer")
    pair = Fields({layer: fields.items(layer, 2)}, fields.where, fields.error).integers(layer)
    return pair[0], pair[1]


def _environment(outer: Fields, name: str) -> Environment:
    fields = _inner(outer, name, Environment)
    packages = fields.mapping("versions")
    inner = Fields(packages, f"{fields.where}: versions", fields.error)
    return Environment(
        device=fields.text("device"),
        threads=fields.integer("threads", 1),
        versions={package: inner.text(package) for package in packages},
        commit=fields.optional("commit", fields.text),
        date=fields.text("date"),
    )


def _counts(fields: Fields, name: str) -> dict[str, int]:
    found = fields.mapping(name)
    inner = Fields(found, f"{fields.where}: {name}", fields.error)
    for key in found:
        _ = Fields({"reason": key}, inner.where, fields.error).text("reason")
    return {key: inner.integer(key) for key in found}
