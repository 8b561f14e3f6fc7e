"""`abscise demo` and `abscise train`: train, inspect, snap, compact, verify, measure, save."""

import copy
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import nn

import abscise
from abscise._environment import this_environment
from abscise._inputs import Inputs
from abscise.cli._options import DemoOptions, TrainOptions
from abscise.cli._removal import Destination, keep, measure_both, prove, snap
from abscise.cli._report import PAGE
from abscise.cli._run_folder import check_out, check_record, open_run, telling_how_to_go_on
from abscise.cli._settings import settings
from abscise.cli._tracking import RunTracker
from abscise.cli._training_report import training_of
from abscise.cli._training_view import TrainingView
from abscise.compaction import Compaction
from abscise.report import Predictions, Report, inspection_view, report_view, summary_of
from abscise.store import bytes_on_disk
from abscise.train import (
    Checkpoints,
    Data,
    Recipe,
    Split,
    Trained,
    data_for,
    finish_run,
    fit,
    load_recipe,
    make_loggers,
    predict,
    record_run,
    run_of,
)

DEMO_RECIPE = "digits-adam-l2"
THRESHOLD = 1e-3
TIMED_SAMPLES = 64
VERIFIED_SAMPLES = 1000


def run_demo(options: DemoOptions, console: Console) -> bool:
    """Train on scikit-learn's digits, remove what died, prove it, save it."""
    recipe = load_recipe(DEMO_RECIPE, {"seed": options.seed}, control=options.control)
    _ = check_out(options.out)
    console.print(f"abscise demo: recipe {recipe.name}, seed {recipe.seed}")
    data = data_for(recipe)
    tracker = RunTracker(recipe, data, None, console)
    trained = _train(recipe, data, console, attachments=[tracker.attach])
    loading = loading_lines(DEMO_RECIPE, {}, options.out)
    destination = Destination(options.out)
    report, compaction = _remove(trained, loading, destination, console)
    report = replace(report, tracking=tracker.track())
    proven = keep(compaction, destination, console, report)
    if proven:
        _show_loading(loading, options.out, console)
    return proven


def run_train(options: TrainOptions, console: Console) -> bool:
    """Train a recipe, remove what died, prove it; save it and record the run where asked to."""
    recipe = load_recipe(options.recipe, settings(options.set), control=options.control)
    check_record(options.record)
    opened = open_run(options)
    console.print(f"abscise train: recipe {recipe.name}, seed {recipe.seed}")
    loggers = [] if options.log is None else make_loggers(options.log, recipe.name)
    with telling_how_to_go_on(options, opened, console) as checkpoints:
        data = data_for(recipe, options.data_root)
        how: dict[str, Any] = {"checkpoints": checkpoints, "loggers": loggers}
        tracker = None
        if checkpoints is not None:  # without a folder nobody will see what it notes
            tracker = RunTracker(recipe, data, options.look_every, console, checkpoints)
            how["attachments"] = [tracker.attach]
        trained = _train(recipe, data, console, **how)
        return _finish(options, trained, checkpoints, tracker, console)


def _finish(
    options: TrainOptions,
    trained: Trained,
    checkpoints: Checkpoints | None,
    tracker: RunTracker | None,
    console: Console,
) -> bool:
    """Remove, prove, save, record; and only then note that the run is finished."""
    loading: tuple[str, ...] = ()
    if options.out is not None:
        loading = loading_lines(options.recipe, settings(options.set), options.out)
    destination = Destination(options.out, options.sparse)
    report, compaction = _remove(trained, loading, destination, console)
    report = replace(report, tracking=None if tracker is None else tracker.track())
    proven = keep(compaction, destination, console, report)
    if options.record is not None:
        _record(options.record, trained, report, options.out if proven else None)
        console.print(f"recorded in {options.record}")
    if proven and options.out is not None:
        if checkpoints is not None:
            finish_run(checkpoints.folder)
        _show_loading(loading, options.out, console)
    return proven


def _train(recipe: Recipe, data: Data, console: Console, **how: Any) -> Trained:
    """Train, showing how far it is."""
    with TrainingView(console) as view:
        trained = fit(recipe, data=data, observer=view.show, **how)
    if trained.resumed_at:
        console.print(f"resumed after step {trained.resumed_at:,}")
    console.print(f"trained in {trained.wall_s:.0f} s")
    return trained


def _remove(
    trained: Trained, loading: tuple[str, ...], destination: Destination, console: Console
) -> tuple[Report, Compaction]:
    """Inspect, snap, compact, verify and measure; print each step's result."""
    data = trained.data
    dense = trained.model.cpu()
    # The test set decides nothing: it only says, at the end, what both models predict.
    # Copies: a network may work in place.
    timed = Inputs((data.train.inputs[:TIMED_SAMPLES].clone(),))
    seen = Inputs((data.test.inputs[:VERIFIED_SAMPLES].clone(),))
    console.print(inspection_view(abscise.inspect(dense, timed, data=data.train.inputs)))
    # Snapping changes the function a little; what users compare with is the model they trained.
    snapped = copy.deepcopy(dense)
    snap(snapped, timed, THRESHOLD, console)
    compaction = prove(abscise.propose(snapped, timed), snapped, seen)
    before, after = measure_both(dense, compaction.model, timed, destination)
    report = Report(
        removal=summary_of(compaction.plan),
        dense=before,
        compacted=after,
        certificate=compaction.certificate,
        predictions=_predictions(dense, compaction.model, data.test),
        training=training_of(trained),
        environment=this_environment(trained.recipe.device),
        loading=loading,
        title=f"{trained.recipe.name}, seed {trained.recipe.seed}",
    )
    console.print(report_view(report))
    return report, compaction


def _predictions(dense: nn.Module, compacted: nn.Module, test: Split) -> Predictions:
    before, after = predict(dense, test.inputs), predict(compacted, test.inputs)
    return Predictions(
        dense=float((before == test.labels).double().mean()),
        compacted=float((after == test.labels).double().mean()),
        changed=int((before != after).sum()),
        examples=len(test),
    )


def loading_lines(recipe: str, changes: Mapping[str, object], out: Path) -> tuple[str, ...]:
    """The lines of Python that load the saved model again."""
    arguments = f"{recipe!r}, {changes!r}" if changes else repr(recipe)
    return (
        "import abscise",
        "from abscise.train import build_model, load_recipe",
        f"model = abscise.load({str(out)!r}, build_model(load_recipe({arguments})))",
    )


def _show_loading(lines: tuple[str, ...], out: Path, console: Console) -> None:
    page = out / PAGE
    if page.exists():
        console.print(f"the report is {page}")
    console.print("load it again with:")
    for line in lines:
        console.print(f"    {line}", soft_wrap=True)


def _record(path: Path, trained: Trained, report: Report, saved: Path | None) -> None:
    """Append the run, removed and certified, to a file of recorded runs."""
    removal, seen, certificate = report.removal, report.predictions, report.certificate
    assert report.dense is not None
    assert report.compacted is not None
    macs, batch = report.compacted.macs, report.compacted.batch
    run = replace(
        run_of(trained, path.stem),
        error_percent=None if seen is None else 100 * (1 - seen.compacted),
        nonzero=report.compacted.nonzero,
        units=removal.free_units,
        units_removed=removal.removed_units,
        macs=None if macs is None else macs // batch,
        bytes_on_disk=None if saved is None else bytes_on_disk(saved),
        notes={
            "dense": asdict(report.dense),
            "compacted": asdict(report.compacted),
            "predictions": None if seen is None else asdict(seen),
            "certificate": None if certificate is None else certificate.to_json(),
            "layers": [asdict(row) for row in report.layers],
        },
    )
    record_run(path, run)
