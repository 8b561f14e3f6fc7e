"""Reports for the tests of the page: everything there is to show, in any size."""

from collections.abc import Iterator
from dataclasses import replace

from abscise._certificate import Certificate, PlantedError
from abscise._environment import Environment
from abscise._measure import Measurement
from abscise.compaction import LayerSummary
from abscise.implicit import (
    DEAD,
    HISTOGRAM,
    Firing,
    LayerFiring,
    LayerRecord,
    Record,
    Track,
)
from abscise.implicit._firing import CURVE
from abscise.report import Predictions, RemovalSummary, Report, Training, TrainingPoint

PADDED = "carries the constants of removed units into conv2d.default in late (net.py:54 x = f(y))"


def names(count: int) -> list[str]:
    return [f"features.stage{i // 10}.block{i % 10}.conv" for i in range(count)]


def removal(layers: list[str]) -> RemovalSummary:
    """Every layer loses a share that grows with its depth; the last one is pinned."""
    rows = []
    for index, name in enumerate(layers):
        units = 16 * (1 + index % 7) ** 2
        last = index == len(layers) - 1
        removed = 0 if last else units * index // len(layers)
        reasons = ("output of the model",) if last else (PADDED,) * (index == 0)
        rows.append(LayerSummary(name, units, removed, units if last else 0, reasons))
    return RemovalSummary(
        layers=tuple(rows),
        pinned={"output of the model": sum(row.pinned for row in rows)},
        units=sum(row.units for row in rows),
        pinned_units=sum(row.pinned for row in rows),
        removed_units=sum(row.removed for row in rows),
        near_dead=12,
        selecting_layers=3,
        dropped_inputs=45,
        conditions=("rows > 1", "rows < 64"),
    )


def training(layers: list[str], points: int = 40) -> Training:
    """Units die later in early layers; the learning rate drops once, at two thirds."""

    def dying(index: int, point: int) -> tuple[int, int]:
        units = 16 * (1 + index % 7) ** 2
        return min(units, units * point * (1 + index) // (points * len(layers))), units

    return Training(
        recipe="tiny",
        method="adam, weight_decay 0.0015",
        dataset="digits",
        network="ConvNet",
        seed=3,
        wall_s=61.5,
        dying_below=1e-3,
        points=tuple(
            TrainingPoint(
                step=50 * (point + 1),
                epoch=0.5 * (point + 1),
                loss=2.3 / (1 + point**2),
                accuracy=1 - 0.9 / (1 + point),
                learning_rate=3e-3 if point < 2 * points // 3 else 6e-4,
                layers={name: dying(index, point) for index, name in enumerate(layers)},
            )
            for point in range(points)
        ),
    )


def certificate() -> Certificate:
    return Certificate(
        passed=True,
        inconclusive=False,
        reason="the outputs differ by 7.5e-07 of their spread (tolerance 1.3e-05)",
        dtype="float32",
        shapes=((360, 1, 8, 8),),
        inputs="the given inputs (360 samples)",
        versions={"torch": "2.13.0"},
        max_abs_diff=4.3e-6,
        max_rel_diff=7.5e-7,
        float64_rel_diff=6.6e-10,
        tolerance=1.3e-5,
        tolerance_from="20 x the dense model's own error",
        spread=1.2,
        planted_error=PlantedError(1.8, 0.3, ("classes.weight[6]",)),
        predictions_equal=True,
    )


def measurement(parameters: int) -> Measurement:
    return Measurement(
        parameters=parameters,
        nonzero=parameters - 2,
        subnormal=2,
        buffers=8,
        size_bytes=4 * parameters,
        macs=268 * parameters,
        macs_uncounted=(),
        batch=64,
        threads=1,
        latency_s=parameters * 1.6e-8,
        latency_spread=0.06,
        latency_flushed_s=parameters * 1.2e-8,
        bytes_on_disk=4 * parameters + 300,
    )


def track(layers: list[str], points: int = 12) -> Track:
    """Each layer has a norm; units die from the last layer on, and every third look sees them."""

    def weights(index: int, name: str, point: int) -> Iterator[LayerRecord]:
        units = 16 * (1 + index % 7) ** 2
        dead = units * point * (1 + index) // (points * len(layers))
        for suffix, scaled in (("", False), (".norm", True)):
            bins = [0] * (len(HISTOGRAM) + 1)
            bins[2], bins[12] = dead, units - dead
            yield LayerRecord(
                layer=name + suffix,
                units=units,
                scaled=scaled,
                dead={1e-2: dead, 1e-3: dead, 1e-6: dead // 2},
                revived=int(point == 3),
                histogram=tuple(bins),
                gradient_to_decay=None if point == 0 else 40.0 / point**2,
            )

    def firing(index: int, name: str, point: int) -> LayerFiring:
        units = 16 * (1 + index % 7) ** 2
        silent = units * point // points
        curve = [min(rank / 20, 1.0) for rank in range(min(units, CURVE))]
        return LayerFiring(name, units, silent, 0.25, tuple(curve), (1, 2, 0))

    return Track(
        tuple(
            Record(
                100 * (point + 1),
                tuple(it for i, name in enumerate(layers) for it in weights(i, name, point)),
                DEAD,
            )
            for point in range(points)
        ),
        tuple(
            Firing(
                100 * (point + 1),
                1257,
                0.5,
                tuple(firing(i, name, point) for i, name in enumerate(layers)),
            )
            for point in range(2, points, 3)
        ),
    )


def tracked_report(layers: list[str] | None = None) -> Report:
    """The whole report, with what a tracker saw."""
    found = names(5) if layers is None else layers
    return replace(whole_report(found), tracking=track(found))


def whole_report(layers: list[str] | None = None) -> Report:
    """Nothing is None and nothing empty, but for the tracker: see `tracked_report`."""
    found = names(5) if layers is None else layers
    return Report(
        removal=removal(found),
        dense=measurement(635_082),
        compacted=measurement(49_423),
        certificate=certificate(),
        predictions=Predictions(0.9833, 0.9833, 0, 360),
        training=training(found),
        environment=Environment("x86_64 CPU", 2, {"torch": "2.13.0"}, "0" * 40, "2026-01-31"),
        loading=("import abscise", "model = abscise.load('small', Net())"),
        title="tiny, seed 3",
    )
